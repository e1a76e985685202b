#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/meter/compare/engines.hpp"

namespace vmcow::cli {

/// What `vmcow compare` was asked for.
struct CompareOptions {
    CompareOptions() { workload.size_bytes = kDefaultBytes; }

    static constexpr std::uint64_t kDefaultBytes = std::uint64_t{64} << 20;

    meter::Workload workload;
    std::optional<std::string> trace;
    std::vector<std::string> engines = meter::engine_names();
    std::uint64_t children = 1;
    std::vector<std::uint64_t> sweep;
    bool peers = false;
    std::optional<std::string> peer_folder;
    std::chrono::nanoseconds peer_timeout = std::chrono::seconds(60);
    bool json = false;
    std::string csv;
    std::string html;
};

/// The figures of all engines for one of several numbers of writes.
struct Crossover {
    std::uint64_t writes = 0;
    std::vector<meter::EngineFigures> engines;
};

struct CompareResult {
    std::vector<meter::EngineFigures> engines;  ///< our own engines, then the peers
    std::vector<Crossover> crossover;
    std::vector<std::string> notes;     ///< remarks on the figures
    std::vector<std::string> warnings;  ///< what could not be compared, and why
};

/// Runs each engine and each peer once for each number of writes. If a page is wanted and no numbers were given, the
/// numbers are 1, 10, 100 …, as far as time and memory allow.
/// Throws: Failure -- there is too little memory, or two engines do not hold the same after the same writes.
[[nodiscard]] CompareResult run_compare(const CompareOptions& options);

}  // namespace vmcow::cli
