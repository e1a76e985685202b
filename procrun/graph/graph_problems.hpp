#pragma once

#include <string>
#include <vector>

#include "procrun/graph/graph_shape.hpp"

namespace procrun::detail {

/// All that keeps the graph from being run, one line each: what is undefined, defined twice, unused, gone, or circular.
[[nodiscard]] std::vector<std::string> problems_of(const GraphShape& shape);

}  // namespace procrun::detail
