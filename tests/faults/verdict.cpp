#include "tests/faults/verdict.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace faults {
namespace {

constexpr std::array<std::string_view, kOutcomes> kNames = {"right",   "said",  "killed", "not reached", "wrong",
                                                            "unclear", "crash", "hang",   "left"};

// Signals that a program gets from its own failed assertion or from the hardware.
constexpr std::array<std::string_view, 7> kCrashes = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE",
                                                      "SIGILL",  "SIGSYS",  "SIGTRAP"};

std::string first_line(std::string_view text) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    return std::string(text.substr(0, end));
}

const ProcessEnd* find_crash(const Scenario& scenario, const Trial& trial) {
    for (const ProcessEnd& end : trial.violent) {
        const bool is_crash = std::find(kCrashes.begin(), kCrashes.end(), end.signal) != kCrashes.end();
        if (is_crash && scenario.signals.count(end.signal) == 0) return &end;
    }
    return nullptr;
}

bool is_right(const Scenario& scenario, const Trial& trial, const std::string& right_output) {
    if (scenario.same_output && trial.out != right_output) return false;
    return std::all_of(scenario.expected.begin(), scenario.expected.end(),
                       [&](const std::regex& each) { return std::regex_search(trial.out, each); });
}

Verdict judge_failure(const Scenario& scenario, const Trial& trial) {
    const auto lines = std::count(trial.err.begin(), trial.err.end(), '\n');
    const std::string said = fmt::format("status {}: {}", trial.end->status, first_line(trial.err));
    const bool needs_line = scenario.silent_statuses.count(trial.end->status) == 0 && !trial.mute;
    if (lines == 0 && needs_line) return {Outcome::unclear, fmt::format("status {} without a line", trial.end->status)};
    if (scenario.statuses.count(trial.end->status) == 0) return {Outcome::unclear, said};
    if (lines > scenario.most_lines) return {Outcome::unclear, fmt::format("{} lines, {}", lines, said)};
    return {Outcome::said, said};
}

}  // namespace

std::string_view name_of(Outcome outcome) noexcept { return kNames.at(static_cast<std::size_t>(outcome)); }

bool is_bad(Outcome outcome) noexcept { return outcome >= Outcome::wrong; }

Verdict judge(const Scenario& scenario, const Trial& trial, const std::string& right_output) {
    const std::string err = first_line(trial.err);
    if (const ProcessEnd* const crash = find_crash(scenario, trial)) {
        return {Outcome::crash, fmt::format("{}: {}", crash->signal, err)};
    }
    if (trial.hung) return {Outcome::hang, err};
    if (!trial.end) return {Outcome::unclear, "strace has lost it: " + err, true};
    if (!trial.left.empty()) return {Outcome::left, fmt::format("{}; {}", fmt::join(trial.left, ", "), err)};
    if (!trial.damaged.empty()) {
        return {Outcome::wrong, fmt::format("not whole: {}; {}", fmt::join(trial.damaged, ", "), err)};
    }
    if (!trial.reached) return {Outcome::not_reached, ""};
    if (trial.end->signal == "SIGKILL") return {Outcome::killed, ""};
    if (!trial.end->signal.empty()) return {Outcome::unclear, trial.end->signal + ": " + err};
    if (trial.end->status != 0) return judge_failure(scenario, trial);
    if (!is_right(scenario, trial, right_output)) return {Outcome::wrong, first_line(trial.out) + " | " + err};
    return {Outcome::right, err};
}

}  // namespace faults
