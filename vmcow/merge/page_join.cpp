#include "vmcow/merge/page_join.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vmcow/image/byte_mask.hpp"

namespace vmcow {
namespace {

/// Copies the bytes of a block whose bits are set in `mask`.
void copy_masked(std::byte* to, const std::byte* from, std::uint64_t mask) noexcept {
    while (mask != 0) {
        const auto first = static_cast<std::size_t>(std::countr_zero(mask));
        const auto count = static_cast<std::size_t>(std::countr_one(mask >> first));
        std::memcpy(to + first, from + first, count);
        mask &= ~mask_of(first, first + count);
    }
}

}  // namespace

/// `kMaskedBytes` bytes of the page that is joined.
struct PageJoin::Block {
    std::uint64_t offset;                     // of the block, in the image
    std::size_t at;                           // of the block, in the page
    const std::byte* base;                    // the whole page of the base
    std::span<const std::byte* const> sides;  // the whole page of each side
};

std::optional<PageJoin::Clash> PageJoin::join(PageIndex index, const std::byte* base,
                                              std::span<const std::byte* const> sides) {
    std::memcpy(page_.data(), base, kPageBytes);
    changed_.resize(sides.size());
    for (std::size_t at = 0; at < kPageBytes; at += kMaskedBytes) {
        std::uint64_t any = 0;
        for (std::size_t side = 0; side < sides.size(); ++side) {
            changed_[side] = differing_mask(base + at, sides[side] + at);
            any |= changed_[side];
        }
        if (any == 0) continue;
        const Block block{index.byte_offset() + at, at, base, sides};
        if (const auto clash = take_bytes(block, apply_rules(block))) return clash;
    }
    return std::nullopt;
}

/// Joins the elements in the block that have a rule. Returns the mask of their bytes.
std::uint64_t PageJoin::apply_rules(const Block& block) {
    std::uint64_t ruled = 0;
    const ByteRange range{block.offset, kMaskedBytes};
    for (const MergeRule& rule : rules_.within(range)) {
        const std::size_t first = std::max(rule.range.offset, range.offset) - range.offset;
        const std::size_t end = std::min(rule.range.end(), range.end()) - range.offset;
        ruled |= mask_of(first, end);
        join_elements(block, rule, first, end);
    }
    return ruled;
}

void PageJoin::join_elements(const Block& block, const MergeRule& rule, std::size_t first, std::size_t end) {
    const std::size_t bytes = element_bytes(rule.element);
    for (std::size_t at = first; at < end; at += bytes) {
        changed_element_.clear();
        for (std::size_t side = 0; side < block.sides.size(); ++side) {
            if ((changed_[side] & mask_of(at, at + bytes)) != 0) {
                changed_element_.push_back(block.sides[side] + block.at + at);
            }
        }
        std::byte* const result = page_.data() + block.at + at;
        if (changed_element_.size() == 1) {
            std::memcpy(result, changed_element_.front(), bytes);
        } else if (changed_element_.size() > 1) {
            join_element(rule, block.base + block.at + at, changed_element_, result);
            ++elements_joined_;
        }
    }
}

/// Takes each changed byte without a rule from the first side that changed it, and compares the other sides with it.
std::optional<PageJoin::Clash> PageJoin::take_bytes(const Block& block, std::uint64_t ruled) {
    std::byte* const result = page_.data() + block.at;
    std::uint64_t taken = 0;
    std::optional<Clash> clash;
    for (std::size_t side = 0; side < block.sides.size(); ++side) {
        const std::byte* const bytes = block.sides[side] + block.at;
        const std::uint64_t mine = changed_[side] & ~ruled;
        if ((mine & taken) != 0) {
            const std::uint64_t disputed = mine & taken & differing_mask(result, bytes);
            const std::size_t at = block.at + static_cast<std::size_t>(std::countr_zero(disputed));
            if (disputed != 0 && (!clash || at < clash->at)) clash = Clash{at, 0, side};
        }
        copy_masked(result, bytes, mine & ~taken);
        taken |= mine;
    }
    if (!clash) return std::nullopt;
    const std::size_t bit = clash->at - block.at;
    const auto first = std::find_if(changed_.begin(), changed_.end(),
                                    [&](std::uint64_t changed) { return ((changed >> bit) & 1U) != 0; });
    clash->first = static_cast<std::size_t>(first - changed_.begin());
    return clash;
}

}  // namespace vmcow
