#pragma once

#include <CLI/CLI.hpp>

namespace vmcow::cli {

/// Takes what stands behind "--" out of the words of `vmcow watch`, for that belongs to the program that is watched,
/// and returns how many words are left for the parser.
[[nodiscard]] int take_watched_program(int argc, const char* const* argv);

/// Adds `vmcow watch`: what copy-on-write costs running processes, seen from outside.
void add_watch_command(CLI::App& app);

}  // namespace vmcow::cli
