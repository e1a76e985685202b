#include "procrun/zygote_main.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/sys/error.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

/// Signals that a terminal sends to everybody: the caller decides what becomes of its function processes.
constexpr std::array kTerminalSignals{SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU};

void set_actions(void (*action)(int)) noexcept {
    for (const int number : kTerminalSignals) static_cast<void>(::signal(number, action));
}

/// The children of this process that the kernel knows of now.
std::vector<pid_t> children() {
    std::ifstream list("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    std::vector<pid_t> pids;
    for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
    return pids;
}

class Zygote {
public:
    Zygote(pipes::MessageSocket socket, const WorkerConfig& config) : socket_(std::move(socket)), config_(config) {
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        ::sigprocmask(SIG_BLOCK, &child, nullptr);
        ended_ = UniqueFd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
        if (!ended_) vmcow::sys::throw_errno("signalfd");
        set_actions(SIG_IGN);
    }

    int run() {
        while (true) {
            std::array<pollfd, 2> wanted{pollfd{socket_.fd().get(), POLLIN, 0}, pollfd{ended_.get(), POLLIN, 0}};
            if (::poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) return 1;
            if (wanted[1].revents != 0) reap();
            if (wanted[0].revents == 0) continue;
            std::optional<pipes::Message> message = socket_.receive();
            if (!message) break;
            answer(std::move(*message));
        }
        end_all();
        return 0;
    }

private:
    void answer(pipes::Message message) {
        ZygoteRequest request{};
        if (message.bytes.size() != sizeof(request)) return;
        std::memcpy(&request, message.bytes.data(), sizeof(request));
        const std::size_t wanted = request == ZygoteRequest::fork_worker ? 4 : 1;
        if (message.fds.size() != wanted) return;
        const pid_t zygote = ::getpid();
        const pid_t pid = ::fork();
        if (pid == 0) ::_exit(live(request, std::move(message.fds), zygote));
        ZygoteMessage said{.error = pid < 0 ? errno : 0, .pid = pid};
        UniqueFd pidfd;
        if (pid > 0) {
            children_.push_back(pid);
            ::setpgid(pid, pid);  // the child does the same; whoever comes first
            pidfd = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
            if (!pidfd) {
                said.error = errno;
                ::kill(pid, SIGKILL);
            }
        }
        const int number = pidfd.get();
        socket_.send(std::as_bytes(std::span(&said, 1)), std::span(&number, pidfd ? 1U : 0U));
    }

    /// The child's life.
    int live(ZygoteRequest request, std::vector<UniqueFd> fds, pid_t zygote) {
        static_cast<void>(socket_.take_fd());
        ended_.reset();
        if (request == ZygoteRequest::fork_zygote) {
            return zygote_main(pipes::MessageSocket(std::move(fds[0])), config_, false);
        }
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != zygote) return 1;
        ::setpgid(0, 0);
        set_actions(SIG_DFL);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        return worker_main({std::move(fds[0]), std::move(fds[1]), std::move(fds[2]), std::move(fds[3])}, config_);
    }

    void reap() {
        signalfd_siginfo drained{};
        while (::read(ended_.get(), &drained, sizeof(drained)) > 0) continue;
        siginfo_t info{};
        while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
            const pid_t pid = info.si_pid;
            const auto child = std::find(children_.begin(), children_.end(), pid);
            // Before it is reaped, while its number cannot be another's: what it has forked is in its group.
            if (child != children_.end()) ::kill(-pid, SIGKILL);
            ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
            if (child != children_.end()) {
                children_.erase(child);
                tell_end(info);
            }
            info = {};
        }
    }

    void tell_end(const siginfo_t& info) {
        const bool exited = info.si_code == CLD_EXITED;
        const ZygoteMessage said{.kind = ZygoteMessage::Kind::ended,
                                 .pid = info.si_pid,
                                 .end = exited ? OutcomeKind::exited : OutcomeKind::signaled,
                                 .code = info.si_status};
        socket_.send(std::as_bytes(std::span(&said, 1)), {});
    }

    /// The caller is gone. What has been left behind by workers is among this process's children if it adopts them.
    void end_all() {
        for (const pid_t pid : children_) {
            ::kill(-pid, SIGKILL);
            ::kill(pid, SIGKILL);
        }
        for (std::vector<pid_t> left = children(); !left.empty(); left = children()) {
            for (const pid_t pid : left) ::kill(pid, SIGKILL);
            ::waitpid(-1, nullptr, 0);
        }
        while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) continue;
    }

    pipes::MessageSocket socket_;
    const WorkerConfig& config_;
    UniqueFd ended_;
    std::vector<pid_t> children_;
};

}  // namespace

int zygote_main(pipes::MessageSocket socket, const WorkerConfig& config, bool adopts) noexcept {
    try {
        ::prctl(PR_SET_NAME, adopts ? "vmcow-keeper" : "vmcow-zygote");
        if (adopts) ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        return Zygote(std::move(socket), config).run();
    } catch (const std::exception&) {
        return 1;  // the caller sees the end of the connection, and asks for another zygote
    }
}

}  // namespace procrun::detail
