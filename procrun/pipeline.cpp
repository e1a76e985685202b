#include "procrun/pipeline.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/pipe_gauge.hpp"
#include "procrun/pipeline_mix.hpp"
#include "procrun/pipeline_stages.hpp"
#include "procrun/pipeline_start.hpp"
#include "procrun/stage_files.hpp"
#include "procrun/stage_meter.hpp"
#include "procrun/stage_process.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

/// One run of a pipeline: start, wait, report.
class PipelineRun {
public:
    PipelineRun(const PipelineText& text, const PipelineOptions& options)
        : text_(text), options_(options), stages_(text.stages.size(), 0, options) {
        for (const StageText& stage : text.stages) {
            VMCOW_ASSERT(!stage.argv.empty());
            StageReport& report = report_.stages.emplace_back();
            report.argv = stage.argv;
            report.name = stage.name;
            if (report_.stages.size() < text.stages.size()) report.readers = {report_.stages.size()};
        }
    }

    PipelineReport run() {
        if (prepare()) start_all();
        if (report_.refused) stages_.stop_all();
        while (stages_.running() > 0) stages_.wait_once(report_.stages);
        stages_.end(!report_.refused);
        report_.stopped = report_.stopped || stages_.stopped();
        report_.wall_seconds = stages_.seconds();
        report_.status = status_of(report_.stages);
        report_.bottleneck = bottleneck_of(report_.stages);
        return std::move(report_);
    }

private:
    bool prepare() {
        StartMaterial material = prepare_start(text_, options_);
        report_.stopped = material.stopped;
        if (material.refusal) refuse(report_, material.refusal->stage, std::move(material.refusal->outcome));
        files_ = std::move(material.files);
        return !report_.refused;
    }

    void start_all() {
        std::size_t next = 0;
        try {
            stages_.begin_job();
            UniqueFd input;
            for (; next < text_.stages.size(); ++next) {
                if (auto outcome = start_stage(next, input)) return refuse(report_, next, *std::move(outcome));
            }
        } catch (const std::system_error& error) {
            refuse(report_, next, not_started(error));
        }
    }

    /// Starts one stage that reads from `input`, which becomes the next one's. Our copies of the pipe's ends are closed
    /// when this returns, so that a reader's end and a writer's end are seen by their neighbours.
    std::optional<Outcome> start_stage(std::size_t index, UniqueFd& input) {
        StageReport& report = report_.stages[index];
        UniqueFd next_input;
        UniqueFd output;
        SharedGauge output_gauge;
        if (index + 1 < text_.stages.size()) {
            pipes::Pipe pipe = pipes::Pipe::open(options_.pipe_bytes);
            report.pipe_bytes = pipe.capacity_bytes();
            next_input = pipe.take_read_end();
            output = pipe.take_write_end();
            output_gauge = std::make_shared<const PipeGauge>(output.get());
        }
        const StageFiles files = std::move(files_[index]);
        const StandardDescriptors inherited{input ? input.get() : STDIN_FILENO, output ? output.get() : STDOUT_FILENO,
                                            STDERR_FILENO};
        const StandardDescriptors standard = redirected(inherited, text_.stages[index].redirections, files);
        const StageStart how{
            .standard = standard,
            .group = stages_.group(),
            .terminal_fd = index == 0 ? stages_.terminal_to_hand_over() : -1,
            .values = options_.values,
            .streams = streams_of(standard, inherited, {.input = input_gauge_, .output = output_gauge}),
            .alone = alone_};
        auto started = StageProcess::start(launcher_of(options_), text_.stages[index], how);
        if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);

        report.pid = std::get<StageProcess>(started).pid();
        stages_.began(index, std::get<StageProcess>(std::move(started)));
        input = std::move(next_input);
        input_gauge_ = std::move(output_gauge);
        return std::nullopt;
    }

    const PipelineText& text_;
    const PipelineOptions& options_;
    std::vector<StageFiles> files_;
    SharedGauge input_gauge_;  // of the pipe that the next stage reads from
    const bool alone_ = has_one_thread();
    PipelineStages stages_;
    PipelineReport report_;
};

}  // namespace

PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options) {
    VMCOW_ASSERT(!text.stages.empty());
    const bool branched = std::any_of(text.stages.begin(), text.stages.end(),
                                      [](const StageText& stage) { return stage.from.has_value(); });
    return branched ? detail::run_branched(text, options) : PipelineRun(text, options).run();
}

}  // namespace procrun
