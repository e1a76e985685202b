#pragma once

#include <string>

#include "procrun/observe/pipeline_sample.hpp"

namespace procrun::cli {

/// One line of JSON, with its newline: {"seconds":1.5,"stages":[{"running":true,"state":"blocked_read",
/// "read_bytes":…,"written_bytes":…,"resident_bytes":…,"input_queued_bytes":…,"input_capacity_bytes":…}],
/// "input":{"file":…,"position":…,"bytes":…}}. An unknown number is null.
[[nodiscard]] std::string ndjson_of(const PipelineSample& sample);

/// A state as JSON has it: "running", "blocked_read", "blocked_write", "waiting" or "unknown".
[[nodiscard]] const char* name_of(StageState state) noexcept;

}  // namespace procrun::cli
