#include "procrun/program/program_child.hpp"

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

// Widens integers to long: a variadic int leaves the upper half of its register undefined, and some calls read it.
template <class T>
auto register_of(T value) noexcept {
    if constexpr (std::is_integral_v<T>) {
        return static_cast<long>(value);
    } else {
        return value;
    }
}

// Makes the bare system call. Libc's wrappers of close, fcntl and write are cancellation points, and a thread that was
// asked to end would unwind in the child. The wrappers of the sanitizers take locks that another thread may have held.
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
    // If the parent ended before the call above, no signal will come.
    if (call(SYS_getppid) != plan.parent) static_cast<void>(syscall(SYS_exit_group, kNotStartedStatus));
}

void take_terminal(const ChildPlan& plan) noexcept {
    // For a background group the kernel answers with SIGTTOU, which is blocked.
    const auto group = static_cast<pid_t>(call(SYS_getpgid, 0));
    require(call(SYS_ioctl, plan.terminal, TIOCSPGRP, &group), plan, StartStep::take_terminal);
}

// exec resets handlers, but a signal that is ignored stays ignored. This makes the raw system call, so that it also
// reaches the two signals that libc reserves.
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

// Duplicates every source that a target would overwrite before it fills the targets, so that any permutation works.
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

// Marks them close-on-exec instead of closing them: the program may be named by a descriptor, as in /proc/self/fd/7.
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

// Whether there is nothing to execute at `path`, as far as can be seen: a folder that may not be searched refuses with
// EACCES as well, and then it is unknown whether the file is there.
bool is_absent(const char* path, int error) noexcept {
    if (error == EACCES) return call(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    return error == ENOENT || error == ENOTDIR || error == ENODEV || error == ESTALE || error == ETIMEDOUT;
}

// Searches as execvp(3): passes over files that are absent, and remembers that a file is there and forbidden. Unlike
// execvp it does not hand a file that is no executable (ENOEXEC) to a shell.
[[noreturn]] void execute(const ChildPlan& plan) noexcept {
    int error = ENOENT;
    for (const char* const* path = plan.paths; *path != nullptr; ++path) {
        static_cast<void>(call(SYS_execve, *path, plan.argv, plan.environment));
        const int refusal = errno;
        if (is_absent(*path, refusal)) {
            // A single path is reported with its errno. Of several paths, an absent one says nothing about the others.
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
