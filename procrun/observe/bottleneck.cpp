#include "procrun/observe/bottleneck.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

using Kind = Bottleneck::Kind;

constexpr double kSame = 0.05;        // shares that differ by less count as equal: they are no more precise
constexpr double kMost = 0.5;         // the least share of the time for which one thing holds up a pipeline
constexpr double kWorthSaying = 0.1;  // smaller shares explain nothing

/// One of the things that may hold a pipeline up, and for which share of the pipeline's time it does.
struct Candidate {
    Kind kind = Kind::stage;
    std::size_t stage = 0;  // for the input and the output, the stage that waits for it
    double share = 0;
};

std::string percent(double share) { return fmt::format("{:.0f} %", share * 100); }

std::string call_it(std::span<const StageLoad> stages, std::size_t index) {
    return fmt::format("stage {} `{}`", index + 1, stages[index].name);
}

double life_of_all(std::span<const StageLoad> stages) {
    double life = 0;
    for (const StageLoad& stage : stages) life = std::max(life, stage.shares.life_seconds);
    return life;
}

bool is_known(const StageShares& shares) {
    return shares.running && shares.blocked_read && shares.blocked_write && shares.waiting;
}

/// Why no bottleneck can be named; empty when one can. A stage with a short life may be unknown.
std::string why_unknown(std::span<const StageLoad> stages) {
    const double life = life_of_all(stages);
    if (life <= 0) return "unknown: no stage has been looked at";
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const StageShares& shares = stages[i].shares;
        if (is_known(shares) || shares.life_seconds / life < kWorthSaying) continue;
        if (shares.looks < kFewestLooks && shares.looks > 0) {
            return fmt::format("too short to tell: {} could be looked at only {} {} in {:.3f} s", call_it(stages, i),
                               shares.looks, shares.looks == 1 ? "time" : "times", shares.life_seconds);
        }
        return fmt::format("unknown: what {} did could not be seen", call_it(stages, i));
    }
    return {};
}

std::vector<Candidate> candidates_of(std::span<const StageLoad> stages) {
    std::vector<Candidate> candidates;
    const double life = life_of_all(stages);
    const auto part = [&](std::size_t index, double share) { return share * stages[index].shares.life_seconds / life; };
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const StageShares& shares = stages[i].shares;
        const double own = shares.running.value_or(0) + shares.waiting.value_or(0);
        candidates.push_back({.kind = Kind::stage, .stage = i, .share = part(i, own)});
    }
    const std::size_t last = stages.size() - 1;
    candidates.push_back(
        {.kind = Kind::input, .stage = 0, .share = part(0, stages[0].shares.blocked_read.value_or(0))});
    candidates.push_back(
        {.kind = Kind::output, .stage = last, .share = part(last, stages[last].shares.blocked_write.value_or(0))});
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.share > b.share; });
    return candidates;
}

/// As in "running 97 % of the time".
std::string say_what_it_did(const StageShares& shares) {
    const double running = shares.running.value_or(0);
    const double waiting = shares.waiting.value_or(0);
    if (waiting < kWorthSaying) return fmt::format("running {} of the time", percent(running));
    if (running < kWorthSaying) {
        return fmt::format("waiting for something other than its neighbours {} of the time", percent(waiting));
    }
    return fmt::format("running {} of the time and waiting for something other than its neighbours {}",
                       percent(running), percent(waiting));
}

/// As in " while stage 2 waited to write 81 %"; empty when no neighbour waited.
std::string say_who_waited(std::span<const StageLoad> stages, std::size_t index) {
    const double before = index > 0 ? stages[index - 1].shares.blocked_write.value_or(0) : 0;
    const double after = index + 1 < stages.size() ? stages[index + 1].shares.blocked_read.value_or(0) : 0;
    std::string text;
    if (before >= kWorthSaying) text = fmt::format(" while stage {} waited to write {}", index, percent(before));
    if (after >= kWorthSaying) {
        text +=
            fmt::format("{} stage {} waited to read {}", text.empty() ? " while" : " and", index + 2, percent(after));
    }
    return text;
}

std::string say_it(std::span<const StageLoad> stages, const Candidate& first) {
    const StageShares& shares = stages[first.stage].shares;
    switch (first.kind) {
        case Kind::input:
            return fmt::format("what the first stage reads is the bottleneck: {} waited for it {} of the time",
                               call_it(stages, first.stage), percent(shares.blocked_read.value_or(0)));
        case Kind::output:
            return fmt::format(
                "what takes the last stage's output is the bottleneck: {} waited to write {} of the time",
                call_it(stages, first.stage), percent(shares.blocked_write.value_or(0)));
        default:
            return fmt::format("{} is {}: {}{}", call_it(stages, first.stage),
                               stages.size() == 1 ? "the only one" : "the bottleneck", say_what_it_did(shares),
                               say_who_waited(stages, first.stage));
    }
}

std::string name_of(std::span<const StageLoad> stages, const Candidate& candidate) {
    if (candidate.kind == Kind::input) return "what the first stage reads";
    if (candidate.kind == Kind::output) return "what takes the last stage's output";
    return call_it(stages, candidate.stage);
}

/// Names those that are equally busy: "none: stage 1 `a` and stage 3 `c` are equally busy, 88 % and 86 % of the time".
std::string say_they_are_equal(std::span<const StageLoad> stages, std::span<const Candidate> equals) {
    std::string names;
    std::string shares;
    for (std::size_t i = 0; i < equals.size(); ++i) {
        const char* const joint = i == 0 ? "" : i + 1 == equals.size() ? " and " : ", ";
        names += joint + name_of(stages, equals[i]);
        shares += joint + percent(equals[i].share);
    }
    return fmt::format("none: {} are equally busy, {} of the time", names, shares);
}

}  // namespace

Bottleneck find_bottleneck(std::span<const StageLoad> stages) {
    VMCOW_ASSERT(!stages.empty() && "a pipeline has a stage");
    if (std::string why = why_unknown(stages); !why.empty()) return {.kind = Kind::unknown, .stage = {}, .reason = why};
    const std::vector<Candidate> candidates = candidates_of(stages);
    const Candidate& first = candidates.front();
    const auto other = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const Candidate& one) { return one.share <= first.share - kSame; });
    const auto equals = static_cast<std::size_t>(other - candidates.begin());
    if (first.share < kMost) {
        return {.kind = Kind::none,
                .stage = {},
                .reason = fmt::format("none: they held one another up in turns, {} the longest, {} of the time",
                                      name_of(stages, first), percent(first.share))};
    }
    if (equals > 1) {
        return {
            .kind = Kind::none, .stage = {}, .reason = say_they_are_equal(stages, std::span(candidates).first(equals))};
    }
    const bool is_stage = first.kind == Kind::stage;
    return {.kind = first.kind,
            .stage = is_stage ? std::optional(first.stage) : std::nullopt,
            .reason = say_it(stages, first)};
}

}  // namespace procrun
