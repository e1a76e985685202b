#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/pipeline_text.hpp"
#include "procrun/stage_limits.hpp"
#include "vmcow/values_message.hpp"

namespace procrun::cli {

/// What the command line says of the pipeline itself.
struct RunInput {
    std::vector<std::string> words;
    std::optional<std::string> file;
    std::vector<std::string> values;  ///< image files
    StageLimits limits;               ///< for every stage that has none of its own
};

/// The pipeline, and what a file says of its run where flags do not.
struct RunPlan {
    PipelineText text;
    std::vector<std::string> value_files{};
    std::vector<vmcow::TypedSnapshot> values{};  ///< what they hold
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<std::uint64_t> retries;
};

/// One word is a pipeline as a text: `'sort words | uniq -c'`. Several are the words of its programs, each as it is,
/// and
/// `:::` stands between two programs. Otherwise a file (PipelineFile) says it.
/// Throws: Failure -- ExitCode::usage, for what is no pipeline; std::system_error -- the file, or that of a value,
/// cannot
///         be read, or is none.
[[nodiscard]] RunPlan read_plan(const RunInput& input);

/// What would run, for people: each program with its path, where its input comes from and its output goes to, what is
/// set for it.
[[nodiscard]] std::string text_of(const RunPlan& plan);

}  // namespace procrun::cli
