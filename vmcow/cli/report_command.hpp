#pragma once

#include "vmcow/cli/command_line.hpp"

namespace vmcow::cli {

/// `vmcow report`: what the other commands measured, as a page of charts or as one chart in the terminal.
void add_report_command(CLI::App& app);

}  // namespace vmcow::cli
