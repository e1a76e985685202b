#include "procrun/function_process.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "vmcow/sys/error.hpp"

namespace procrun {
namespace {

using vmcow::sys::UniqueFd;

/// Blocks every signal from here on: between fork and the child's own dispositions, none of the caller's handlers may
/// run.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_{};
};

void require_sigchld() {
    struct sigaction action {};
    ::sigaction(SIGCHLD, nullptr, &action);
    if (action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0) {
        vmcow::sys::throw_error(ECHILD, "fork a function process: SIGCHLD is ignored, so its end could not be known");
    }
}

// Async-signal-safe (I7).
void drop_handlers() noexcept {
    for (int number = 1; number < NSIG; ++number) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) != 0) continue;
        const bool ignored = action.sa_handler == SIG_IGN && number != SIGPIPE;
        if (ignored || action.sa_handler == SIG_DFL) continue;
        action = {};
        action.sa_handler = SIG_DFL;
        ::sigaction(number, &action, nullptr);
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_child(pid_t parent, WithParent with_parent, const std::function<int()>& body) noexcept {
    if (with_parent == WithParent::ends) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // the caller died before it could be noticed
    drop_handlers();
    ::_exit(body());
}

UniqueFd open_pidfd(pid_t pid) {
    UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd) {
        const int error = errno;
        ::kill(pid, SIGKILL);
        vmcow::sys::retry_interrupted([&] { return ::waitpid(pid, nullptr, 0); });
        vmcow::sys::throw_error(error, "open a pidfd");
    }
    return pidfd;
}

}  // namespace

Process fork_function_process(const std::function<int()>& body, WithParent with_parent) {
    require_sigchld();
    static_cast<void>(std::fflush(nullptr));  // what cannot be written now will be reported where it is flushed next
    const pid_t parent = ::getpid();
    pid_t pid = -1;
    {
        const SignalsBlocked blocked;
        pid = ::fork();
        if (pid == 0) run_child(parent, with_parent, body);
    }
    if (pid < 0) vmcow::sys::throw_errno("fork a function process");
    return {pid, open_pidfd(pid)};
}

}  // namespace procrun
