#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "vmcow/meter/model/workload.hpp"

namespace vmcow::cli {

/// Adds the flags that say what is written and where: --write-bytes, --pattern, --aligned, --seed, --rewrite-same and
/// --trace. The verb itself adds --size and --writes. `target` is the word for what is written to, in help.
void add_workload_options(CLI::App& verb, meter::Workload& workload, std::optional<std::string>& trace,
                          const std::string& target);

/// `given` with the writes of the trace at `path`. The size is the smallest that holds them, or that of `given` if
/// `size_given`.
/// Throws: Failure -- ExitCode::usage, the file is no trace; std::system_error -- the file cannot be read.
[[nodiscard]] meter::Workload with_trace(const meter::Workload& given, const std::string& path, bool size_given);

/// Throws: Failure -- ExitCode::usage, with what makes no sense in the workload.
void require_valid(const meter::Workload& workload);

/// The patterns, for the end of --help.
[[nodiscard]] const char* pattern_help();

}  // namespace vmcow::cli
