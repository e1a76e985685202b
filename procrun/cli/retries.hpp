#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "procrun/pipeline_text.hpp"

namespace procrun::cli {

/// What has to be put back before a pipeline runs once more: how far standard input has been read, what standard output
/// holds. Files can be put back; what went to a terminal or through a pipe stays written. Files that the pipeline
/// itself opens are opened anew.
///
/// Source: lseek(2), ftruncate(2).
class Retries {
public:
    /// Throws: vmcow::cli::Failure -- ExitCode::usage: standard input is a pipe or a socket, and the first program
    /// reads it: what has been read is gone.
    explicit Retries(const PipelineText& text);

    /// Throws: std::system_error -- a file cannot be put back.
    void put_back() const;

private:
    std::optional<off_t> input_;
    std::optional<off_t> output_;
};

}  // namespace procrun::cli
