#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/measure/copy_stacks.hpp"
#include "vmcow/measure/forecast.hpp"
#include "vmcow/measure/heat_map.hpp"
#include "vmcow/measure/watch_sample.hpp"
#include "vmcow/measure/what_if.hpp"

namespace vmcow::cli {

/// What looking has cost, over the whole watch.
struct WatchCost {
    std::uint64_t scans = 0;
    std::uint64_t quiet_scans = 0;   ///< of these, those in which there was nothing to look at
    std::uint64_t guided_scans = 0;  ///< of these, those that looked only where page faults were
    double scan_seconds = 0;
    double longest_scan_seconds = 0;
    std::optional<double> share_of_watcher;  ///< processor time of this command ÷ the time it watched
    std::optional<double> share_of_target;   ///< time in which some of the target's memory was walked ÷ the same
    std::uint64_t memory_bytes = 0;          ///< peak resident memory of this command
};

/// A process that was gone before the watch was over, as it was seen last.
struct EndedProcess {
    double seen_until = 0;  ///< seconds since the watch began
    measure::ProcessSample process;
};

/// A whole watch, as it is written at its end.
struct WatchReport {
    std::string command;
    double interval_seconds = 0;
    std::string method;
    std::vector<measure::FamilySample> samples;  ///< some of them, evenly spread, and the last
    std::vector<EndedProcess> ended;
    std::vector<measure::HeatMap::Range> heat;
    std::optional<measure::WhatIf> what_if;  ///< where pages were compared
    measure::Outlook outlook;
    WatchCost cost;
    std::vector<std::string> notes;
    bool with_functions = false;                                         ///< --stacks was asked for
    std::optional<std::vector<measure::FunctionCopies>> functions = {};  ///< nothing where none could be sampled
    std::string folded = {};                                             ///< their call chains
    std::string trace = {};                                              ///< what --record writes
};

/// A line of NDJSON for each process of a sample.
[[nodiscard]] std::string ndjson_of(const measure::FamilySample& sample);

/// The line of names, and a line for each process.
[[nodiscard]] std::string csv_header();
[[nodiscard]] std::string csv_of(const measure::FamilySample& sample);

/// One exposition of gauges, in the text format that Prometheus and OpenMetrics have in common.
[[nodiscard]] std::string openmetrics_of(const measure::FamilySample& sample, const measure::Outlook& outlook,
                                         const WatchCost& cost);

[[nodiscard]] std::string json_of(const WatchReport& report);

}  // namespace vmcow::cli
