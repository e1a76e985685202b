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

#include "procrun/look_pace.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/stage_process.hpp"
#include "procrun/stray_processes.hpp"
#include "procrun/terminal_job.hpp"

namespace procrun {

/// What else is to be waited for, beside the stages: `attend` is called when `fd` is readable or hung up, and by then
/// makes it -1 when there is nothing more to come.
struct Attended {
    int fd = -1;
    std::function<void(Attended&)> attend;
};

/// The running stages of one pipeline, which are one process group: waits for them, looks at what they do, and stops
/// them at the deadline or when the caller wants it.
///
///     PipelineStages stages(count, 0, options);
///     … stages.began(i, StageProcess…) …             // in any order; the first one leads the group
///     while (stages.running() > 0) stages.wait_once(reports);
///     stages.end();
///
/// Threads: one.
class PipelineStages {
public:
    using Clock = std::chrono::steady_clock;

    /// So many stages that samples show, and behind them some that they do not. `options` lives longer.
    PipelineStages(std::size_t shown, std::size_t hidden, const PipelineOptions& options);

    /// Before the first stage is started: takes part in job control from here on, and keeps an eye on strays, where the
    /// options say so. Throws: std::system_error -- EMFILE, ENFILE.
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
    /// All at once, so that no stage is told after its neighbour's death has ended it; and those that a stage has left
    /// behind in the group, which would keep its pipes open.
    void stop_all();
    /// All have ended: gives the terminal back, and the last sample.
    void end(bool with_sample);

    /// Through `stop_fd`.
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

/// What held up the pipeline that ended like this.
[[nodiscard]] Bottleneck bottleneck_of(std::span<const StageReport> reports);

}  // namespace procrun
