#pragma once

#include <string>

#include "vmcow/cli/watch/watch_report.hpp"
#include "vmcow/meter/watch/forecast.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"

namespace vmcow::cli {

/// A line of NDJSON for each process of a sample.
[[nodiscard]] std::string ndjson_of(const meter::FamilySample& sample);

/// The line of CSV with the names of the columns.
[[nodiscard]] std::string csv_header();

/// A line of CSV for each process of a sample. The field of an unknown figure is empty.
[[nodiscard]] std::string csv_of(const meter::FamilySample& sample);

/// One exposition of gauges, in the text format that Prometheus and OpenMetrics have in common.
[[nodiscard]] std::string openmetrics_of(const meter::FamilySample& sample, const meter::Outlook& outlook,
                                         const WatchCost& cost);

[[nodiscard]] std::string json_of(const WatchReport& report);

}  // namespace vmcow::cli
