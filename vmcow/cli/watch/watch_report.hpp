#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/meter/model/what_if.hpp"
#include "vmcow/meter/stacks/copy_stacks.hpp"
#include "vmcow/meter/watch/forecast.hpp"
#include "vmcow/meter/watch/heat_map.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"

namespace vmcow::cli {

/// What looking has cost, over the whole watch.
struct WatchCost {
    meter::ScanCost scans;
    std::optional<double> share_of_watcher;  ///< processor time of this command ÷ the time it watched
    std::optional<double> share_of_target;   ///< time in which some of the target's memory was walked ÷ the same
    std::uint64_t memory_bytes = 0;          ///< peak resident memory of this command
};

/// A process that was gone before the watch was over, as it was seen last.
struct EndedProcess {
    double seen_until = 0;  ///< seconds since the watch began
    meter::ProcessSample process;
};

/// A whole watch, as it is written at its end.
struct WatchReport {
    std::string command;
    double interval_seconds = 0;
    std::string method;
    std::vector<meter::FamilySample> samples;  ///< some of them, evenly spread, and the last
    std::vector<EndedProcess> ended;
    std::vector<meter::HeatMap::Range> heat;
    std::optional<meter::WhatIf> what_if;  ///< where pages were compared
    meter::Outlook outlook;
    WatchCost cost;
    std::vector<std::string> notes;
    bool with_functions = false;                                       ///< --stacks was asked for
    std::optional<std::vector<meter::FunctionCopies>> functions = {};  ///< nothing where none could be sampled
    std::string folded = {};                                           ///< their call chains
    std::string trace = {};                                            ///< what --record writes
};

}  // namespace vmcow::cli
