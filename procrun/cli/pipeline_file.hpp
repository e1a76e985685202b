#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "procrun/pipeline_text.hpp"

namespace procrun::cli {

/// A pipeline as a file says it, with what the file says of its run; flags go before that.
struct PipelineFile {
    PipelineText text;
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<std::uint64_t> retries;
};

/// Why a file is no pipeline: "steps.toml:4:1: stage 'sort': unknown key 'dir'; there are: …".
class PipelineFileError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Reads a pipeline in TOML:
///
///     timeout = "10m"                # also kill_after, pipe_size, retry
///     [[stage]]
///     name = "count"                 # for reports, and for `from`
///     from = "words"                 # the stage before is what it reads otherwise; ["a", "b"]: several; []: none
///     join = "lines"                 # several by line, as they come; "order": one after the other
///     run = "sort -u < words"        # one program as `procrun run` takes it, or argv = ["sort", "-u"]
///     stdin = "words"                # also stdout, stderr: files
///     directory = "/data"
///     environment = { LC_ALL = "C", LANG = false }   # false: taken away
///     limits = { memory = "1G", cpu = "30s", files = 64, output = "10G" }
///
/// `name` is that of the file, for errors. Throws: PipelineFileError.
/// Source: TOML 1.0.
[[nodiscard]] PipelineFile parse_pipeline_file(const std::string& toml, const std::string& name);

/// The same from a file; "-" is standard input.
/// Throws: PipelineFileError; std::system_error -- it cannot be read.
[[nodiscard]] PipelineFile read_pipeline_file(const std::string& path);

}  // namespace procrun::cli
