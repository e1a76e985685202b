#pragma once

#include <string>

#include "procrun/pipeline/pipeline_report.hpp"

namespace procrun::cli {

/// The report as a table for people, 80 columns wide unless an outcome is long: for each stage its words, and below
/// them what it used. "?" stands for what the kernel did not tell, "-" for what never was.
[[nodiscard]] std::string table_of(const PipelineReport& report);

/// The report as JSON; what is unknown, or never was, is null. Bytes in words that are no UTF-8 become U+FFFD.
[[nodiscard]] std::string json_of(const PipelineReport& report);

}  // namespace procrun::cli
