#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "procrun/launcher.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline/pipeline_options.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/pipeline/stage_files.hpp"
#include "procrun/pipeline/stage_process.hpp"

namespace procrun {

/// A stage's descriptors 0, 1 and 2, as numbers of ours.
using StandardDescriptors = std::array<int, 3>;

/// `standard` after these redirections have been applied from left to right.
[[nodiscard]] StandardDescriptors redirected(StandardDescriptors standard, const std::vector<Redirection>& redirections,
                                             const StageFiles& files);

/// What is looked for and opened before anything starts.
struct StartMaterial {
    std::vector<StageFiles> files;
    std::optional<FileRefusal> refusal;  ///< of the first stage that cannot start
    bool stopped = false;                ///< the pipeline was stopped while a named pipe was waited for
};

/// Looks for all programs, then opens all files. A stage without words is no program.
/// Throws: std::system_error -- when waiting for a named pipe fails.
[[nodiscard]] StartMaterial prepare_start(const PipelineText& text, const PipelineOptions& options);

/// Reports that stage `index` did not start, with this outcome, and that the stages that have not started never will.
void refuse(PipelineReport& report, std::size_t index, Outcome outcome);

/// The launcher that starts the programs.
[[nodiscard]] Launcher& launcher_of(const PipelineOptions& options);

/// What a stage reads and writes, to be looked into: the pipes to its neighbours, whose gauges are `pipes`, or the
/// files to which the stage is redirected.
[[nodiscard]] StageStreams streams_of(const StandardDescriptors& standard, const StandardDescriptors& inherited,
                                      const StageStreams& pipes);

}  // namespace procrun
