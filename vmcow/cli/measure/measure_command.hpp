#pragma once

#include <CLI/CLI.hpp>

namespace vmcow::cli {

/// Adds `vmcow measure`: what copy-on-write costs for a workload, beside what the model expects.
void add_measure_command(CLI::App& app);

}  // namespace vmcow::cli
