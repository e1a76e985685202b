#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// A pidfd names one process for good: a signal through it never reaches another process that was given the same number
/// meanwhile. It also tells of the end of processes that are not children of this one. Close-on-exec.
/// Source: pidfd_open(2), Linux 5.3.

/// Opens a pidfd. Empty, with errno, when there is none: ESRCH (no such process), EMFILE, ENFILE, ENOSYS.
[[nodiscard]] UniqueFd try_open_pidfd(pid_t pid) noexcept;

/// Opens a pidfd.
/// Throws: std::system_error -- the errno of try_open_pidfd, with `what`.
[[nodiscard]] UniqueFd open_pidfd(pid_t pid, const std::string& what);

/// Opens the pidfd of a child that was just forked. Without a pidfd nobody could wait for the child later, so on an
/// error the child is killed and reaped.
/// Throws: std::system_error -- EMFILE, ENFILE, ENOSYS, with `what`. No process is left behind.
[[nodiscard]] UniqueFd open_pidfd_of_child(pid_t child, const std::string& what);

/// Sends a signal; number 0 sends nothing and only tests whether a signal could be sent. Returns 0 or an errno: ESRCH
/// when the process has been reaped, EPERM, EINVAL for a number that is no signal, EBADF. A call that fails for a
/// reason that the kernel does not have is repeated.
/// After fork: async-signal-safe.
/// Source:     pidfd_send_signal(2), Linux 5.1.
int send_signal(int pidfd, int number) noexcept;

/// Sends SIGKILL to the process group that has the number of this process, if there is one, even when its leader has
/// been reaped. Does nothing before Linux 6.9, which cannot name a group by a pidfd.
void kill_group(int pidfd) noexcept;

/// Whether the process has ended, reaped or not. When poll(2) fails: whether the process has been reaped.
[[nodiscard]] bool has_ended(int pidfd) noexcept;

/// Waits for the end of the process, which need not be a child of this one. False when it has not ended within
/// `longest`.
[[nodiscard]] bool wait_for_end(int pidfd, std::chrono::nanoseconds longest) noexcept;

}  // namespace vmcow::sys
