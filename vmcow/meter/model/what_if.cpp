#include "vmcow/meter/model/what_if.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "vmcow/meter/model/model.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

constexpr std::array<std::uint64_t, 13> kBlocks = {4,   8,    16,   32,   64,       128,    256,
                                                   512, 1024, 2048, 4096, 64 << 10, 2 << 20};
constexpr std::uint64_t kPointerBytes = 8;
constexpr std::uint64_t kPointersAPiece = 512;
/// The model goes through this many blocks and pairs of neighbours in about a tenth of a second.
constexpr std::uint64_t kMostModelled = std::uint64_t{1} << 20;

/// A mask that keeps, of 64 flags, the first of each `kept` neighbours.
constexpr std::uint64_t every(std::uint64_t kept) {
    std::uint64_t mask = 0;
    for (std::uint64_t bit = 0; bit < 64; bit += kept) mask |= std::uint64_t{1} << bit;
    return mask;
}

/// Replaces each pair of neighbouring flags by their "or". The flags stand `width` bits apart before, and twice as far
/// apart afterwards. Pre: the bits between them are 0.
constexpr std::uint64_t join_pairs(std::uint64_t flags, std::uint64_t width) {
    return (flags | flags >> width) & every(2 * width);
}

std::uint64_t count(std::uint64_t flags) { return static_cast<std::uint64_t>(std::popcount(flags)); }

std::uint64_t overhead(const BlockCounts& counts, std::uint64_t block_bytes) {
    return counts.blocks(block_bytes * kPointersAPiece) * kPointersAPiece * kPointerBytes;
}

void choose_best(WhatIf& what_if, const BlockCounts& counts) {
    std::uint64_t least = 0;
    what_if.best_block_bytes.reset();
    if (counts.changed_bytes() == 0) return;
    for (const WhatIfBlock& block : what_if.blocks) {
        const std::uint64_t total =
            counts.blocks(block.block_bytes) * block.block_bytes + overhead(counts, block.block_bytes);
        if (what_if.best_block_bytes && total > least) continue;
        least = total;
        what_if.best_block_bytes = block.block_bytes;
    }
}

bool is_quick(const Workload& workload, std::uint64_t block_bytes) {
    switch (workload.pattern) {
        case Pattern::sequential:
        case Pattern::stride:
        case Pattern::trace:
            return true;
        case Pattern::uniform:
            if (!workload.aligned) return workload.write_bytes / block_bytes <= kMostModelled;
            break;
        case Pattern::zipf:
        case Pattern::hot:
            break;
    }
    const std::uint64_t neighbours = (block_bytes + workload.write_bytes - 2) / block_bytes;
    return workload.size_bytes / block_bytes <= kMostModelled / (1 + neighbours);
}

}  // namespace

std::size_t BlockCounts::index(std::uint64_t block_bytes) noexcept {
    VMCOW_ASSERT(std::has_single_bit(block_bytes) && block_bytes >= kSmallestBlock && block_bytes <= kLargestBlock);
    return static_cast<std::size_t>(std::countr_zero(block_bytes) - std::countr_zero(kSmallestBlock));
}

BlockCounts& BlockCounts::operator+=(const BlockCounts& other) noexcept {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    changed_bytes_ += other.changed_bytes_;
    return *this;
}

/// Counts the blocks of less than `kMaskedBytes` in `kMaskedBytes` bytes, of which `mask` has a bit for each.
void BlockCounts::add_lines(std::uint64_t mask) noexcept {
    changed_bytes_ += count(mask);
    mask = join_pairs(mask, 1);
    for (std::uint64_t width = 2; width < kMaskedBytes / 2; width *= 2) {
        mask = join_pairs(mask, width);
        counts_[index(2 * width)] += count(mask);
    }
}

/// Counts the blocks of `kMaskedBytes` up to a page, in a page of which `lines` has a bit for each `kMaskedBytes`.
void BlockCounts::add_page(std::uint64_t lines) noexcept {
    counts_[index(kMaskedBytes)] += count(lines);
    for (std::uint64_t width = 1; width < kPageBytes / kMaskedBytes; width *= 2) {
        lines = join_pairs(lines, width);
        counts_[index(2 * width * kMaskedBytes)] += count(lines);
    }
}

void ChangedBlocks::add_page(std::uint64_t address, const PageMask& changed) {
    VMCOW_ASSERT(address % kPageBytes == 0);
    std::uint64_t lines = 0;
    for (std::size_t line = 0; line < changed.size(); ++line) {
        if (changed[line] == 0) continue;
        lines |= std::uint64_t{1} << line;
        within_pages_.add_lines(changed[line]);
    }
    if (lines == 0) return;
    within_pages_.add_page(lines);
    pages_.push_back(address / kPageBytes);
}

void ChangedBlocks::add_page(std::uint64_t address, const std::byte* now, const std::byte* before) {
    if (std::memcmp(now, before, kPageBytes) == 0) return;
    PageMask changed{};
    for (std::size_t line = 0; line < changed.size(); ++line) {
        changed[line] = differing_mask(now + line * kMaskedBytes, before + line * kMaskedBytes);
    }
    add_page(address, changed);
}

BlockCounts ChangedBlocks::counts() const {
    BlockCounts counts = within_pages_;
    std::vector<std::uint64_t> blocks = pages_;
    std::sort(blocks.begin(), blocks.end());
    for (std::uint64_t size = 2 * kPageBytes; size <= BlockCounts::kLargestBlock; size *= 2) {
        for (std::uint64_t& block : blocks) block /= 2;
        blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
        counts.counts_[BlockCounts::index(size)] = blocks.size();
    }
    return counts;
}

WhatIf what_if(const BlockCounts& counts, std::optional<std::uint64_t> written_bytes) {
    WhatIf result;
    for (const std::uint64_t block_bytes : kBlocks) {
        WhatIfBlock block{.block_bytes = block_bytes,
                          .copied_bytes = counts.blocks(block_bytes) * block_bytes,
                          .overhead_bytes = overhead(counts, block_bytes)};
        if (written_bytes.value_or(0) > 0) {
            block.amplification = static_cast<double>(block.copied_bytes) / static_cast<double>(*written_bytes);
        }
        result.blocks.push_back(block);
    }
    choose_best(result, counts);
    return result;
}

void add_model(WhatIf& what_if, const Workload& workload) {
    if (workload.rewrite_same > 0) return;
    for (WhatIfBlock& block : what_if.blocks) {
        if (!is_quick(workload, block.block_bytes)) continue;
        const Expectation expected = expect_copied(workload, block.block_bytes);
        const auto bytes = static_cast<double>(block.block_bytes);
        block.expected_bytes = expected.blocks * bytes;
        if (expected.sigma) block.sigma_bytes = *expected.sigma * bytes;
    }
}

void add_children(WhatIf& what_if, const BlockCounts& counts) {
    for (WhatIfBlock& block : what_if.blocks) {
        block.children_copied_bytes = counts.blocks(block.block_bytes) * block.block_bytes;
    }
    choose_best(what_if, counts);
}

}  // namespace vmcow::meter
