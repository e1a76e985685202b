#include "procrun/pipeline/pipeline_report.hpp"

#include <algorithm>
#include <csignal>
#include <vector>

#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

bool died_of_broken_pipe(const Outcome& outcome) {
    return outcome.kind == OutcomeKind::signaled && outcome.code == SIGPIPE;
}

/// Whether each stage ended well. Goes from the last stage to the first, because the readers of a stage come after it.
std::vector<bool> ended_well(std::span<const StageReport> stages) {
    std::vector<bool> well(stages.size());
    for (std::size_t i = stages.size(); i-- > 0;) {
        const std::vector<std::size_t>& readers = stages[i].readers;
        const bool excused = died_of_broken_pipe(stages[i].outcome) && !readers.empty() &&
                             std::all_of(readers.begin(), readers.end(), [&](std::size_t k) { return well[k]; });
        well[i] = stages[i].outcome.ok() || excused;
    }
    return well;
}

int exit_status_of(const Outcome& outcome) {
    switch (outcome.kind) {
        case OutcomeKind::exited:
            return outcome.code;
        case OutcomeKind::signaled:
            return 128 + outcome.code;
        case OutcomeKind::deadline_passed:
            return 124;
        case OutcomeKind::returned:
            return 0;
        case OutcomeKind::threw:
        case OutcomeKind::not_started:
        case OutcomeKind::limit_exceeded:
        case OutcomeKind::cancelled:
        case OutcomeKind::result_lost:
        case OutcomeKind::unknown:
            return 1;
    }
    vmcow::sys::assert_failed("OutcomeKind is one of its enumerators", __FILE__, __LINE__);
}

}  // namespace

bool is_excused(std::span<const StageReport> stages, std::size_t index) {
    return died_of_broken_pipe(stages[index].outcome) && ended_well(stages)[index];
}

int status_of(std::span<const StageReport> stages) {
    const std::vector<bool> well = ended_well(stages);
    for (std::size_t i = stages.size(); i-- > 0;) {
        if (!well[i]) return exit_status_of(stages[i].outcome);
    }
    return 0;
}

Bottleneck bottleneck_of(std::span<const StageReport> stages) {
    std::vector<StageLoad> loads;
    for (const StageReport& stage : stages) {
        const bool nameless = stage.name.empty() && !stage.argv.empty();
        loads.push_back({.name = nameless ? stage.argv.front() : stage.name, .shares = stage.shares});
    }
    return find_bottleneck(loads);
}

}  // namespace procrun
