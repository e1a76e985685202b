#pragma once

#include <sys/types.h>

#include <optional>

#include "procrun/observe/stage_view.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/thread_count.hpp"

namespace procrun {

/// The counters of a process, opened while it runs and read when it has ended. When a process ends before its counters
/// are opened, they are lost: only root can open those of a zombie.
///
/// Source: proc(5) /proc/PID/io, rchar and wchar.
class TransferMeter {
public:
    /// A meter that knows nothing.
    TransferMeter() = default;
    /// The meter knows nothing where the counters cannot be opened: the process has ended or has privileges that we
    /// lack, or no descriptor is left.
    explicit TransferMeter(pid_t pid);

    /// nullopt for what is not known (I8), also when the process has been reaped.
    [[nodiscard]] std::optional<TransferredBytes> read() const;

private:
    vmcow::sys::UniqueFd fd_;
};

/// The counters of a child, measured as what our own counters gain when we reap the child. They are exact for any
/// child, however short its life, but only in a process with one thread: others' reads and writes would be counted too.
///
/// Source: the kernel's wait_task_zombie, which adds a child's counters to those of its parent.
class ReapMeter {
public:
    /// To be made right before the child is reaped.
    ReapMeter();

    /// To be called right after. nullopt when there was no descriptor to read our counters.
    [[nodiscard]] std::optional<TransferredBytes> read() const;

private:
    std::optional<TransferredBytes> before_;
};

/// A ReapMeter is exact where this is true.
using vmcow::sys::has_one_thread;

}  // namespace procrun
