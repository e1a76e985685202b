#include "procrun/observe/value_wait.hpp"

#include <new>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace procrun {

static_assert(std::atomic<ValueWait>::is_always_lock_free, "two processes share it");

SharedValueWait make_value_wait() {
    void* const page = vmcow::sys::map_shared_memory(vmcow::kPageBytes);
    if (page == nullptr) vmcow::sys::throw_errno("map what a stage waits for");
    return {new (page) std::atomic<ValueWait>(ValueWait::none),
            [](std::atomic<ValueWait>* shown) { static_cast<void>(vmcow::sys::unmap(shown, vmcow::kPageBytes)); }};
}

}  // namespace procrun
