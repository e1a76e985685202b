#include "vmcow/sys/process/pidfd.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace vmcow::sys {
namespace {

using std::chrono::nanoseconds;

/// How often a call is made before an error is believed that the kernel has no reason for.
constexpr int kAttempts = 3;
constexpr unsigned kSignalProcessGroup = 1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h

timespec timespec_of(nanoseconds time) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
    return {.tv_sec = seconds.count(), .tv_nsec = (time - seconds).count()};
}

}  // namespace

UniqueFd try_open_pidfd(pid_t pid) noexcept { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

UniqueFd open_pidfd(pid_t pid, const std::string& what) {
    UniqueFd pidfd = try_open_pidfd(pid);
    if (!pidfd) throw_errno(what);
    return pidfd;
}

UniqueFd open_pidfd_of_child(pid_t child, const std::string& what) {
    UniqueFd pidfd = try_open_pidfd(child);
    if (pidfd) return pidfd;
    const int error = errno;
    signal_process(child, SIGKILL);
    (void)retry_interrupted([&]() noexcept { return ::waitpid(child, nullptr, 0); });
    throw_error(error, what);
}

int send_signal(int pidfd, int number) noexcept {
    int error = 0;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) == 0) return 0;
        error = errno;
        if (error == ESRCH || error == EINVAL || error == EBADF) break;
    }
    return error;
}

void kill_group(int pidfd) noexcept {
    (void)::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, kSignalProcessGroup);
}

bool has_ended(int pidfd) noexcept {
    pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&ended, 1, 0);
    if (ready >= 0) return ready > 0;
    return errno != EINTR && send_signal(pidfd, 0) == ESRCH;
}

bool wait_for_end(int pidfd, nanoseconds longest) noexcept {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point give_up = Clock::now() + longest;
    for (;;) {
        const nanoseconds left = std::max<nanoseconds>(give_up - Clock::now(), nanoseconds{0});
        const timespec timeout = timespec_of(left);
        pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
        const int ready = ::ppoll(&ended, 1, &timeout, nullptr);
        if (ready > 0) return (ended.revents & POLLIN) != 0;
        if (left == nanoseconds{0}) return false;
        if (ready == 0 || errno == EINTR) continue;
        // No memory, for example. Another call may tell.
        if (has_ended(pidfd)) return true;
        const timespec a_millisecond = timespec_of(std::chrono::milliseconds{1});
        (void)::nanosleep(&a_millisecond, nullptr);
    }
}

}  // namespace vmcow::sys
