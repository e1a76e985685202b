#include "procrun/call/payload.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmcow/image/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

Payload::Payload(std::vector<std::byte> bytes) noexcept : owned_(std::move(bytes)) {}

Payload::Payload(std::shared_ptr<const vmcow::Slot> slot, std::size_t bytes) noexcept
    : slot_(std::move(slot)), mapped_bytes_(bytes) {}

Payload Payload::of_file(std::vector<vmcow::sys::UniqueFd>& fds, std::uint64_t bytes) {
    if (fds.empty() || !fds.front() || !vmcow::sys::is_immutable(fds.front().get())) {
        vmcow::sys::throw_error(EBADMSG, "received result: not sealed");
    }
    const vmcow::sys::UniqueFd fd = std::move(fds.front());
    fds.erase(fds.begin());
    const std::uint64_t size = vmcow::sys::file_bytes(fd.get());
    if (size == 0 || size != bytes) {
        vmcow::sys::throw_error(EBADMSG, "received result: not of the size that was announced");
    }
    auto slot = std::make_shared<const vmcow::Slot>(vmcow::Slot::reserve(size));
    const int error = vmcow::sys::map_file_at(slot->address(), vmcow::round_up(size, vmcow::kPageBytes),
                                              vmcow::sys::MapMode::read_only, fd.get(), 0);
    if (error != 0) vmcow::sys::throw_error(error, "map a result");
    return {std::move(slot), size};
}

Payload Payload::of_small(std::span<const std::byte> bytes) noexcept {
    VMCOW_ASSERT(bytes.size() <= kSmall);
    Payload payload;
    std::copy(bytes.begin(), bytes.end(), payload.small_.begin());
    payload.small_bytes_ = bytes.size();
    return payload;
}

std::span<const std::byte> Payload::bytes() const noexcept {
    if (small_bytes_ > 0) return {small_.data(), small_bytes_};
    if (mapped_bytes_ > 0) return {slot_->address(), mapped_bytes_};
    return owned_;
}

vmcow::sys::UniqueFd file_of_payload(std::span<const std::byte> bytes) {
    vmcow::sys::UniqueFd fd = vmcow::sys::create_memfd("result");
    vmcow::sys::write_all(fd.get(), bytes, "result");
    vmcow::sys::seal_memfd(fd.get(), "result");
    return fd;
}

}  // namespace procrun::detail
