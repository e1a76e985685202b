#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// What the kernel kept of a child that has ended: how, and what it used.
///
/// Units:  seconds of processor time; pages for faults; bytes for the peak.
/// Source: waitid(2) with its rusage. `max_resident_bytes` is inherited through fork and exec: it is at least what the
///         parent had in private pages when it forked.
struct ExitRecord {
    Outcome outcome;
    double user_seconds = 0;
    double system_seconds = 0;
    std::uint64_t minor_faults = 0;
    std::uint64_t major_faults = 0;
    std::uint64_t max_resident_bytes = 0;
};

/// Owns one child process: a pid that cannot be reused under us, and its pidfd. The destructor kills and reaps a child
/// that is still there, so that no zombie is ever left.
///
/// Pre:    SIGCHLD is not ignored in this process; otherwise the kernel discards exit statuses (`wait` throws ECHILD).
/// Source: pidfd_open(2), pidfd_send_signal(2), waitid(2) with P_PIDFD; Linux 5.4.
class Process {
public:
    Process() = default;
    Process(pid_t pid, vmcow::sys::UniqueFd pidfd) noexcept;
    Process(Process&& other) noexcept;
    Process& operator=(Process&& other) noexcept;
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    /// -1 once the child has been reaped: the number may be another process's by then.
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Readable (poll) once the process has ended.
    [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
    /// True while there is a child that has not been reaped.
    explicit operator bool() const noexcept { return static_cast<bool>(pidfd_); }

    /// Sends a signal; false when the process has ended already.
    /// Throws: std::system_error -- EINVAL for no signal, EPERM.
    bool signal(int number);

    /// Waits until the process has ended, without reaping it, so that its /proc entry can still be read; false when the
    /// deadline came first.
    [[nodiscard]] bool wait_ended(Deadline deadline) const;

    /// Waits until the process has ended and reaps it; nullopt when the deadline came first.
    /// Throws: std::system_error -- ECHILD, when SIGCHLD is ignored or someone else reaped it; this owner is empty
    /// then.
    [[nodiscard]] std::optional<ExitRecord> wait_until(Deadline deadline);
    [[nodiscard]] ExitRecord wait();

    /// SIGKILL, then reap.
    ExitRecord kill_and_wait();

private:
    pid_t pid_ = -1;
    vmcow::sys::UniqueFd pidfd_;
};

}  // namespace procrun
