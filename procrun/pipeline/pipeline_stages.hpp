#pragma once

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "procrun/observe/look_pace.hpp"
#include "procrun/observe/pipeline_sample.hpp"
#include "procrun/pipeline/pipeline_options.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/stage_process.hpp"
#include "procrun/pipeline/stray_processes.hpp"
#include "procrun/pipeline/terminal_job.hpp"

namespace procrun {

/// A descriptor that is waited for in addition to the stages. `attend` is called when `fd` is ready for one of `events`
/// or was hung up; it sets `fd` to -1 when nothing more will come.
struct Attended {
    int fd = -1;
    std::function<void(Attended&)> attend;
    short events = POLLIN;
};

/// The running stages of one pipeline, which are one process group: waits for them, looks at what they do, and stops
/// them at the deadline or when the caller wants it.
///
///     PipelineStages stages(count, 0, options);
///     … stages.began(i, StageProcess…) …             // in any order; the first one leads the group
///     while (stages.running() > 0) stages.wait_once(reports);
///     stages.end(true);
///
/// Threads: one.
class PipelineStages {
public:
    using Clock = std::chrono::steady_clock;

    /// `shown` stages that samples show, followed by `hidden` stages that they do not. `options` outlives this object.
    PipelineStages(std::size_t shown, std::size_t hidden, const PipelineOptions& options);

    /// To be called before the first stage is started. From then on it takes part in job control, and watches for stray
    /// processes, where the options say so.
    /// Throws: std::system_error -- EMFILE, ENFILE.
    void begin_job();
    /// The terminal that the first stage's group gets; -1: none.
    [[nodiscard]] int terminal_to_hand_over() const noexcept { return job_ ? job_->terminal_to_hand_over() : -1; }
    void began(std::size_t index, StageProcess stage);
    /// The process group; 0 before the first stage has begun.
    [[nodiscard]] pid_t group() const noexcept { return group_; }

    [[nodiscard]] std::size_t running() const noexcept { return running_; }
    /// Whether that stage has begun and has not been reaped.
    [[nodiscard]] bool runs(std::size_t index) const noexcept { return stages_[index].has_value(); }
    /// Waits for the next thing to happen. A stage that has ended is reaped into `reports[index]`.
    /// Throws: std::system_error -- ECHILD, or when waiting itself fails.
    void wait_once(std::span<StageReport> reports, std::span<Attended> others = {});
    /// Kills a stage that still runs.
    void kill_stage(std::size_t index) {
        if (stages_[index]) stages_[index]->kill();
    }
    /// Stops all stages at once, so that no stage is told after its neighbour's death has ended it. Also stops
    /// processes that a stage has left behind in the group, which would keep its pipes open.
    void stop_all();
    /// Gives the terminal back, and the last sample.
    /// Pre: all stages have ended.
    void end(bool with_sample);

    /// Whether the pipeline was stopped through `stop_fd`.
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }
    [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

private:
    /// What is polled: the stages that run, whose numbers are in `indices`, the terminal, `stop_fd`, then the others.
    struct Wanted {
        std::vector<pollfd> entries;
        std::vector<std::size_t> indices;
        Deadline until = Deadline::never();
    };

    [[nodiscard]] Wanted wanted(std::span<const Attended> others) const;
    void look_at_states();
    void give_sample();
    void attend_to_terminal();
    void check_deadlines();
    void signal_group(int number) const;
    void signal_strays(int number) const;
    void reap_strays() const;
    void reap(std::size_t index, StageReport& report);

    const PipelineOptions& options_;
    std::vector<std::optional<StageProcess>> stages_;
    std::unique_ptr<TerminalJob> job_;
    std::unique_ptr<StrayProcesses> strays_;
    std::size_t running_ = 0;
    pid_t group_ = 0;
    Clock::time_point started_ = Clock::now();
    LookPace pace_{started_};
    PipelineSample sample_;
    Deadline next_sample_ = Deadline::in({});

    bool stopping_ = false;
    bool stopped_ = false;
    bool past_deadline_ = false;
    Deadline kill_at_ = Deadline::never();
};

}  // namespace procrun
