#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "procrun/deadline.hpp"
#include "procrun/launcher.hpp"
#include "procrun/observe/stage_states.hpp"
#include "procrun/observe/transfer_meter.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/pipeline/stage_limit_watch.hpp"
#include "procrun/process.hpp"

namespace procrun {

/// What a stage is started with, in addition to its StageText.
struct StageStart {
    std::array<int, 3> standard{0, 1, 2};  ///< its descriptors 0, 1 and 2, as numbers of ours
    pid_t group = 0;                       ///< the process group that it joins; 0: one of its own
    int terminal_fd = -1;                  ///< the terminal that its group gets; -1: none
    int values = -1;                       ///< its end of a connection for values, as a number of ours; -1: none
    StageStreams streams{};                ///< what it reads and writes, to be looked into
    bool alone = false;                    ///< this process has one thread: what reaping adds to our counters is exact
};

/// One stage of a pipeline, from its start until it has been reaped.
///
/// Threads: one.
class StageProcess {
public:
    /// Starts a program. Returns the running stage, or why it never ran.
    /// Throws: std::system_error -- as Program::start.
    [[nodiscard]] static std::variant<StageProcess, Outcome> start(Launcher& launcher, const StageText& text,
                                                                   const StageStart& how);
    /// The stage of a process that was forked for it at `started`.
    [[nodiscard]] static StageProcess of_forked(Process process, const StageText& text, const StageStart& how,
                                                std::chrono::steady_clock::time_point started) {
        return {std::move(process), text, how, started};
    }

    [[nodiscard]] pid_t pid() const noexcept { return process_.pid(); }
    [[nodiscard]] int pidfd() const noexcept { return process_.pidfd(); }

    /// When the stage's limits have to be looked at next.
    [[nodiscard]] Deadline next_look() const;
    /// Kills the stage when it has exceeded a limit.
    void look_at_limits();
    /// Looks at what the stage does.
    void look_at_state(std::chrono::steady_clock::time_point now) { states_.look(now); }
    [[nodiscard]] const StageView& view() const noexcept { return states_.view(); }

    /// Notes that the stage is being stopped, by SIGTERM to its group. With `past_deadline`, its outcome will be
    /// deadline_passed, unless it has ended already.
    void told_to_stop(bool past_deadline);
    void kill();

    /// Reaps the stage, and reports how it ended.
    /// Pre:    the stage has ended.
    /// Throws: std::system_error -- ECHILD.
    void reap(StageReport& report);

private:
    StageProcess(Process process, const StageText& text, const StageStart& how,
                 std::chrono::steady_clock::time_point started);
    [[nodiscard]] Outcome outcome_of(ExitRecord& record, std::optional<std::uint64_t> written) const;

    Process process_;
    TransferMeter transferred_;
    StageLimitWatch limits_;
    StageStates states_;
    std::chrono::steady_clock::time_point started_;
    std::optional<std::string> exceeded_;
    bool alone_ = false;
    bool peak_is_own_ = true;
    bool past_deadline_ = false;
    int last_signal_ = 0;
};

}  // namespace procrun
