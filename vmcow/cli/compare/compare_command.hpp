#pragma once

#include <CLI/CLI.hpp>

namespace vmcow::cli {

/// Adds `vmcow compare`: the same writes to a value that is shared in one way after another.
void add_compare_command(CLI::App& app);

}  // namespace vmcow::cli
