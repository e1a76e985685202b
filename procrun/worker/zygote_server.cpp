#include "procrun/worker/zygote_server.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <exception>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/process/own_children.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// Signals that a terminal sends to all processes of a group. They are ignored here: the caller decides when its
/// function processes end.
constexpr std::array kTerminalSignals{SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU};

constexpr std::array kEnds{SIGCHLD};

void set_actions(void (*action)(int)) noexcept {
    for (const int number : kTerminalSignals) static_cast<void>(::signal(number, action));
}

/// The wait before a system call that has failed unexpectedly is tried again.
constexpr std::chrono::milliseconds kNextTry{10};
/// The longest wait for killed processes. They end at once unless they hang in the kernel.
constexpr std::chrono::milliseconds kLongestEnd{800};

class ZygoteServer {
public:
    ZygoteServer(ZygoteEnds ends, const WorkerConfig& config)
        : socket_(std::move(ends.socket)), caller_(std::move(ends.caller)), config_(config) {
        ended_.emplace(kEnds);
        set_actions(SIG_IGN);
    }

    int run() {
        while (true) {
            const short wanted = static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
            std::array<pollfd, 3> entries{pollfd{socket_.fd().get(), wanted, 0}, pollfd{ended_->fd(), POLLIN, 0},
                                          pollfd{caller_.get(), POLLIN, 0}};
            const bool again = reap_again_ || !unsent_.empty();
            const bool unknown = poll_or_sleep(entries, again ? Deadline::in(kNextTry) : Deadline::never()) < 0;
            if (entries[2].revents != 0 || (unknown && vmcow::sys::has_ended(caller_.get()))) break;
            if (entries[1].revents != 0 || reap_again_ || unknown) reap();
            send_unsent();
            if (((entries[0].revents & ~POLLOUT) != 0 || unknown) && !listen()) break;
        }
        end_all();
        return 0;
    }

private:
    struct Child {
        pid_t pid = -1;
        std::uint64_t number = 0;  // of the request
    };
    struct Unsent {
        ZygoteMessage said;
        UniqueFd pidfd;
    };

    // ---- requests

    /// Takes one request. False when the caller is gone or asks for the end, and when requests cannot be read: the
    /// caller learns of an end at once, and of silence after seconds.
    bool listen() {
        ZygoteOrder order;
        const int fd = socket_.fd().get();
        // Peeked at first: when no descriptors are left for the request's own, the answer still needs its number.
        const ssize_t got = ::recv(fd, &order, sizeof(order), MSG_PEEK | MSG_DONTWAIT);
        if (got == 0) return false;
        if (got < 0 && errno == EAGAIN) return true;
        try {
            if (got < 0) vmcow::sys::throw_errno("look at a request");
            std::optional<pipes::Message> message = socket_.receive();
            refusals_ = 0;
            if (!message) return false;
            if (message->bytes.size() != sizeof(order)) return true;
            if (order.request == ZygoteRequest::end) return false;
            if (order.request == ZygoteRequest::drop) {
                drop(order.number);
            } else {
                answer(order, std::move(message->fds));
            }
        } catch (const std::system_error& error) {
            const int code = error.code().value();
            if (code == EBADF || code == ENOTSOCK) return false;
            if (code == EMFILE || code == ENFILE) {
                say({.error = code, .number = order.number}, {});
            } else {
                if (++refusals_ == kMostRefusals) return false;
                poll_or_sleep({}, Deadline::in(std::chrono::milliseconds(1)));  // the request is still in the socket
            }
        }
        return true;
    }

    void drop(std::uint64_t number) noexcept {
        for (const Child& child : children_) {
            if (child.number == number) vmcow::sys::signal_process(child.pid, SIGKILL);
        }
    }

    void answer(const ZygoteOrder& order, std::vector<UniqueFd> fds) {
        const std::size_t wanted = order.request == ZygoteRequest::fork_worker ? 4 : 1;
        if (fds.size() != wanted) return say({.error = EBADMSG, .number = order.number}, {});
        const pid_t zygote = ::getpid();
        const pid_t pid = ::fork();
        if (pid == 0) ::_exit(live(order.request, std::move(fds), zygote));
        ZygoteMessage said{.error = pid < 0 ? errno : 0, .number = order.number, .pid = pid};
        UniqueFd pidfd;
        if (pid > 0) {
            children_.push_back({pid, order.number});
            ::setpgid(pid, pid);  // the child does so too: either may run first
            pidfd = vmcow::sys::try_open_pidfd(pid);
            if (!pidfd) {
                said.error = errno;
                vmcow::sys::signal_process(pid, SIGKILL);
            }
        }
        say(said, std::move(pidfd));
    }

    /// What a forked child runs. Returns its exit status.
    int live(ZygoteRequest request, std::vector<UniqueFd> fds, pid_t zygote) {
        static_cast<void>(socket_.take_fd());
        ended_.reset();
        unsent_.clear();
        if (request == ZygoteRequest::fork_zygote) {
            return zygote_main({pipes::MessageSocket(std::move(fds[0])), std::move(caller_)}, config_, false);
        }
        if (!vmcow::sys::die_with_parent(zygote)) return 1;
        caller_.reset();
        ::setpgid(0, 0);
        set_actions(SIG_DFL);
        vmcow::sys::unblock_all_signals();
        return worker_main({std::move(fds[0]), std::move(fds[1]), std::move(fds[2]), std::move(fds[3])}, config_);
    }

    // ---- messages to the caller

    void say(const ZygoteMessage& said, UniqueFd pidfd) {
        unsent_.push_back({said, std::move(pidfd)});
        send_unsent();
    }

    /// Sends what the socket takes; the rest is sent later. A failed send does not end this process: only the caller's
    /// end does, which its pidfd tells.
    void send_unsent() {
        while (!unsent_.empty()) {
            const Unsent& first = unsent_.front();
            const int number = first.pidfd.get();
            const auto bytes = std::as_bytes(std::span(&first.said, 1));
            if (socket_.try_send(bytes, std::span(&number, first.pidfd ? 1U : 0U)) != 0) return;
            unsent_.pop_front();
        }
    }

    // ---- ends of other processes

    void reap() {
        ended_->drain();
        reap_again_ = false;
        bool somebody = false;
        while (true) {
            siginfo_t info{};
            if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0) return wait_failed(errno);
            failures_ = 0;
            if (info.si_pid == 0) break;
            if (!bury(info.si_pid)) return;
            somebody = true;
        }
        if (somebody) end_strangers();
    }

    bool bury(pid_t pid) {
        const auto child =
            std::find_if(children_.begin(), children_.end(), [&](const Child& each) { return each.pid == pid; });
        // The child's own children are in its group. The group is killed before the child is reaped, while its number
        // cannot belong to another process.
        if (child != children_.end()) vmcow::sys::signal_group(pid, SIGKILL);
        siginfo_t info{};
        if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | __WALL) != 0) {
            wait_failed(errno);
            return false;
        }
        if (child == children_.end()) return true;
        children_.erase(child);
        const auto how = info.si_code == CLD_EXITED ? OutcomeKind::exited : OutcomeKind::signaled;
        say({.kind = ZygoteMessage::Kind::ended, .pid = pid, .end = how, .code = info.si_status}, {});
        return true;
    }

    /// After a waitid(2) that has failed: it is tried again soon, because no second SIGCHLD would tell of that end.
    /// Children are reported as gone, with an unknown end, after the third ECHILD in a row.
    void wait_failed(int error) {
        constexpr int kBelieved = 3;
        reap_again_ = !children_.empty() || error != ECHILD;
        if (error != ECHILD || ++failures_ < kBelieved) return;
        for (const Child& child : children_) {
            say({.kind = ZygoteMessage::Kind::ended, .pid = child.pid, .end = OutcomeKind::unknown}, {});
        }
        children_.clear();
        failures_ = 0;
        reap_again_ = false;
    }

    [[nodiscard]] bool is_own(pid_t pid) const noexcept {
        return std::any_of(children_.begin(), children_.end(), [&](const Child& child) { return child.pid == pid; });
    }

    /// Kills the processes that this one has adopted because their parent has ended: daemons that a function has left
    /// behind. When they end, their children are adopted and killed in turn.
    void end_strangers() {
        for (const pid_t pid : own_children()) {
            if (!is_own(pid)) vmcow::sys::signal_process(pid, SIGKILL);
        }
    }

    /// Kills all processes below this one. The children of a killed process are adopted here, so it goes on until
    /// waitpid(2) has said ECHILD twice.
    void end_all() {
        for (const Child& child : children_) {
            vmcow::sys::signal_group(child.pid, SIGKILL);
            vmcow::sys::signal_process(child.pid, SIGKILL);
        }
        const Deadline longest = Deadline::in(kLongestEnd);
        for (int without = 0; without < 2 && !longest.passed();) {
            for (const pid_t pid : own_children()) vmcow::sys::signal_process(pid, SIGKILL);
            pid_t reaped = 0;
            do {
                reaped = ::waitpid(-1, nullptr, WNOHANG | __WALL);
            } while (reaped > 0);
            without = reaped < 0 && errno == ECHILD ? without + 1 : 0;
            if (without > 0) continue;
            ended_->drain();
            pollfd ended{ended_->fd(), POLLIN, 0};
            poll_or_sleep({&ended, 1}, Deadline::in(kNextTry));
        }
    }

    pipes::MessageSocket socket_;
    UniqueFd caller_;
    const WorkerConfig& config_;
    std::optional<vmcow::sys::SignalDescriptor> ended_;  // closed in children
    std::vector<Child> children_;
    std::deque<Unsent> unsent_;
    bool reap_again_ = false;
    int failures_ = 0;
    unsigned refusals_ = 0;  // of recv(2) or recvmsg(2), in a row
};

}  // namespace

int zygote_main(ZygoteEnds ends, const WorkerConfig& config, bool is_keeper) noexcept {
    try {
        vmcow::sys::name_thread(is_keeper ? "vmcow-keeper" : "vmcow-zygote");
        static_cast<void>(vmcow::sys::adopt_orphans());
        // A zygote that is stopped has to go on when its parent ends: only then it sees that the caller has ended, too.
        vmcow::sys::signal_at_end_of_parent(SIGCONT);
        return ZygoteServer(std::move(ends), config).run();
    } catch (const std::exception&) {
        return 1;  // the caller sees that this process has ended, and asks for another zygote
    }
}

}  // namespace procrun::detail
