#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "vmcow/measure/workload.hpp"

namespace vmcow::cli {

/// Adds the flags that say what is written and where, but for how much and how often: --write-bytes, --pattern,
/// --aligned, --seed, --rewrite-same and --trace. `target` is what help calls that which is written to.
void add_workload_options(CLI::App& verb, measure::Workload& workload, std::optional<std::string>& trace,
                          const std::string& target);

/// `given` with the writes of the trace at `path`, to the smallest value that holds them, or to that of `given` where
/// `size_given`.
/// Throws: Failure -- ExitCode::usage, the file is no trace; std::system_error, it cannot be read.
[[nodiscard]] measure::Workload with_trace(const measure::Workload& given, const std::string& path, bool size_given);

/// Throws: Failure -- ExitCode::usage, with what makes no sense.
void require_valid(const measure::Workload& workload);

/// The patterns, for the end of --help.
[[nodiscard]] const char* pattern_help();

}  // namespace vmcow::cli
