#pragma once

#include <CLI/CLI.hpp>

namespace procrun::cli {

/// Adds the verb `run`: a pipeline of ordinary programs, and what each of them used.
void add_run_command(CLI::App& app);

/// Takes the words behind the first "--" for the verb `run`, each as it is: CLI11 would make a list of "[a,b]". Returns
/// how many words are left for the parser. Pre: once, before it parses.
[[nodiscard]] int take_words(int argc, const char* const* argv);

}  // namespace procrun::cli
