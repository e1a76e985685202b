#include "procrun/pipeline.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "pipes/pipe.hpp"
#include "procrun/look_pace.hpp"
#include "procrun/pipe_gauge.hpp"
#include "procrun/poll_until.hpp"
#include "procrun/program_path.hpp"
#include "procrun/stage_files.hpp"
#include "procrun/stage_process.hpp"
#include "procrun/terminal_job.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

using Clock = std::chrono::steady_clock;

/// A stage's descriptors 0, 1 and 2, as numbers of ours.
using Standard = std::array<int, 3>;

Standard redirect(Standard standard, const std::vector<Redirection>& redirections, const StageFiles& files) {
    for (std::size_t i = 0; i < redirections.size(); ++i) {
        const Redirection& redirection = redirections[i];
        const bool duplicate = redirection.kind == Redirection::Kind::duplicate;
        standard.at(static_cast<std::size_t>(redirection.descriptor)) =
            duplicate ? standard.at(static_cast<std::size_t>(redirection.source)) : files[i].get();
    }
    return standard;
}

/// One run of a pipeline: start, wait, report.
class PipelineRun {
public:
    PipelineRun(const PipelineText& text, const PipelineOptions& options)
        : text_(text), options_(options), stages_(text.stages.size()) {
        for (const StageText& stage : text.stages) {
            VMCOW_ASSERT(!stage.argv.empty());
            StageReport& report = report_.stages.emplace_back();
            report.argv = stage.argv;
            report.name = stage.name;
        }
    }

    PipelineReport run() {
        if (find_programs() && open_files()) start_all();
        if (report_.refused) stop_all();
        while (running_ > 0) wait_once();
        job_.reset();
        if (options_.on_sample && !report_.refused) give_sample();
        report_.wall_seconds = std::chrono::duration<double>(Clock::now() - started_).count();
        report_.status = status_of(report_.stages);
        report_.bottleneck = found_bottleneck();
        return std::move(report_);
    }

private:
    // ---- starting

    bool find_programs() {
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            // Where it runs elsewhere, a relative path means another file; the exec will say.
            if (text_.stages[i].directory) continue;
            if (auto missing = find_missing_program(text_.stages[i].argv.front())) {
                refuse(i, *std::move(missing));
                return false;
            }
        }
        return true;
    }

    bool open_files() {
        auto opened = open_stage_files(text_, {.deadline = options_.deadline, .stop_fd = options_.stop_fd});
        if (auto* refusal = std::get_if<FileRefusal>(&opened)) {
            report_.stopped = refusal->outcome.code == ECANCELED;
            refuse(refusal->stage, std::move(refusal->outcome));
            return false;
        }
        files_ = std::get<std::vector<StageFiles>>(std::move(opened));
        return true;
    }

    /// `index` did not start for this reason, and no stage that has not started yet will.
    void refuse(std::size_t index, Outcome outcome) {
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            if (report_.stages[i].pid) continue;
            report_.stages[i].outcome = {.kind = OutcomeKind::not_started,
                                         .code = ECANCELED,
                                         .text = fmt::format("not started without stage {}", index + 1)};
        }
        report_.stages[index].outcome = std::move(outcome);
        report_.refused = index;
    }

    void start_all() {
        std::size_t next = 0;
        try {
            if (options_.job_control) job_ = std::make_unique<TerminalJob>();
            UniqueFd input;
            for (; next < stages_.size(); ++next) {
                if (auto outcome = start_stage(next, input)) return refuse(next, *std::move(outcome));
            }
        } catch (const std::system_error& error) {
            refuse(next, not_started(error));
        }
    }

    /// Starts one stage that reads from `input`, which becomes the next one's. Our copies of the pipe's ends are closed
    /// when this returns, so that a reader's end and a writer's end are seen by their neighbours.
    std::optional<Outcome> start_stage(std::size_t index, UniqueFd& input) {
        StageReport& report = report_.stages[index];
        UniqueFd next_input;
        UniqueFd output;
        SharedGauge output_gauge;
        if (index + 1 < stages_.size()) {
            pipes::Pipe pipe = pipes::Pipe::open(options_.pipe_bytes);
            report.pipe_bytes = pipe.capacity_bytes();
            next_input = pipe.take_read_end();
            output = pipe.take_write_end();
            output_gauge = std::make_shared<const PipeGauge>(output.get());
        }
        const StageFiles files = std::move(files_[index]);
        const Standard inherited{input ? input.get() : STDIN_FILENO, output ? output.get() : STDOUT_FILENO,
                                 STDERR_FILENO};
        const Standard standard = redirect(inherited, text_.stages[index].redirections, files);
        const StageStart how{.standard = standard,
                             .group = group_,
                             .terminal_fd = job_ && index == 0 ? job_->terminal_to_hand_over() : -1,
                             .streams = streams_of(standard, inherited, output_gauge),
                             .alone = alone_};
        auto started = StageProcess::start(launcher(), text_.stages[index], how);
        if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);

        stages_[index] = std::get<StageProcess>(std::move(started));
        report.pid = stages_[index]->pid();
        if (index == 0) group_ = *report.pid;
        if (job_) job_->began(group_);
        ++running_;
        input = std::move(next_input);
        input_gauge_ = std::move(output_gauge);
        return std::nullopt;
    }

    /// What a stage reads and writes, to be looked into: the pipes to its neighbours, which share their gauges, or what
    /// it has been redirected to.
    [[nodiscard]] StageStreams streams_of(const Standard& standard, const Standard& inherited,
                                          const SharedGauge& output) const {
        const auto gauge = [&](std::size_t fd, const SharedGauge& shared) {
            const bool is_pipe = shared && standard.at(fd) == inherited.at(fd);
            return is_pipe ? shared : std::make_shared<const PipeGauge>(standard.at(fd));
        };
        return {.input = gauge(STDIN_FILENO, input_gauge_), .output = gauge(STDOUT_FILENO, output)};
    }

    [[nodiscard]] Launcher& launcher() const {
        return options_.launcher != nullptr ? *options_.launcher : Launcher::shared();
    }

    // ---- waiting

    void wait_once() {
        std::vector<pollfd> wanted;
        std::vector<std::size_t> indices;
        Deadline until = earlier(stopping_ ? kill_at_ : options_.deadline, Deadline::at(pace_.next_look()));
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            if (!stages_[i]) continue;
            wanted.push_back({.fd = stages_[i]->pidfd(), .events = POLLIN, .revents = 0});
            indices.push_back(i);
            until = earlier(until, stages_[i]->next_look());
        }
        wanted.push_back({.fd = job_ ? job_->fd() : -1, .events = POLLIN, .revents = 0});
        wanted.push_back({.fd = stopping_ ? -1 : options_.stop_fd, .events = POLLIN, .revents = 0});

        poll_until(wanted, until, "wait for a pipeline");
        if (wanted[indices.size()].revents != 0) attend_to_terminal();
        for (std::size_t k = 0; k < indices.size(); ++k) {
            if (wanted[k].revents != 0) {
                reap(indices[k]);
            } else {
                stages_[indices[k]]->look_at_limits();
            }
        }
        if (pace_.due(Clock::now())) look_at_states();
        if (wanted.back().revents != 0) {
            report_.stopped = true;
            stop_all();
        }
        check_deadlines();
    }

    void look_at_states() {
        const auto before = thread_processor_time();
        for (auto& stage : stages_) {
            if (stage) stage->look_at_state(Clock::now());
        }
        if (options_.on_sample && next_sample_.passed()) {
            give_sample();
            next_sample_ = Deadline::in(options_.sample_every);
        }
        pace_.looked(Clock::now(), thread_processor_time() - before);
    }

    void give_sample() {
        sample_.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
        sample_.stages.resize(stages_.size());
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            sample_.stages[i].running = stages_[i].has_value();
            if (stages_[i]) sample_.stages[i].view = stages_[i]->view();
        }
        if (stages_.front()) {
            if (auto position = position_in_input(stages_.front()->pid())) sample_.input = std::move(position);
        }
        options_.on_sample(sample_);
    }

    [[nodiscard]] Bottleneck found_bottleneck() const {
        std::vector<StageLoad> loads;
        for (const StageReport& stage : report_.stages) {
            loads.push_back({.name = stage.name.empty() ? stage.argv.front() : stage.name, .shares = stage.shares});
        }
        return find_bottleneck(loads);
    }

    void attend_to_terminal() {
        std::vector<pid_t> programs;
        for (const auto& stage : stages_) {
            if (stage) programs.push_back(stage->pid());
        }
        job_->attend(programs);
    }

    void check_deadlines() {
        if (!stopping_ && options_.deadline.passed()) {
            past_deadline_ = true;
            stop_all();
        } else if (stopping_ && kill_at_.passed()) {
            signal_group(SIGKILL);
            for (auto& stage : stages_) {
                if (stage) stage->kill();
            }
            kill_at_ = Deadline::never();
        }
    }

    /// All at once, so that no stage is told after its neighbour's death has ended it; and those that a stage has left
    /// behind in the group, which would keep its pipes open.
    void stop_all() {
        for (auto& stage : stages_) {
            if (stage) stage->told_to_stop(past_deadline_);
        }
        if (running_ > 0) {
            signal_group(SIGTERM);
            signal_group(SIGCONT);
        }
        stopping_ = true;
        kill_at_ = Deadline::in(options_.grace);
    }

    /// Pre: one of the group has not been reaped, or the number could be another's.
    void signal_group(int number) const { (void)kill(-group_, number); }

    void reap(std::size_t index) {
        --running_;
        // The last one of the group, as long as there is one to name it.
        if (running_ == 0 && stopping_) signal_group(SIGKILL);
        sample_.stages.resize(stages_.size());
        sample_.stages[index].view = stages_[index]->view();
        StageProcess ended = *std::exchange(stages_[index], std::nullopt);
        ended.reap(report_.stages[index]);
    }

    const PipelineText& text_;
    const PipelineOptions& options_;
    std::vector<StageFiles> files_;
    std::vector<std::optional<StageProcess>> stages_;
    std::unique_ptr<TerminalJob> job_;
    SharedGauge input_gauge_;  // of the pipe that the next stage reads from
    const bool alone_ = has_one_thread();
    std::size_t running_ = 0;
    pid_t group_ = 0;
    PipelineReport report_;
    Clock::time_point started_ = Clock::now();
    LookPace pace_{started_};
    PipelineSample sample_;
    Deadline next_sample_ = Deadline::in({});

    bool stopping_ = false;
    bool past_deadline_ = false;
    Deadline kill_at_ = Deadline::never();
};

}  // namespace

PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options) {
    VMCOW_ASSERT(!text.stages.empty());
    return PipelineRun(text, options).run();
}

}  // namespace procrun
