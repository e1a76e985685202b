#pragma once

#include <CLI/CLI.hpp>

namespace procrun::cli {

/// Adds `procrun run`: a pipeline of ordinary programs, and what each of them used.
void add_run_command(CLI::App& app);

}  // namespace procrun::cli
