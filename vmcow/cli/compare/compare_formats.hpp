#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "vmcow/cli/compare/compare_run.hpp"

namespace vmcow::cli {

/// The result as the JSON document that `vmcow report` reads.
[[nodiscard]] nlohmann::ordered_json compare_json(const CompareOptions& options, const CompareResult& result);

/// The result as a table for people, with the advice below it.
[[nodiscard]] std::string compare_text(const CompareOptions& options, const CompareResult& result);

/// The result as CSV, with a line for each engine. The field of an unknown figure is empty.
[[nodiscard]] std::string compare_csv(const CompareResult& result);

}  // namespace vmcow::cli
