#include "procrun/worker/call_memory.hpp"

#include <mutex>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"

namespace procrun::detail {

MappedCallMemory::MappedCallMemory(int fd) : slot_(vmcow::Slot::reserve(kCallMemoryBytes)) {
    const std::scoped_lock lock(vmcow::fork_lock());
    int error = vmcow::sys::map_file_at(slot_.address(), kCallMemoryBytes, vmcow::sys::MapMode::shared_write, fd, 0);
    if (error == 0) error = vmcow::sys::keep_out_of_children(slot_.address(), kCallMemoryBytes);
    if (error != 0) vmcow::sys::throw_error(error, "map a channel");
    enlist();
}

MappedCallMemory::~MappedCallMemory() { delist(); }

int MappedCallMemory::reserve_again() noexcept { return vmcow::sys::reserve_hole(slot_.address(), kCallMemoryBytes); }

}  // namespace procrun::detail
