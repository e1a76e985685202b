#include "procrun/worker/sent_image.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "procrun/worker/call_protocol.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {
namespace {

/// The least that is mapped, and the step by which the mapping grows.
constexpr std::size_t kStep = std::size_t{64} << 10;
static_assert(kLargestSent <= kStep);

}  // namespace

std::byte* SentImage::load(std::span<const std::byte> bytes) {
    if (slot_.address() == nullptr) {
        slot_ = vmcow::Slot::reserve(vmcow::kHugeBytes, kGrowthRoom - vmcow::kHugeBytes);
    }
    if (mapped_ > kStep) {  // an earlier call has made the image long: its memory goes back to the kernel
        if (vmcow::sys::reserve_at(slot_.address() + kStep, mapped_ - kStep) == 0) mapped_ = kStep;
    }
    if (mapped_ < kStep) extend(kStep);
    std::byte* const at = slot_.address();
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    const std::size_t used = std::min(used_, mapped_);
    if (used > bytes.size()) std::memset(at + bytes.size(), 0, used - bytes.size());
    used_ = bytes.size();
    return at;
}

void SentImage::extend(std::size_t bytes) {
    if (bytes > mapped_) {
        const std::size_t wanted = vmcow::round_up(bytes, kStep);
        int error = slot_.extend(wanted) ? 0 : ENOMEM;
        if (error == 0) error = vmcow::sys::map_memory_at(slot_.address() + mapped_, wanted - mapped_);
        if (error != 0) vmcow::sys::throw_error(error, "make a value longer");
        mapped_ = wanted;
    }
    used_ = std::max(used_, bytes);
}

bool SentImage::is_mapped() const noexcept { return mapped_ == 0 || vmcow::sys::is_mapped(slot_.address(), mapped_); }

}  // namespace procrun::detail
