#pragma once

#include <CLI/CLI.hpp>

namespace vmcow::cli {

/// Adds `vmcow doctor`: what this kernel and this user can do, and what follows from that.
void add_doctor_command(CLI::App& app);

}  // namespace vmcow::cli
