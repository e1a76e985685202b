#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "vmcow/sys/process/signal_process.hpp"

namespace tests {

/// A child that does nothing until it is killed, at the latest by this object's destructor.
class IdleChild {
public:
    IdleChild() : pid_(::fork()) {
        while (pid_ == 0) ::pause();
    }
    IdleChild(const IdleChild&) = delete;
    IdleChild& operator=(const IdleChild&) = delete;
    ~IdleChild() {
        kill();
        reap();
    }

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Kills the child, and returns when it is a zombie.
    void kill() noexcept {
        if (pid_ <= 0) return;
        vmcow::sys::signal_process(pid_, SIGKILL);
        siginfo_t info{};
        ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
    }
    /// Pre: it was killed. Reaps the child and returns its number, which no process has then.
    pid_t reap() noexcept {
        if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
        return std::exchange(pid_, -1);
    }

private:
    pid_t pid_;
};

/// The number of a process that has just been reaped.
[[nodiscard]] inline pid_t reaped_process() {
    IdleChild child;
    child.kill();
    return child.reap();
}

}  // namespace tests
