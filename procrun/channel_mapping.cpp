#include "procrun/channel_mapping.hpp"

#include <mutex>

#include "vmcow/fork_lock.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memory.hpp"

namespace procrun::detail {

ChannelMapping::ChannelMapping(int fd) : slot_(vmcow::Slot::reserve(kChannelBytes)) {
    const std::scoped_lock lock(vmcow::fork_lock());
    int error = vmcow::sys::map_file_at(slot_.address(), kChannelBytes, vmcow::sys::MapMode::shared_write, fd, 0);
    if (error == 0) error = vmcow::sys::keep_out_of_children(slot_.address(), kChannelBytes);
    if (error != 0) vmcow::sys::throw_error(error, "map a channel");
    enlist();
}

ChannelMapping::~ChannelMapping() { delist(); }

int ChannelMapping::reserve_again() noexcept { return vmcow::sys::reserve_hole(slot_.address(), kChannelBytes); }

}  // namespace procrun::detail
