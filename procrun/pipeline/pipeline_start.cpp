#include "procrun/pipeline/pipeline_start.hpp"

#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "procrun/program/program_path.hpp"

namespace procrun {

namespace {

std::optional<FileRefusal> find_missing_programs(const PipelineText& text) {
    for (std::size_t i = 0; i < text.stages.size(); ++i) {
        const StageText& stage = text.stages[i];
        // In another directory a relative path means another file; the exec will tell.
        if (stage.argv.empty() || stage.directory) continue;
        if (auto missing = find_missing_program(stage.argv.front())) return FileRefusal{i, *std::move(missing)};
    }
    return std::nullopt;
}

}  // namespace

StandardDescriptors redirected(StandardDescriptors standard, const std::vector<Redirection>& redirections,
                               const StageFiles& files) {
    for (std::size_t i = 0; i < redirections.size(); ++i) {
        const Redirection& redirection = redirections[i];
        const bool duplicate = redirection.kind == Redirection::Kind::duplicate;
        standard.at(static_cast<std::size_t>(redirection.descriptor)) =
            duplicate ? standard.at(static_cast<std::size_t>(redirection.source)) : files[i].get();
    }
    return standard;
}

StartMaterial prepare_start(const PipelineText& text, const PipelineOptions& options) {
    StartMaterial material;
    material.refusal = find_missing_programs(text);
    if (material.refusal) return material;
    auto opened = open_stage_files(text, {.deadline = options.deadline, .stop_fd = options.stop_fd});
    if (auto* refusal = std::get_if<FileRefusal>(&opened)) {
        material.stopped = refusal->outcome.code == ECANCELED;
        material.refusal = std::move(*refusal);
    } else {
        material.files = std::get<std::vector<StageFiles>>(std::move(opened));
    }
    return material;
}

void refuse(PipelineReport& report, std::size_t index, Outcome outcome) {
    for (StageReport& stage : report.stages) {
        if (stage.pid) continue;
        stage.outcome = {.kind = OutcomeKind::not_started,
                         .code = ECANCELED,
                         .text = fmt::format("not started without stage {}", index + 1)};
    }
    report.stages[index].outcome = std::move(outcome);
    report.refused = index;
}

Launcher& launcher_of(const PipelineOptions& options) {
    return options.launcher != nullptr ? *options.launcher : Launcher::shared();
}

StageStreams streams_of(const StandardDescriptors& standard, const StandardDescriptors& inherited,
                        const StageStreams& pipes) {
    const auto gauge = [&](std::size_t fd, const SharedGauge& shared) {
        const bool is_pipe = shared && standard.at(fd) == inherited.at(fd);
        return is_pipe ? shared : std::make_shared<const PipeGauge>(standard.at(fd));
    };
    return {.input = gauge(STDIN_FILENO, pipes.input), .output = gauge(STDOUT_FILENO, pipes.output)};
}

}  // namespace procrun
