#include "procrun/pipeline.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "pipes/pipe.hpp"
#include "procrun/poll_until.hpp"
#include "procrun/process.hpp"
#include "procrun/program.hpp"
#include "procrun/program_path.hpp"
#include "procrun/stage_files.hpp"
#include "procrun/stage_meter.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kFirstLook{5};
constexpr std::chrono::milliseconds kLongestLook{640};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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
            report_.stages.emplace_back().argv = stage.argv;
        }
    }

    PipelineReport run() {
        if (find_programs() && open_files()) start_all();
        if (report_.refused) stop_all();
        while (running_ > 0) wait_once();
        report_.wall_seconds = seconds_since(started_);
        report_.status = status_of(report_.stages);
        return std::move(report_);
    }

private:
    struct Stage {
        Process process;
        TransferMeter transferred;
        Clock::time_point started;
        bool told_to_stop = false;
        std::optional<std::uint64_t> seen_peak_bytes;
    };

    // ---- starting

    bool find_programs() {
        for (std::size_t i = 0; i < stages_.size(); ++i) {
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
        UniqueFd input;
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            try {
                if (auto outcome = start_stage(i, input)) return refuse(i, *std::move(outcome));
            } catch (const std::system_error& error) {
                return refuse(i, not_started(error));
            }
        }
    }

    /// Starts one stage that reads from `input`, which becomes the next one's. Our copies of the pipe's ends are closed
    /// when this returns, so that a reader's end and a writer's end are seen by their neighbours.
    std::optional<Outcome> start_stage(std::size_t index, UniqueFd& input) {
        UniqueFd next_input;
        UniqueFd output;
        if (index + 1 < stages_.size()) {
            pipes::Pipe pipe = pipes::Pipe::open();
            next_input = pipe.take_read_end();
            output = pipe.take_write_end();
        }
        const StageFiles files = std::move(files_[index]);
        const Standard inherited{input ? input.get() : STDIN_FILENO, output ? output.get() : STDOUT_FILENO,
                                 STDERR_FILENO};
        const Standard standard = redirect(inherited, text_.stages[index].redirections, files);

        Program program(text_.stages[index].argv);
        program.die_with_parent();
        for (int fd = 0; fd < static_cast<int>(standard.size()); ++fd) {
            const int ours = standard.at(static_cast<std::size_t>(fd));
            if (ours != fd) program.descriptor(fd, ours);
        }
        const auto now = Clock::now();
        auto started = program.start();
        if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);

        Stage& stage = stages_[index];
        stage.process = std::get<Process>(std::move(started));
        if (!alone_) stage.transferred = TransferMeter(stage.process.pid());
        stage.started = now;
        report_.stages[index].pid = stage.process.pid();
        ++running_;
        input = std::move(next_input);
        return std::nullopt;
    }

    // ---- waiting

    void wait_once() {
        std::vector<pollfd> wanted;
        std::vector<std::size_t> indices;
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            if (!stages_[i].process) continue;
            wanted.push_back({.fd = stages_[i].process.pidfd(), .events = POLLIN, .revents = 0});
            indices.push_back(i);
        }
        wanted.push_back({.fd = stopping_ ? -1 : options_.stop_fd, .events = POLLIN, .revents = 0});

        poll_until(wanted, earlier(look_at_, stopping_ ? kill_at_ : options_.deadline), "wait for a pipeline");
        for (std::size_t k = 0; k < indices.size(); ++k) {
            if (wanted[k].revents != 0) reap(indices[k]);
        }
        if (look_at_.passed()) look_at_all();
        if (wanted.back().revents != 0) {
            report_.stopped = true;
            stop_all();
        }
        check_deadlines();
    }

    void check_deadlines() {
        if (!stopping_ && options_.deadline.passed()) {
            past_deadline_ = true;
            stop_all();
        } else if (stopping_ && kill_at_.passed()) {
            for (Stage& stage : stages_) {
                if (stage.process) stage.process.signal(SIGKILL);
            }
            last_signal_ = SIGKILL;
            kill_at_ = Deadline::never();
        }
    }

    /// From the first to the last, so that no stage is told after its neighbour's death has ended it.
    void stop_all() {
        for (Stage& stage : stages_) {
            if (stage.process) stage.told_to_stop = stage.process.signal(SIGTERM);
        }
        stopping_ = true;
        kill_at_ = Deadline::in(options_.grace);
    }

    void reap(std::size_t index) {
        Stage& stage = stages_[index];
        StageReport& report = report_.stages[index];
        report.wall_seconds = seconds_since(stage.started);
        auto transferred = std::exchange(stage.transferred, {}).read();
        --running_;
        const ReapMeter reaped;
        ExitRecord record = stage.process.wait();
        if (alone_) transferred = reaped.read();
        if (transferred) {
            report.read_bytes = transferred->read;
            report.written_bytes = transferred->written;
        }
        report.user_seconds = record.user_seconds;
        report.system_seconds = record.system_seconds;
        report.peak_bytes =
            exceeds_inherited(record.max_resident_bytes) ? record.max_resident_bytes : stage.seen_peak_bytes;
        report.outcome = std::move(record.outcome);
        if (past_deadline_ && stage.told_to_stop) {
            const bool signaled = report.outcome.kind == OutcomeKind::signaled;
            report.outcome = {.kind = OutcomeKind::deadline_passed,
                              .code = signaled ? report.outcome.code : last_signal_,
                              .text = {}};
        }
    }

    // ---- memory

    [[nodiscard]] bool exceeds_inherited(std::optional<std::uint64_t> peak_bytes) const {
        return peak_bytes && inherited_ && *peak_bytes > *inherited_;
    }

    /// Once a stage has grown past what it inherited, its ru_maxrss will be right and it need not be looked at again.
    void look_at_all() {
        bool again = false;
        for (Stage& stage : stages_) {
            if (!stage.process || exceeds_inherited(stage.seen_peak_bytes)) continue;
            // One that is still being loaded says nothing about what it will be.
            const bool loaded = Clock::now() - stage.started >= kFirstLook;
            if (const auto peak = loaded ? peak_resident_bytes(stage.process.pid()) : std::nullopt) {
                stage.seen_peak_bytes = peak;
            }
            again = again || !exceeds_inherited(stage.seen_peak_bytes);
        }
        until_look_ = std::min(until_look_ * 2, kLongestLook);
        look_at_ = again ? Deadline::in(until_look_) : Deadline::never();
    }

    const PipelineText& text_;
    const PipelineOptions& options_;
    std::vector<StageFiles> files_;
    std::vector<Stage> stages_;
    const bool alone_ = has_one_thread();
    const std::optional<std::uint64_t> inherited_ = inherited_peak_bytes();
    std::size_t running_ = 0;
    PipelineReport report_;
    Clock::time_point started_ = Clock::now();

    bool stopping_ = false;
    bool past_deadline_ = false;
    int last_signal_ = SIGTERM;
    Deadline kill_at_ = Deadline::never();

    std::chrono::milliseconds until_look_ = kFirstLook;
    Deadline look_at_ = Deadline::in(kFirstLook);
};

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

PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options) {
    VMCOW_ASSERT(!text.stages.empty());
    return PipelineRun(text, options).run();
}

}  // namespace procrun
