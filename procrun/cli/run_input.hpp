#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/limits.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun::cli {

/// The part of the command line that describes the pipeline.
struct RunInput {
    std::vector<std::string> words;
    std::optional<std::string> file;
    std::vector<std::string> values;        ///< image files
    std::vector<std::string> saved_values;  ///< files for what comes out at the end
    StageLimits limits;                     ///< for every stage without a limit of its own
};

/// The pipeline, and the settings of its run from a file, which flags override.
struct RunPlan {
    PipelineText text;
    std::vector<std::string> value_files{};
    std::vector<vmcow::TypedSnapshot> values{};  ///< the images in these files
    std::vector<std::string> saved_values{};     ///< files for the values that come out at the end
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<std::uint64_t> retries;
};

/// Reads the pipeline and the images of its values. One word is a pipeline as a text: `'sort words | uniq -c'`. Several
/// words are those of the programs, each taken as it is, with `:::` between two programs. Without words, a file
/// describes the pipeline (PipelineFile).
/// Throws: Failure -- ExitCode::usage, for what is no pipeline; std::system_error -- the file, or the file of a value,
///         cannot be read, or is no image.
[[nodiscard]] RunPlan read_plan(const RunInput& input);

/// What would run, for people: each program with its path, where its input comes from, where its output goes to, and
/// its settings.
[[nodiscard]] std::string text_of(const RunPlan& plan);

}  // namespace procrun::cli
