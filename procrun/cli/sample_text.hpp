#pragma once

#include <string>

#include "procrun/pipeline_sample.hpp"

namespace procrun::cli {

/// One line of JSON, with its newline: {"seconds":1.5,"stages":[{"running":true,"state":"blocked_read",
/// "read_bytes":…,"written_bytes":…,"resident_bytes":…,"input_queued_bytes":…,"input_capacity_bytes":…}],
/// "input":{"file":…,"position":…,"bytes":…}}. What is unknown is null.
[[nodiscard]] std::string ndjson_of(const PipelineSample& sample);

/// "running", "blocked_read", "blocked_write", "waiting", "unknown".
[[nodiscard]] const char* name_of(StageState state) noexcept;

}  // namespace procrun::cli
