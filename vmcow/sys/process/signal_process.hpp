#pragma once

#include <sys/types.h>

#include <cerrno>
#include <csignal>

// kill(2) takes a number that is no process for several processes: 0 is the caller's own group, -1 everybody that it
// may reach. A number that was never set, or the -1 of a failed fork, would end the shell that started the program, or
// as root the whole machine. These are the only calls of kill(2) in the project.
namespace vmcow::sys {

/// Sends a signal to one process; number 0 sends nothing and only tests whether a signal could be sent. Returns 0 or
/// the errno: ESRCH when there is no such process, and when `pid` is 0 or less, which is no process. A zombie is a
/// process. Async-signal-safe.
/// Source: kill(2).
[[nodiscard]] inline int try_signal_process(pid_t pid, int number) noexcept {
    if (pid <= 0) return ESRCH;
    return ::kill(pid, number) == 0 ? 0 : errno;
}

/// Like try_signal_process, when it does not matter whether the process is still there.
inline void signal_process(pid_t pid, int number) noexcept { static_cast<void>(try_signal_process(pid, number)); }

/// Sends a signal to all processes of the group that `leader` began. Returns 0 or the errno: ESRCH when there is no
/// such group, and when `leader` is 1 or less, which this project never makes a group of. Async-signal-safe.
/// Source: kill(2).
[[nodiscard]] inline int try_signal_group(pid_t leader, int number) noexcept {
    if (leader <= 1) return ESRCH;
    return ::kill(-leader, number) == 0 ? 0 : errno;
}

inline void signal_group(pid_t leader, int number) noexcept { static_cast<void>(try_signal_group(leader, number)); }

/// Sends a signal to the group of the calling process, itself included, as a terminal's keys do.
inline void signal_own_group(int number) noexcept { static_cast<void>(::kill(0, number)); }

}  // namespace vmcow::sys
