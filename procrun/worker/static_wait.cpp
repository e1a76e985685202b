#include "procrun/worker/static_wait.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <exception>
#include <fstream>
#include <string>

#include "vmcow/sys/proc/thread_count.hpp"

namespace procrun::detail {
namespace {

/// The guard's bits for "a thread is initializing the variable" and "a thread waits for it".
constexpr unsigned long kPendingAndAwaited = 1UL << 8 | 1UL << 16;

}  // namespace

bool waits_for_static_variable(pid_t pid) noexcept {
    try {
        if (vmcow::sys::try_count_listed_threads(pid) != 1U) return false;
        // "running", or the number of the call, its six arguments, the stack pointer and the program counter.
        std::ifstream file("/proc/" + std::to_string(pid) + "/syscall");
        long call = -1;
        unsigned long address = 0;
        unsigned long operation = 0;
        unsigned long value = 0;
        unsigned long timeout = 0;
        if (!(file >> call >> std::hex >> address >> operation >> value >> timeout)) return false;
        return call == SYS_futex && operation == FUTEX_WAIT && value == kPendingAndAwaited && timeout == 0;
    } catch (const std::exception&) {
        return false;
    }
}

}  // namespace procrun::detail
