#include "procrun/launcher/launcher_watch.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "vmcow/sys/process/signal_process.hpp"

namespace procrun::detail {
namespace {

constexpr unsigned kSignalProcessGroup = 1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

long send(int pidfd, int number, unsigned flags) noexcept {
    return syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, flags);
}

bool is_reaped(int pidfd) noexcept { return send(pidfd, 0, 0) != 0 && errno == ESRCH; }

// Kills a process group by the pidfd of its leader, which cannot mean another group. Kernels before 6.9 get the number:
// the leader was not reaped a moment ago, so the number is still its own.
void kill_group(int pidfd, pid_t pid) noexcept {
    if (send(pidfd, SIGKILL, kSignalProcessGroup) == 0 || errno != EINVAL) return;
    if (!is_reaped(pidfd)) vmcow::sys::signal_group(pid, SIGKILL);
}

}  // namespace

bool WatchedPrograms::has_room() noexcept {
    forget_reaped();
    return count_ < kMaxWatched;
}

void WatchedPrograms::add(int epoll_fd, int pidfd, pid_t pid, bool leads_group) noexcept {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = pidfd;
    // epoll_ctl fails past the user's limit of watches: then `forget_reaped` asks the kernel about this program.
    const bool silent = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pidfd, &event) != 0;
    watched_[count_++] = {.pidfd = pidfd, .pid = pid, .leads_group = leads_group, .silent = silent};
    if (silent) ++silent_;
}

void WatchedPrograms::note_end(int epoll_fd, int pidfd) noexcept {
    static_cast<void>(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, pidfd, nullptr));
    for (std::size_t i = 0; i < count_; ++i) {
        if (watched_[i].pidfd != pidfd || watched_[i].silent) continue;
        watched_[i].silent = true;
        ++silent_;
    }
}

void WatchedPrograms::forget_reaped() noexcept {
    if (silent_ == 0) return;
    for (std::size_t i = 0; i < count_;) {
        if (!watched_[i].silent || !is_reaped(watched_[i].pidfd)) {
            ++i;
            continue;
        }
        close(watched_[i].pidfd);
        watched_[i] = watched_[--count_];
        --silent_;
    }
}

void WatchedPrograms::kill_all() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
        if (watched_[i].leads_group) kill_group(watched_[i].pidfd, watched_[i].pid);
        static_cast<void>(send(watched_[i].pidfd, SIGKILL, 0));
    }
}

}  // namespace procrun::detail
