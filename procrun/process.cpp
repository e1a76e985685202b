#include "procrun/process.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "procrun/poll_until.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

namespace {

constexpr std::uint64_t kRusageUnitBytes = 1024;  // of ru_maxrss

double seconds_of(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

Outcome outcome_of(const siginfo_t& info) {
    const auto kind = info.si_code == CLD_EXITED ? OutcomeKind::exited : OutcomeKind::signaled;
    return {.kind = kind, .code = info.si_status, .text = {}};
}

ExitRecord record_of(const siginfo_t& info, const rusage& usage) {
    return {.outcome = outcome_of(info),
            .user_seconds = seconds_of(usage.ru_utime),
            .system_seconds = seconds_of(usage.ru_stime),
            .minor_faults = static_cast<std::uint64_t>(usage.ru_minflt),
            .major_faults = static_cast<std::uint64_t>(usage.ru_majflt),
            .max_resident_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * kRusageUnitBytes};
}

// -1 with errno, or 0. The system call itself, because libc's waitid drops the rusage, and wait4 takes a pid.
int reap(int pidfd, siginfo_t& info, rusage& usage) noexcept {
    return static_cast<int>(
        retry_interrupted([&]() noexcept { return syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED, &usage); }));
}

int send(int pidfd, int number) noexcept {
    return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0));
}

// For the destructor: nothing that goes wrong here can be told to anyone.
void end(const UniqueFd& pidfd) noexcept {
    if (!pidfd) return;
    siginfo_t info{};
    rusage usage{};
    static_cast<void>(send(pidfd.get(), SIGKILL));
    static_cast<void>(reap(pidfd.get(), info, usage));
}

}  // namespace

Process::Process(pid_t pid, UniqueFd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}

Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Process& Process::operator=(Process&& other) noexcept {
    if (this == &other) return *this;
    const UniqueFd ours = std::exchange(pidfd_, std::move(other.pidfd_));
    pid_ = std::exchange(other.pid_, -1);
    end(ours);
    return *this;
}

Process::~Process() { end(pidfd_); }

bool Process::signal(int number) {
    // The kernel takes a signal for a zombie and drops it; the caller wants to know that nobody got it.
    if (!pidfd_ || wait_ended(Deadline::at(Deadline::Clock::time_point::min()))) return false;
    if (send(pidfd_.get(), number) == 0) return true;
    if (errno == ESRCH) return false;
    throw_errno(fmt::format("pidfd_send_signal {} to process {}", number, pid_));
}

bool Process::wait_ended(Deadline deadline) const {
    VMCOW_ASSERT(pidfd_ && "a process to wait for");
    const std::string what = fmt::format("poll pidfd of process {}", pid_);
    std::array<pollfd, 1> entry{pollfd{.fd = pidfd_.get(), .events = POLLIN, .revents = 0}};
    if (poll_until(entry, deadline, what) == 0) return false;
    if ((entry.front().revents & POLLNVAL) != 0) throw_error(EBADF, what);
    return true;
}

std::optional<ExitRecord> Process::wait_until(Deadline deadline) {
    if (!wait_ended(deadline)) return std::nullopt;
    const UniqueFd pidfd = std::move(pidfd_);
    const pid_t pid = std::exchange(pid_, -1);
    siginfo_t info{};
    rusage usage{};
    if (reap(pidfd.get(), info, usage) == -1) throw_errno(fmt::format("waitid process {}", pid));
    return record_of(info, usage);
}

ExitRecord Process::wait() { return *wait_until(Deadline::never()); }

ExitRecord Process::kill_and_wait() {
    signal(SIGKILL);
    return wait();
}

}  // namespace procrun
