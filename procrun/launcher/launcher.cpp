#include "procrun/launcher.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "procrun/launcher/launcher_process.hpp"
#include "procrun/launcher/launcher_request.hpp"
#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/program.hpp"
#include "procrun/program/program_child.hpp"
#include "procrun/program/program_start.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using detail::LauncherProcess;
using detail::LaunchResult;
using vmcow::sys::throw_error;

namespace {

// The flags of a descriptor; nullopt when it is closed. Throws any other error, because it does not tell which it is.
std::optional<int> flags_of(int fd) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags != -1) return flags;
    if (errno != EBADF) vmcow::sys::throw_errno(fmt::format("fcntl F_GETFD of descriptor {} for a program", fd));
    return std::nullopt;
}

bool is_open(int fd) { return flags_of(fd).has_value(); }
bool survives_exec(int fd) { return (flags_of(fd).value_or(FD_CLOEXEC) & FD_CLOEXEC) == 0; }

// Adds the descriptors that a child inherits without being named: 0, 1 and 2, as they are now.
std::vector<DescriptorMove> with_standard_descriptors(std::span<const DescriptorMove> named) {
    std::vector<DescriptorMove> moves(named.begin(), named.end());
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        const auto has_target = [fd](const DescriptorMove& move) { return move.target == fd; };
        if (std::none_of(named.begin(), named.end(), has_target) && survives_exec(fd)) moves.push_back({fd, fd});
    }
    std::sort(moves.begin(), moves.end(),
              [](const DescriptorMove& a, const DescriptorMove& b) { return a.target < b.target; });
    return moves;
}

// Finds a closed descriptor first: the kernel refuses a message with one as a whole, and does not say which it is.
std::optional<StartFailure> find_closed(const ChildPlan& plan) {
    if (plan.terminal >= 0 && !is_open(plan.terminal)) return StartFailure{StartStep::take_terminal, EBADF};
    for (const DescriptorMove& move : plan.moves) {
        if (!is_open(move.source)) return StartFailure{StartStep::place_descriptor, EBADF, move.target};
    }
    return std::nullopt;
}

// What a child of this process would inherit and a child of the launcher does not; `complete` puts it into the plan.
// The limits are those that this process has changed since the launcher's start, and then those of the program.
struct Inherited {
    Inherited(const ChildPlan& plan, const LauncherProcess& launcher)
        : moves(with_standard_descriptors(plan.moves)), limits(launcher.changed_limits()), process_group(getpgrp()) {
        limits.insert(limits.end(), plan.limits.begin(), plan.limits.end());
    }
    void complete(ChildPlan& plan) {
        plan.moves = moves;
        plan.limits = limits;
        // 0: the group has no number in this pid namespace. The launcher has not left that group, so the child has it.
        if (plan.process_group == nullptr && process_group != 0) plan.process_group = &process_group;
    }

    std::vector<DescriptorMove> moves;
    std::vector<ResourceLimit> limits;
    pid_t process_group;
};

}  // namespace

Launcher::Launcher(LauncherKind wanted) : kind_(wanted) {
    if (wanted == LauncherKind::small_process) replace();
}

Launcher::~Launcher() = default;

// Never destroyed: a program may still be started while this process ends. No local static, whose first use is a lock
// too: the thread that initialises it would wait for the fork lock, and a thread with the fork lock for that thread.
Launcher& Launcher::shared() {
    static std::atomic<Launcher*> shared_launcher{nullptr};
    if (Launcher* const made = shared_launcher.load(std::memory_order_acquire)) return *made;
    const std::scoped_lock forks(vmcow::fork_lock());
    if (Launcher* const made = shared_launcher.load(std::memory_order_acquire)) return *made;
    auto* const launcher = new Launcher;
    static_cast<void>(std::atexit([] { shared().end_unless_watching(); }));
    shared_launcher.store(launcher, std::memory_order_release);
    return *launcher;
}

// The launcher would end by itself after this process, but not every init process would reap it.
void Launcher::end_unless_watching() noexcept {
    std::unique_ptr<LauncherProcess> ending;  // its destructor takes the fork lock, so it runs after `lock` is released
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock && !watches_) ending = std::move(process_);
}

LauncherKind Launcher::kind() const {
    const std::lock_guard lock(mutex_);
    return kind_;
}

std::string Launcher::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

pid_t Launcher::pid() const {
    const std::lock_guard lock(mutex_);
    return process_ ? process_->pid() : -1;
}

void Launcher::replace() {
    process_.reset();
    auto started = LauncherProcess::start();
    if (auto* refusal = std::get_if<std::string>(&started)) {
        kind_ = LauncherKind::fork;
        refusal_ = std::move(*refusal);
        return;
    }
    process_ = std::get<std::unique_ptr<LauncherProcess>>(std::move(started));
}

bool Launcher::is_usable() const { return process_ && process_->serves_this_process(); }

void Launcher::replace_unusable(std::unique_lock<std::mutex>& lock) {
    if (is_usable()) return;
    lock.unlock();
    const std::scoped_lock forks(vmcow::fork_lock());
    lock.lock();
    // Another thread may have done it meanwhile, or found that the kernel refuses it.
    if (kind_ == LauncherKind::small_process && !is_usable()) replace();
}

std::optional<Launcher::Started> Launcher::start(const ChildPlan& plan, bool watched) {
    std::unique_lock lock(mutex_);
    constexpr int kAttempts = 3;  // a launcher may be killed between the check and the request
    for (int attempt = 0; attempt < kAttempts && kind_ == LauncherKind::small_process; ++attempt) {
        replace_unusable(lock);
        if (!process_) break;
        if (auto started = ask(plan, watched)) return started;
    }
    if (kind_ == LauncherKind::fork) return std::nullopt;
    throw_error(EPIPE, fmt::format("start '{}': {} launchers ended before they started it", plan.argv[0], kAttempts));
}

std::optional<Launcher::Started> Launcher::ask(ChildPlan plan, bool watched) {
    Inherited inherited(plan, *process_);
    inherited.complete(plan);
    if (const auto failure = find_closed(plan)) return detail::outcome_of(*failure, plan);

    detail::LaunchRequest request;
    request.watched = watched;
    request.death_signal = watched && process_->is_of_main_thread();
    watches_ = watches_ || watched;
    auto answer = process_->ask(detail::write_request(plan, request));
    if (!answer) return std::nullopt;
    const StartFailure& failure = answer->reply.failure;
    switch (answer->reply.result) {
        case LaunchResult::started:
            VMCOW_ASSERT(answer->process && "I4: a program that runs has an owner here");
            return std::move(answer->process);
        case LaunchResult::not_started:
            return detail::outcome_of(failure, plan);  // the destructor of answer->process reaps the child
        case LaunchResult::refused:
            throw_error(failure.error, fmt::format("clone by the launcher for '{}'", plan.argv[0]));
    }
    vmcow::sys::assert_failed("LaunchResult is one of its enumerators", __FILE__, __LINE__);
}

std::variant<Process, Outcome> Program::start(Launcher& launcher) const {
    auto plan = this->plan();
    if (auto* refusal = std::get_if<Outcome>(&plan)) return std::move(*refusal);
    const ChildPlan child = std::get<detail::ProgramPlan>(plan).for_child();
    if (auto started = launcher.start(child, die_with_parent_)) return *std::move(started);
    return start();
}

}  // namespace procrun
