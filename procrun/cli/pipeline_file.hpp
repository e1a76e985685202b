#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "procrun/pipeline/pipeline_text.hpp"

namespace procrun::cli {

/// A pipeline as a file describes it, with the file's settings for the run. Flags override these settings.
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
///     from = "words"                 # the stage to read from; else the stage before; ["a", "b"]: several; []: none
///     join = "lines"                 # several are joined line by line, as lines come; "order": one after the other
///     run = "sort -u < words"        # one program as `procrun run` takes it, or argv = ["sort", "-u"]
///     stdin = "words"                # a file; also stdout, stderr
///     directory = "/data"
///     environment = { LC_ALL = "C", LANG = false }   # false: removed
///     limits = { memory = "1G", cpu = "30s", files = 64, output = "10G" }
///
/// `name`: the name of the file, for errors.
/// Throws: PipelineFileError.
/// Source: TOML 1.0.
[[nodiscard]] PipelineFile parse_pipeline_file(const std::string& toml, const std::string& name);

/// Far more than anybody writes. A parsed file may take many times its size.
inline constexpr std::size_t kMostPipelineFileBytes = std::size_t{16} << 20;

/// Reads the pipeline in a file of at most `kMostPipelineFileBytes`, which may be a pipe; "-" is standard input.
/// Throws: PipelineFileError; std::system_error -- the file cannot be read.
[[nodiscard]] PipelineFile read_pipeline_file(const std::string& path);

}  // namespace procrun::cli
