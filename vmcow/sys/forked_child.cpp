#include "vmcow/sys/forked_child.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {

ForkedChild::ForkedChild(const std::function<int()>& body) {
    static_cast<void>(std::fflush(nullptr));  // or the child would write it a second time
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw_errno("fork");
    if (pid_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // it died before that could be noticed
    ::_exit(body());
}

ForkedChild::ForkedChild(ForkedChild&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ForkedChild::~ForkedChild() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    static_cast<void>(wait());
}

std::optional<int> ForkedChild::wait() noexcept {
    int status = 0;
    const pid_t pid = std::exchange(pid_, -1);
    const pid_t reaped = retry_interrupted([&]() noexcept { return ::waitpid(pid, &status, 0); });
    return reaped == pid && pid > 0 ? std::optional(status) : std::nullopt;
}

}  // namespace vmcow::sys
