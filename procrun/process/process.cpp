#include "procrun/process.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/pidfd.hpp"

namespace procrun {

using vmcow::sys::retry_interrupted;
using vmcow::sys::send_signal;
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

/// How long the destructor waits for a child that it may not kill.
constexpr std::chrono::seconds kPatience{1};
/// The kernel has no reason to refuse waitid: its error is believed only after so many calls.
constexpr int kAttempts = 3;

// Returns 0 or an errno. Makes the system call itself, because libc's waitid drops the rusage, and wait4 takes a pid.
int reap(int pidfd, siginfo_t& info, rusage& usage) noexcept {
    int error = 0;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const auto waited =
            retry_interrupted([&]() noexcept { return syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED, &usage); });
        if (waited == 0) return 0;
        error = errno;
    }
    return error;
}

constexpr const char* kNotOurs = "wait for a process: it is the child of the process that this one was forked from";

}  // namespace

Process::Process(pid_t pid, UniqueFd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)), owner_(other.owner_) {}

Process& Process::operator=(Process&& other) noexcept {
    if (this == &other) return *this;
    Process before;
    before.pidfd_ = std::exchange(pidfd_, std::move(other.pidfd_));
    before.pid_ = std::exchange(pid_, std::exchange(other.pid_, -1));
    before.owner_ = std::exchange(owner_, other.owner_);
    return *this;
}

Process::~Process() { end(); }

// Nothing that goes wrong here can be reported to anyone. A child that may not be killed, such as a program with the
// rights of another user, gets kPatience to end by itself: it may have been told to end in another way.
void Process::end() noexcept {
    if (!pidfd_ || !owner_.is_this_process()) return;
    const UniqueFd pidfd = std::move(pidfd_);
    siginfo_t info{};
    rusage usage{};
    const int error = send_signal(pidfd.get(), SIGKILL);
    const bool ends = error == 0 || error == ESRCH || vmcow::sys::wait_for_end(pidfd.get(), kPatience);
    if (ends) static_cast<void>(reap(pidfd.get(), info, usage));
}

bool Process::signal(int number) {
    // The kernel accepts a signal for a zombie and drops it; the caller is to learn that nobody got it.
    if (!pidfd_ || !owner_.is_this_process()) return false;
    if (wait_ended(Deadline::at(Deadline::Clock::time_point::min()))) return false;
    const int error = send_signal(pidfd_.get(), number);
    if (error == 0) return true;
    if (error == ESRCH) return false;
    throw_error(error, fmt::format("pidfd_send_signal {} to process {}", number, pid_));
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
    if (!owner_.is_this_process()) throw_error(ECHILD, kNotOurs);
    if (!wait_ended(deadline)) return std::nullopt;
    const UniqueFd pidfd = std::move(pidfd_);
    const pid_t pid = std::exchange(pid_, -1);
    siginfo_t info{};
    rusage usage{};
    const int error = reap(pidfd.get(), info, usage);
    if (error == 0) return record_of(info, usage);
    if (error != ECHILD) throw_error(error, fmt::format("waitid process {}", pid));
    return ExitRecord{.outcome = {OutcomeKind::unknown, 0, "something else in this process has waited for it"}};
}

ExitRecord Process::wait() { return *wait_until(Deadline::never()); }

ExitRecord Process::kill_and_wait() {
    signal(SIGKILL);
    return wait();
}

}  // namespace procrun
