#pragma once

#include "vmcow/cli/kit/command_line.hpp"

namespace vmcow::cli {

/// Adds `vmcow report`: what the other verbs measured, as a page of charts or as one chart in the terminal.
void add_report_command(CLI::App& app);

}  // namespace vmcow::cli
