#include "vmcow/meter/watch/page_states.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

constexpr std::uint8_t kPresent = 1;
constexpr std::uint8_t kSwapped = 2;
constexpr std::uint8_t kExclusive = 4;
constexpr std::uint8_t kHuge = 8;

std::uint8_t pack(const PageSeen& seen) {
    return static_cast<std::uint8_t>((seen.present ? kPresent : 0) | (seen.swapped ? kSwapped : 0) |
                                     (seen.exclusive ? kExclusive : 0) | (seen.huge ? kHuge : 0));
}

}  // namespace

PageSeen PageStates::Chunk::unpack(std::uint8_t bits, std::uint32_t frame) noexcept {
    return {.present = (bits & kPresent) != 0,
            .swapped = (bits & kSwapped) != 0,
            .exclusive = (bits & kExclusive) != 0,
            .huge = (bits & kHuge) != 0,
            .frame = frame};
}

std::uint32_t PageStates::Chunk::copied_pages() const noexcept {
    const auto is_copied = [](PageLineage lineage) { return lineage.copied_by != PageWriter::none; };
    return static_cast<std::uint32_t>(std::count_if(lineage_.begin(), lineage_.end(), is_copied));
}

void PageStates::Chunk::settle(std::optional<Verdict> verdict) noexcept {
    verdict_ = verdict;
    is_open_ = std::any_of(lineage_.begin(), lineage_.end(), [](PageLineage lineage) {
        return lineage.origin == PageOrigin::inherited && lineage.copied_by == PageWriter::none;
    });
}

void PageStates::Chunk::set(std::size_t index, const PageSeen& seen) {
    now_[index] = pack(seen);
    if (seen.frame != 0 && !frames_) frames_ = std::make_unique<Frames>();
    if (frames_) frames_->now[index] = seen.frame;
}

bool PageStates::Chunk::keep(std::size_t index, std::size_t count) noexcept {
    const auto first = before_.begin() + static_cast<std::ptrdiff_t>(index);
    const auto last = first + static_cast<std::ptrdiff_t>(count);
    if (!std::all_of(first, last, [](std::uint8_t bits) { return (bits & kPresent) != 0; })) return false;
    std::copy(first, last, now_.begin() + static_cast<std::ptrdiff_t>(index));
    if (frames_)
        std::copy_n(frames_->before.begin() + static_cast<std::ptrdiff_t>(index), count,
                    frames_->now.begin() + static_cast<std::ptrdiff_t>(index));
    return true;
}

void PageStates::Chunk::count_unchanged(bool unchanged) noexcept {
    unchanged_looks_ = unchanged ? static_cast<std::uint8_t>(std::min(unchanged_looks_ + 1, 2)) : std::uint8_t{0};
    if (!unchanged) verdict_.reset();
}

void PageStates::Chunk::keep_all() noexcept {
    if (unchanged_looks_ == 0) {
        before_ = now_;
        if (frames_) frames_->before = frames_->now;
    }
    count_unchanged(true);
}

void PageStates::Chunk::begin_look() noexcept {
    is_looked_at_ = true;
    before_ = now_;
    now_.fill(0);
    if (!frames_) return;
    frames_->before = frames_->now;
    frames_->now.fill(0);
}

bool PageStates::Chunk::end_look() noexcept {
    if (!std::exchange(is_looked_at_, false)) return true;
    count_unchanged(before_ == now_ && (!frames_ || frames_->before == frames_->now));
    if (unchanged_looks_ > 0) return std::any_of(now_.begin(), now_.end(), [](std::uint8_t bits) { return bits != 0; });
    bool is_used = false;
    for (std::size_t i = 0; i < kChunkPages; ++i) {
        if (now_[i] == 0) lineage_[i] = {};
        is_used = is_used || now_[i] != 0 || before_[i] != 0;
    }
    return is_used;
}

void PageStates::begin_look() noexcept {
    for (auto& [number, chunk] : chunks_) chunk.begin_look();
}

void PageStates::begin_look(const std::set<std::uint64_t>& chunks) noexcept {
    for (auto& [number, chunk] : chunks_) {
        if (chunks.contains(number)) {
            chunk.begin_look();
        } else {
            chunk.keep_all();
        }
    }
}

void PageStates::set(std::uint64_t page, const PageSeen& seen) {
    const std::uint64_t number = page / kChunkPages;
    if (last_ == chunks_.end() || last_->first != number) last_ = chunks_.try_emplace(number).first;
    last_->second.set(page % kChunkPages, seen);
}

bool PageStates::keep(std::uint64_t page, std::uint64_t count) noexcept {
    VMCOW_ASSERT(count <= kChunkPages - page % kChunkPages && "pages of more than one chunk");
    const std::uint64_t number = page / kChunkPages;
    if (last_ == chunks_.end() || last_->first != number) last_ = chunks_.find(number);
    return last_ != chunks_.end() && last_->second.keep(page % kChunkPages, count);
}

void PageStates::keep_all() noexcept {
    for (auto& [number, chunk] : chunks_) chunk.keep_all();
}

void PageStates::end_look() noexcept {
    last_ = chunks_.end();
    for (auto at = chunks_.begin(); at != chunks_.end();)
        at = at->second.end_look() ? std::next(at) : chunks_.erase(at);
}

const PageStates::Chunk* PageStates::find(std::uint64_t chunk) const noexcept {
    const auto found = chunks_.find(chunk);
    return found == chunks_.end() ? nullptr : &found->second;
}

PagePair PageStates::pair(std::uint64_t page) const noexcept {
    const Chunk* const chunk = find(page / kChunkPages);
    return chunk == nullptr ? PagePair{} : chunk->pair(page % kChunkPages);
}

std::uint64_t PageStates::memory_bytes() const noexcept {
    std::uint64_t bytes = 0;
    for (const auto& [number, chunk] : chunks_) {
        bytes += sizeof(number) + sizeof(chunk) + (chunk.frames_ ? sizeof(Chunk::Frames) : 0);
    }
    return bytes;
}

}  // namespace vmcow::meter
