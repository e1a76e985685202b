#include "vmcow/measure/page_states.hpp"

#include <algorithm>
#include <iterator>

namespace vmcow::measure {
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

void PageStates::Chunk::set(std::size_t index, const PageSeen& seen) {
    now_[index] = pack(seen);
    if (seen.frame != 0 && !frames_) frames_ = std::make_unique<Frames>();
    if (frames_) frames_->now[index] = seen.frame;
}

void PageStates::Chunk::begin_look() noexcept {
    before_ = now_;
    now_.fill(0);
    if (!frames_) return;
    frames_->before = frames_->now;
    frames_->now.fill(0);
}

bool PageStates::Chunk::end_look() noexcept {
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

void PageStates::set(std::uint64_t page, const PageSeen& seen) {
    const std::uint64_t number = page / kChunkPages;
    if (last_ == chunks_.end() || last_->first != number) last_ = chunks_.try_emplace(number).first;
    last_->second.set(page % kChunkPages, seen);
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

}  // namespace vmcow::measure
