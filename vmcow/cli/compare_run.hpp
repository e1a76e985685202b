#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/measure/compare.hpp"

namespace vmcow::cli {

/// What `vmcow compare` was asked for.
struct CompareOptions {
    CompareOptions() { workload.size_bytes = kDefaultBytes; }

    static constexpr std::uint64_t kDefaultBytes = std::uint64_t{64} << 20;

    measure::Workload workload;
    std::optional<std::string> trace;
    std::vector<std::string> engines = measure::engine_names();
    std::uint64_t children = 1;
    std::vector<std::uint64_t> sweep;
    bool peers = false;
    std::optional<std::string> peer_folder;
    std::chrono::nanoseconds peer_timeout = std::chrono::seconds(60);
    bool json = false;
    std::string csv;
    std::string html;
};

/// The same with another number of writes.
struct Crossover {
    std::uint64_t writes = 0;
    std::vector<measure::EngineFigures> engines;
};

struct CompareResult {
    std::vector<measure::EngineFigures> engines;  ///< ours, and then the peers
    std::vector<Crossover> crossover;
    std::vector<std::string> notes;     ///< what the figures are of
    std::vector<std::string> warnings;  ///< what could not be compared
};

/// Runs each engine, and each peer, once for each number of writes. Where a page is wanted and no numbers were given,
/// they are tenfold steps from one write on, as far as time and memory allow.
/// Throws: Failure -- too little memory, or two engines that do not hold the same in the end.
[[nodiscard]] CompareResult run_compare(const CompareOptions& options);

}  // namespace vmcow::cli
