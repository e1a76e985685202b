#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/graph/graph_call.hpp"
#include "procrun/graph/graph_plan.hpp"
#include "procrun/graph/graph_shape.hpp"
#include "procrun/outcome.hpp"

// What a graph and a run of it consist of.

namespace procrun::detail {

/// A graph as it was written.
struct GraphState {
    std::uint64_t id = 0;
    GraphOptions options;
    GraphShape shape;
    std::vector<const GraphType*> types;  ///< by value
    std::vector<GraphSlot> inputs;        ///< by value; null for values that are no input, or that a run has moved
    std::vector<GraphCall> calls;         ///< by node

    /// The shape for the analysis, with the forms that the inputs have now. Throws: GraphError -- it cannot be run.
    [[nodiscard]] GraphShape checked_shape() const;
};

/// How one node ended.
struct GraphNodeEnd {
    std::string name;
    GraphCallEnd end{{OutcomeKind::not_started, 0, {}}, {}};
};

struct GraphRunState {
    std::uint64_t graph = 0;
    GraphPlan plan{{}, {}, {}};
    std::vector<GraphNodeEnd> nodes;
    std::optional<std::size_t> first_failure{};       ///< a node
    std::vector<std::optional<std::size_t>> outputs;  ///< by value as written: of an output, the value it stands for
    std::vector<GraphSlot> values;                    ///< by resolved value; after the run only outputs are left
    std::vector<std::string> missing;  ///< by resolved value: the failed node because of which it is missing
};

}  // namespace procrun::detail
