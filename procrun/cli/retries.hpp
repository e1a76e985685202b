#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "procrun/pipeline/pipeline_text.hpp"

namespace procrun::cli {

/// Puts standard input and standard output back before a pipeline runs again: the offset of the input, the length and
/// offset of the output. Files can be put back; what went to a terminal or through a pipe stays written. Files that the
/// pipeline itself opens are opened anew.
///
/// Source: lseek(2), ftruncate(2).
class Retries {
public:
    /// Throws: vmcow::cli::Failure -- ExitCode::usage: standard input is a pipe or a socket, and a program reads it, so
    ///         that what has been read is gone.
    explicit Retries(const PipelineText& text);

    /// Throws: std::system_error -- a file cannot be put back.
    void put_back() const;

private:
    std::optional<off_t> input_;
    std::optional<off_t> output_;
};

}  // namespace procrun::cli
