#include <csignal>

#include "procrun/pipeline.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

bool ended_well(std::span<const StageReport> stages, std::size_t index) {
    return stages[index].outcome.ok() || is_excused(stages, index);
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
            return 1;
    }
    vmcow::sys::assert_failed("OutcomeKind is one of its enumerators", __FILE__, __LINE__);
}

}  // namespace

bool is_excused(std::span<const StageReport> stages, std::size_t index) {
    const Outcome& outcome = stages[index].outcome;
    const bool broken_pipe = outcome.kind == OutcomeKind::signaled && outcome.code == SIGPIPE;
    return broken_pipe && index + 1 < stages.size() && ended_well(stages, index + 1);
}

int status_of(std::span<const StageReport> stages) {
    for (std::size_t i = stages.size(); i-- > 0;) {
        if (!ended_well(stages, i)) return exit_status_of(stages[i].outcome);
    }
    return 0;
}

}  // namespace procrun
