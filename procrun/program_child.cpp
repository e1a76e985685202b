#include "procrun/program_child.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

constexpr int kLastStandardFd = 2;
constexpr int kNotStartedStatus = 127;
constexpr std::size_t kKernelSigsetBytes = 8;  // _NSIG / 8 in the kernel
constexpr int kLastSignal = 64;

// A variadic int leaves the upper half of its register undefined, and some calls take all of it.
template <class T>
auto register_of(T value) noexcept {
    if constexpr (std::is_integral_v<T>) {
        return static_cast<long>(value);
    } else {
        return value;
    }
}

// The system call and nothing else. Libc's wrappers of close, fcntl and write are cancellation points, and a thread
// that was asked to end would unwind in the child; the sanitizers' wrappers take locks that another thread may have
// held.
template <class... Args>
long call(long number, Args... args) noexcept {
    return vmcow::sys::retry_interrupted([&]() noexcept { return syscall(number, register_of(args)...); });
}

[[noreturn]] void give_up(const ChildPlan& plan, StartFailure failure) noexcept {
    if (plan.failure != nullptr) {
        *plan.failure = failure;
    } else {
        static_cast<void>(call(SYS_write, plan.error_fd, &failure, sizeof failure));
    }
    for (;;) static_cast<void>(syscall(SYS_exit_group, kNotStartedStatus));
}

void require(long result, const ChildPlan& plan, StartStep step, int subject = -1) noexcept {
    if (result < 0) give_up(plan, {.step = step, .error = errno, .subject = subject});
}

bool is_target(int fd, std::span<const DescriptorMove> moves) noexcept {
    return std::any_of(moves.begin(), moves.end(), [fd](const DescriptorMove& move) { return move.target == fd; });
}

void arm_parent_death(const ChildPlan& plan) noexcept {
    require(call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), plan, StartStep::die_with_parent);
    // A parent that ended before the line above sent nothing.
    if (call(SYS_getppid) != plan.parent) static_cast<void>(syscall(SYS_exit_group, kNotStartedStatus));
}

void take_terminal(const ChildPlan& plan) noexcept {
    // From a group in the background this is SIGTTOU, which is blocked.
    const auto group = static_cast<pid_t>(call(SYS_getpgid, 0));
    require(call(SYS_ioctl, plan.terminal, TIOCSPGRP, &group), plan, StartStep::take_terminal);
}

// exec resets handlers but keeps what is ignored. Raw, so that it also reaches the two signals that libc reserves.
void reset_signals(const ChildPlan& plan) noexcept {
    struct KernelAction {
        std::uintptr_t handler;
        std::array<std::uint64_t, 3> flags_restorer_mask;
    };
    constexpr KernelAction kDefaultAction{};      // SIG_DFL, no flags
    constexpr KernelAction kIgnoreAction{1, {}};  // SIG_IGN
    for (int number = 1; number <= kLastSignal; ++number) {
        if (number == SIGKILL || number == SIGSTOP) continue;
        const bool ignored = (plan.ignored_signals & signal_bit(number)) != 0;
        if (!ignored && plan.signals_are_default) continue;
        const KernelAction* action = ignored ? &kIgnoreAction : &kDefaultAction;
        require(call(SYS_rt_sigaction, number, action, nullptr, kKernelSigsetBytes), plan, StartStep::reset_signals);
    }
}

void unblock_signals(const ChildPlan& plan) noexcept {
    constexpr std::uint64_t kNone = 0;
    require(call(SYS_rt_sigprocmask, SIG_SETMASK, &kNone, nullptr, kKernelSigsetBytes), plan,
            StartStep::unblock_signals);
}

// First every source that a target would overwrite gets out of the way, then each goes to its place: any permutation.
void place_descriptors(const ChildPlan& plan) noexcept {
    for (DescriptorMove& move : plan.moves) {
        if (move.source == move.target || !is_target(move.source, plan.moves)) continue;
        const int aside = duplicate_beside(move.source, plan.moves);
        require(aside, plan, StartStep::place_descriptor, move.target);
        move.source = aside;
    }
    for (const DescriptorMove& move : plan.moves) {
        // dup3(x, x) is refused and dup2(x, x) keeps close-on-exec.
        const long result = move.source == move.target ? call(SYS_fcntl, move.target, F_SETFD, 0)
                                                       : call(SYS_dup3, move.source, move.target, 0);
        require(result, plan, StartStep::place_descriptor, move.target);
    }
}

void hide_range(const ChildPlan& plan, unsigned first, unsigned last) noexcept {
    if (first > last) return;
    require(call(SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC), plan, StartStep::hide_descriptors);
}

// Marked and not closed: the program may be named by its descriptor, as in /proc/self/fd/7.
void hide_descriptors(const ChildPlan& plan) noexcept {
    unsigned next = kLastStandardFd + 1;
    for (const DescriptorMove& move : plan.moves) {
        if (move.target <= kLastStandardFd) continue;
        const auto target = static_cast<unsigned>(move.target);
        hide_range(plan, next, target - 1);
        next = target + 1;
    }
    hide_range(plan, next, std::numeric_limits<unsigned>::max());
}

void set_limits(const ChildPlan& plan) noexcept {
    for (const ResourceLimit& limit : plan.limits) {
        require(call(SYS_prlimit64, 0, limit.resource, &limit.value, nullptr), plan, StartStep::set_limit,
                limit.resource);
    }
}

// Whether there is nothing to execute at `path`, as far as we can see: a folder that we may not search refuses with
// EACCES too, and says nothing of what is in it.
bool is_absent(const char* path, int error) noexcept {
    if (error == EACCES) return call(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    return error == ENOENT || error == ENOTDIR || error == ENODEV || error == ESTALE || error == ETIMEDOUT;
}

// As execvp(3) searches: what is not there is passed over, what is there and forbidden is remembered. Unlike it, a file
// that is no executable (ENOEXEC) is not handed to a shell.
[[noreturn]] void execute(const ChildPlan& plan) noexcept {
    int error = ENOENT;
    for (const char* const* path = plan.paths; *path != nullptr; ++path) {
        static_cast<void>(call(SYS_execve, *path, plan.argv, plan.environment));
        const int refusal = errno;
        if (is_absent(*path, refusal)) {
            // One path is reported as it is; one of many that is merely absent says nothing about the others.
            if (path == plan.paths) error = plan.paths[1] == nullptr ? refusal : ENOENT;
            continue;
        }
        error = refusal;
        if (refusal != EACCES) break;
    }
    give_up(plan, {.step = StartStep::execute, .error = error});
}

}  // namespace

int duplicate_beside(int fd, std::span<const DescriptorMove> moves) noexcept {
    int lowest = kLastStandardFd + 1;
    for (;;) {
        const auto copy = static_cast<int>(call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest));
        if (copy < 0 && errno == EINVAL) errno = EMFILE;  // `lowest` has reached RLIMIT_NOFILE
        if (copy < 0 || !is_target(copy, moves)) return copy;
        static_cast<void>(syscall(SYS_close, copy));
        lowest = copy + 1;
    }
}

void run_child(const ChildPlan& plan) noexcept {
    if (plan.die_with_parent) arm_parent_death(plan);
    if (plan.process_group != nullptr) {
        require(call(SYS_setpgid, 0, *plan.process_group), plan, StartStep::set_process_group);
    }
    if (plan.terminal >= 0) take_terminal(plan);
    reset_signals(plan);
    if (plan.directory != nullptr) require(call(SYS_chdir, plan.directory), plan, StartStep::change_directory);
    place_descriptors(plan);
    hide_descriptors(plan);
    set_limits(plan);
    unblock_signals(plan);
    execute(plan);
}

}  // namespace procrun
