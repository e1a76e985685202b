#pragma once

#include <optional>
#include <string>
#include <vector>

#include "procrun/outcome.hpp"

namespace procrun {

/// The paths at which execvp(3) looks for the program `name`, in order: `name` itself if it has a slash, otherwise one
/// in each folder of PATH. An empty part of PATH is the working directory.
/// Threads: none may change the environment meanwhile.
[[nodiscard]] std::vector<std::string> program_paths(const std::string& name);

/// Finds out early whether a program is missing: what execve(2) would say of `name` before it reads the file. Returns
/// not_started with ENOENT, EACCES, … and the text that `Program::start` gives; nullopt when there is a file that may
/// be executed. A later start can still fail: the file can be removed, and a file that may be executed need not be a
/// program.
[[nodiscard]] std::optional<Outcome> find_missing_program(const std::string& name);

}  // namespace procrun
