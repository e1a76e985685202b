#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/cli/kit/budget.hpp"
#include "vmcow/cli/watch/watch_outputs.hpp"
#include "vmcow/cli/watch/watch_stacks.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow::cli {

/// What `vmcow watch` was asked for.
struct WatchOptions {
    std::vector<pid_t> pids;
    std::vector<std::string> program;  ///< to start and watch, with its arguments; empty if `pids` are watched
    bool tree = false;
    bool bytes = false;
    std::chrono::nanoseconds interval = std::chrono::seconds{1};
    std::optional<std::chrono::nanoseconds> duration;
    std::optional<std::uint64_t> limit_bytes;
    std::optional<sys::PageScanMethod> page_scan;
    bool follow_faults = true;
    WatchStacksOptions stacks;
    Budget budget;  ///< for the sum of all processes, each as it was seen last
    WatchOutputOptions output;
};

/// Watches until the time is over, all processes have ended or a signal arrives, and writes the reports. Returns the
/// exit status: the program's, or 1 if a named process could not be watched, or 77 if --stacks could not sample.
/// Throws: Failure, std::system_error -- nothing could be watched, or a report could not be written.
[[nodiscard]] int run_watch(const WatchOptions& options);

}  // namespace vmcow::cli
