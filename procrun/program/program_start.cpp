#include "procrun/program/program_start.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun::detail {
namespace {

std::string describe_move(const ChildPlan& plan, int target) {
    const auto move = std::find_if(plan.moves.begin(), plan.moves.end(),
                                   [target](const DescriptorMove& each) { return each.target == target; });
    VMCOW_ASSERT(move != plan.moves.end());
    return fmt::format("descriptor {} from {}", target, move->source);
}

std::string describe_step(const StartFailure& failure, const ChildPlan& plan) {
    switch (failure.step) {
        case StartStep::die_with_parent:
            return "prctl PR_SET_PDEATHSIG";
        case StartStep::set_process_group:
            return fmt::format("setpgid {}", *plan.process_group);
        case StartStep::take_terminal:
            return fmt::format("tcsetpgrp of descriptor {}", plan.terminal);
        case StartStep::reset_signals:
            return "rt_sigaction";
        case StartStep::change_directory:
            return fmt::format("chdir '{}'", plan.directory);
        case StartStep::place_descriptor:
            return describe_move(plan, failure.subject);
        case StartStep::hide_descriptors:
            return "close_range CLOSE_RANGE_CLOEXEC";
        case StartStep::set_limit:
            return fmt::format("setrlimit of resource {}", failure.subject);
        case StartStep::unblock_signals:
            return "rt_sigprocmask";
        case StartStep::execute:
            return fmt::format("execve '{}'", plan.argv[0]);
    }
    vmcow::sys::assert_failed("StartStep is one of its enumerators", __FILE__, __LINE__);
}

}  // namespace

ChildPlan ProgramPlan::for_child() noexcept {
    return {.argv = argv_pointers.data(),
            .environment = environment_pointers.data(),
            .paths = path_pointers.data(),
            .directory = directory,
            .process_group = process_group ? &*process_group : nullptr,
            .parent = getpid(),
            .terminal = terminal,
            .ignored_signals = ignored_signals(),
            .moves = moves,
            .limits = limits};
}

std::uint64_t ignored_signals() noexcept {
    constexpr std::array kForAll{SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
    std::uint64_t ignored = 0;
    for (const int number : kForAll) {
        if (vmcow::sys::is_ignored(number)) ignored |= signal_bit(number);
    }
    return ignored;
}

Outcome outcome_of(const StartFailure& failure, const ChildPlan& plan) {
    return {.kind = OutcomeKind::not_started, .code = failure.error, .text = describe_step(failure, plan)};
}

}  // namespace procrun::detail
