#include "procrun/launcher.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "procrun/launcher_process.hpp"
#include "procrun/launcher_request.hpp"
#include "procrun/program.hpp"
#include "procrun/program_start.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using detail::LauncherProcess;
using detail::LaunchResult;
using vmcow::sys::throw_error;

namespace {

bool is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

bool survives_exec(int fd) {
    const int flags = fcntl(fd, F_GETFD);
    return flags != -1 && (flags & FD_CLOEXEC) == 0;
}

// The descriptors that a child inherits without being told: 0, 1 and 2, as they are now.
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

// A message with a closed descriptor is refused as a whole, without saying which.
std::optional<StartFailure> find_closed(const ChildPlan& plan) {
    if (plan.terminal >= 0 && !is_open(plan.terminal)) return StartFailure{StartStep::take_terminal, EBADF};
    for (const DescriptorMove& move : plan.moves) {
        if (!is_open(move.source)) return StartFailure{StartStep::place_descriptor, EBADF, move.target};
    }
    return std::nullopt;
}

// What a child inherits from its parent, put into the plan because the launcher is in its place: of limits those that
// have changed since, and those of the program after them.
struct Inherited {
    Inherited(const ChildPlan& plan, const LauncherProcess& launcher)
        : moves(with_standard_descriptors(plan.moves)), limits(launcher.changed_limits()), process_group(getpgrp()) {
        limits.insert(limits.end(), plan.limits.begin(), plan.limits.end());
    }
    void complete(ChildPlan& plan) {
        plan.moves = moves;
        plan.limits = limits;
        // A group without a number in this pid namespace is one that the launcher has not left.
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

// Never destroyed: whoever starts a program while this process ends still can.
Launcher& Launcher::shared() {
    static Launcher* const launcher = [] {
        auto* const created = new Launcher;
        static_cast<void>(std::atexit([] { shared().end_unless_watching(); }));
        return created;
    }();
    return *launcher;
}

// It would end by itself with this process, but not every init reaps it then.
void Launcher::end_unless_watching() noexcept {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock && !watches_) process_.reset();
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

std::optional<Launcher::Started> Launcher::start(const ChildPlan& plan, bool watched) {
    const std::lock_guard lock(mutex_);
    constexpr int kAttempts = 3;  // a launcher may be killed between two lines
    for (int attempt = 0; attempt < kAttempts && kind_ == LauncherKind::small_process; ++attempt) {
        if (!process_ || !process_->serves_this_process()) replace();
        if (!process_) break;
        if (auto started = ask(plan, watched)) return started;
    }
    if (kind_ == LauncherKind::fork) return std::nullopt;
    throw_error(EPIPE, fmt::format("launchers end before they start '{}'", plan.argv[0]));
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
            return std::move(answer->process);
        case LaunchResult::not_started:
            return detail::outcome_of(failure, plan);  // its owner reaps what there is
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
