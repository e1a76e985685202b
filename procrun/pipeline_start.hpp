#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline_text.hpp"
#include "procrun/stage_files.hpp"
#include "procrun/stage_process.hpp"

namespace procrun {

/// A stage's descriptors 0, 1 and 2, as numbers of ours.
using StandardDescriptors = std::array<int, 3>;

/// `standard` after these redirections, from left to right.
[[nodiscard]] StandardDescriptors redirected(StandardDescriptors standard, const std::vector<Redirection>& redirections,
                                             const StageFiles& files);

/// What has been looked for and opened before anything starts.
struct StartMaterial {
    std::vector<StageFiles> files;
    std::optional<FileRefusal> refusal;  ///< of the first stage that cannot start
    bool stopped = false;                ///< while a named pipe was waited for
};

/// Looks for all programs, then opens all files. Stages without words are no programs.
/// Throws: std::system_error -- when waiting for a named pipe fails.
[[nodiscard]] StartMaterial prepare_start(const PipelineText& text, const PipelineOptions& options);

/// `index` did not start for this reason, and no stage that has not started yet will.
void refuse(PipelineReport& report, std::size_t index, Outcome outcome);

/// Where programs are started from.
[[nodiscard]] Launcher& launcher_of(const PipelineOptions& options);

/// What a stage reads and writes, to be looked into: the pipes to its neighbours, whose gauges are given, or what it
/// has been redirected to.
[[nodiscard]] StageStreams streams_of(const StandardDescriptors& standard, const StandardDescriptors& inherited,
                                      const StageStreams& pipes);

}  // namespace procrun
