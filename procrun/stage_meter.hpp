#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "vmcow/sys/fd.hpp"

namespace procrun {

/// Bytes that a process passed through read(2), write(2) and their kind, with those of the children it waited for.
/// What is spliced, sent with sendfile(2) past a buffer, or read and written through mappings is not among them.
struct TransferredBytes {
    std::uint64_t read = 0;
    std::uint64_t written = 0;
};

/// The counters of a process, opened while it runs and read when it has ended. A process that ends before they are
/// opened takes them along: those of a zombie can be opened by root alone.
///
/// Source: proc(5) /proc/PID/io, rchar and wchar.
class TransferMeter {
public:
    /// Knows nothing.
    TransferMeter() = default;
    /// Knows nothing of a process whose counters cannot be opened: it has ended, or runs with privileges that we lack;
    /// or there is no descriptor left.
    explicit TransferMeter(pid_t pid);

    /// nullopt for what is not known (I8), also when the process has been reaped.
    [[nodiscard]] std::optional<TransferredBytes> read() const;

private:
    vmcow::sys::UniqueFd fd_;
};

/// The counters of a child, as what our own gain when we reap it. Exact for any child, however short its life, but only
/// in a process with one thread: the others' reads and writes would be among them.
///
/// Source: the kernel's wait_task_zombie, which adds a child's counters to those of its parent.
class ReapMeter {
public:
    /// Made right before the child is reaped.
    ReapMeter();

    /// Right after. nullopt when there was no descriptor to read ours.
    [[nodiscard]] std::optional<TransferredBytes> read() const;

private:
    std::optional<TransferredBytes> before_;
};

/// False also when the kernel does not say.
[[nodiscard]] bool has_one_thread();

}  // namespace procrun
