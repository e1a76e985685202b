#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "vmcow/measure/what_if.hpp"

namespace vmcow::cli {

/// The blocks as `what_if` of a document, an array; `best_block_bytes` stands beside it.
[[nodiscard]] nlohmann::ordered_json what_if_json(const measure::WhatIf& what_if);
[[nodiscard]] nlohmann::ordered_json best_block_json(const measure::WhatIf& what_if);

/// The blocks as a table, the best one marked. `children`: how many there are, for the heading of their column.
[[nodiscard]] std::string what_if_text(const measure::WhatIf& what_if, std::uint64_t children = 1);

/// A line that sets the best block beside the page. Pre: something has changed.
[[nodiscard]] std::string best_block_text(const measure::WhatIf& what_if);

}  // namespace vmcow::cli
