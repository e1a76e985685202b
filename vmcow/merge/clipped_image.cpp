#include "vmcow/merge/clipped_image.hpp"

#include <cstdint>
#include <cstring>
#include <utility>

namespace vmcow {

ClippedImage::ClippedImage(Snapshot snapshot) : snapshot_(std::move(snapshot)) {
    const std::uint64_t extent = snapshot_.extent_bytes();
    const std::size_t kept = extent % kPageBytes;
    if (kept == 0) return;
    auto last = std::make_unique<Page>();
    std::memcpy(last->data(), snapshot_.page(page_at(extent)), kept);
    last_ = std::move(last);
}

const std::byte* ClippedImage::page(PageIndex index) const noexcept {
    static constexpr Page kZeros{};
    const std::uint64_t extent = snapshot_.extent_bytes();
    if (index.byte_offset() >= extent) return kZeros.data();
    return last_ && index == page_at(extent) ? last_->data() : snapshot_.page(index);
}

}  // namespace vmcow
