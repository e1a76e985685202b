#pragma once

#include <string>

#include "vmcow/cli/measure/measure_options.hpp"
#include "vmcow/cli/measure/measure_run.hpp"

namespace vmcow::cli {

/// The result as text for people.
[[nodiscard]] std::string measure_text(const MeasureOptions& options, const MeasureResult& result);

/// The result as one JSON document.
[[nodiscard]] std::string measure_json(const MeasureOptions& options, const MeasureResult& result);

}  // namespace vmcow::cli
