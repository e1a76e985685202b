#include "procrun/process/function_process.hpp"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun {
namespace {

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
    vmcow::sys::unblock_all_signals();
}

[[noreturn]] void run_child(pid_t parent, WithParent with_parent, const std::function<int()>& body) noexcept {
    const bool has_parent =
        with_parent == WithParent::ends ? vmcow::sys::die_with_parent(parent) : ::getppid() == parent;
    if (!has_parent) ::_exit(1);  // the caller died before prctl: no signal will tell
    drop_handlers();
    ::_exit(body());
}

}  // namespace

void require_sigchld(const std::string& what) {
    struct sigaction action {};
    ::sigaction(SIGCHLD, nullptr, &action);
    if (action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0) {
        vmcow::sys::throw_error(ECHILD, what + ": SIGCHLD is ignored, so a child's end would be lost: set SIG_DFL");
    }
}

Process fork_function_process(const std::function<int()>& body, WithParent with_parent) {
    require_sigchld("fork a function process");
    static_cast<void>(std::fflush(nullptr));  // an error here comes again at the next flush, where it is reported
    const pid_t parent = ::getpid();
    // In the child no handler of the caller may run before the child has reset its dispositions. In the caller no
    // handler of SIGCHLD may reap the child before there is a pidfd.
    const vmcow::sys::BlockedSignals blocked;
    const pid_t pid = ::fork();
    if (pid == 0) run_child(parent, with_parent, body);
    if (pid < 0) vmcow::sys::throw_errno("fork a function process");
    return {pid, vmcow::sys::open_pidfd_of_child(pid, "open a pidfd")};
}

}  // namespace procrun
