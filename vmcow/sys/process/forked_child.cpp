#include "vmcow/sys/process/forked_child.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace vmcow::sys {

ForkedChild::ForkedChild(const std::function<int()>& body) {
    static_cast<void>(std::fflush(nullptr));  // otherwise the child would write it a second time
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw_errno("fork");
    if (pid_ > 0) return;
    if (!die_with_parent(parent)) ::_exit(1);
    ::_exit(body());
}

ForkedChild::ForkedChild(ForkedChild&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ForkedChild::~ForkedChild() {
    if (pid_ < 0 || !owner_.is_this_process()) return;
    // A child that could not be killed may never end, so it is not waited for. It dies with this process
    // (PR_SET_PDEATHSIG).
    if (try_signal_process(pid_, SIGKILL) != 0) {
        static_cast<void>(::waitpid(std::exchange(pid_, -1), nullptr, WNOHANG));
        return;
    }
    static_cast<void>(wait());
}

std::optional<int> ForkedChild::wait() noexcept {
    int status = 0;
    const pid_t pid = std::exchange(pid_, -1);
    const pid_t reaped = retry_interrupted([&]() noexcept { return ::waitpid(pid, &status, 0); });
    return reaped == pid && pid > 0 ? std::optional(status) : std::nullopt;
}

}  // namespace vmcow::sys
