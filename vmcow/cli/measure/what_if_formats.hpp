#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "vmcow/meter/model/what_if.hpp"

namespace vmcow::cli {

/// The blocks as an array, the member "what_if" of a document.
[[nodiscard]] nlohmann::ordered_json what_if_json(const meter::WhatIf& what_if);

/// The size of the best block, the member "best_block_bytes" of a document; null if nothing has changed.
[[nodiscard]] nlohmann::ordered_json best_block_json(const meter::WhatIf& what_if);

/// The blocks as a table in which the best one is marked. `children`: their number, for the heading of their column.
[[nodiscard]] std::string what_if_text(const meter::WhatIf& what_if, std::uint64_t children = 1);

/// A line that compares the best block with the page.
/// Pre: something has changed, so there is a best block.
[[nodiscard]] std::string best_block_text(const meter::WhatIf& what_if);

}  // namespace vmcow::cli
