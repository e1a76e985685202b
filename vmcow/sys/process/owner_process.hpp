#pragma once

#include <sys/types.h>

#include <cstdint>

namespace vmcow::sys {

/// Which process an object belongs to: the one that made it. A forked child has a copy of everything, including objects
/// that own processes, named files and the terminal. The destructors of these copies must leave alone what belongs to
/// the parent.
///
/// A child is recognised by a page that the kernel empties in it, and by the process id when it shares its parent's
/// memory, as after vfork(2). Fork handlers alone are not enough: clone(2) and _Fork(3) run none. Process ids are not
/// enough either: the first process of each pid namespace is number 1, and numbers are used again.
///
/// Threads: any.
/// Source:  madvise(2) MADV_WIPEONFORK, Linux 4.14; where it is refused, pthread_atfork(3).
class OwnerProcess {
public:
    OwnerProcess();

    /// False in a process that was forked from the owner.
    /// Cost: a system call, 0.1 µs.
    [[nodiscard]] bool is_this_process() const noexcept;
    /// Like is_this_process, but true in a child that shares its parent's memory.
    /// Cost: a load.
    [[nodiscard]] bool has_this_memory() const noexcept;

private:
    std::uint64_t generation_;
    pid_t pid_;
};

}  // namespace vmcow::sys
