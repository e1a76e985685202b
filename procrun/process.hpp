#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace procrun {

/// What the kernel kept of a child that has ended: how it ended, and what it used. Where the outcome is
/// `OutcomeKind::unknown`, something else has taken the kernel's record, and all other members are 0.
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

/// Owns one child process: its pid, which the kernel cannot reuse meanwhile, and its pidfd. The destructor kills and
/// reaps a child that is still there, so that no zombie is ever left.
///
/// Where a handler of SIGCHLD reaps every child, or SIGCHLD is ignored, the end is still noticed, but the outcome is
/// `OutcomeKind::unknown`.
///
/// After fork: the copy in a forked process has no child. It signals and reaps nobody, and its destructor only closes
///          the pidfd. `wait_ended` still tells of the end.
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

    /// -1 once the child has been reaped: another process may have the number by then.
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Becomes readable for poll(2) when the process has ended.
    [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
    /// True while there is a child that has not been reaped.
    explicit operator bool() const noexcept { return static_cast<bool>(pidfd_); }

    /// Sends a signal; false when the process has ended already, and in a forked copy of the owner.
    /// Throws: std::system_error -- EINVAL (`number` is no signal), EPERM.
    bool signal(int number);

    /// Waits until the process has ended, without reaping it, so that its /proc entry can still be read; false when the
    /// deadline came first.
    /// Pre: the child has not been reaped.
    [[nodiscard]] bool wait_ended(Deadline deadline) const;

    /// Waits until the process has ended and reaps it; nullopt when the deadline came first.
    /// Pre: the child has not been reaped.
    /// Throws: std::system_error -- ECHILD at once in a forked copy of the owner: the process is not its child.
    [[nodiscard]] std::optional<ExitRecord> wait_until(Deadline deadline);
    [[nodiscard]] ExitRecord wait();

    /// SIGKILL, then reap. Throws: as `wait_until`.
    ExitRecord kill_and_wait();

private:
    void end() noexcept;

    pid_t pid_ = -1;
    vmcow::sys::UniqueFd pidfd_;
    vmcow::sys::OwnerProcess owner_;
};

}  // namespace procrun
