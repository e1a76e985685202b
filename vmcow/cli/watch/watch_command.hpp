#pragma once

#include <CLI/CLI.hpp>

namespace vmcow::cli {

/// Takes the words behind "--" off the command line of `vmcow watch`: they belong to the program that is watched.
/// Returns how many words are left for the parser.
[[nodiscard]] int take_watched_program(int argc, const char* const* argv);

/// Adds `vmcow watch`: what copy-on-write costs running processes, seen from outside.
void add_watch_command(CLI::App& app);

}  // namespace vmcow::cli
