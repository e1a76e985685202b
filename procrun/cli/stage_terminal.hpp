#pragma once

#include <string>

#include "procrun/pipeline/pipeline_text.hpp"

namespace procrun::cli {

/// Whether the standard output or error of any stage leads to the terminal of `fd`. What a program opens itself is not
/// known before it runs.
[[nodiscard]] bool stages_print_on_terminal(const PipelineText& text, int fd);

/// Whether what is written to the file at `path` may appear on the terminal of `fd`; "-" is standard output.
[[nodiscard]] bool may_print_on_terminal(const std::string& path, int fd);

}  // namespace procrun::cli
