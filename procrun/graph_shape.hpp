#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/graph_plan.hpp"

// A graph without its types and functions: what is decided from.

namespace procrun {

/// What a graph's owner wants where a value can be changed in place only after other readers have had it.
enum class GraphPreference : std::uint8_t {
    moves,     ///< the call that changes it waits for them: nothing is copied
    parallel,  ///< it shares the value with them, so that nobody waits: what it writes is copied
};

namespace detail {

/// What a node does with a value.
enum class GraphAccess : std::uint8_t {
    bytes,    ///< gets its bytes: no image
    reads,    ///< reads an image
    writes,   ///< writes to pages of its own, which nobody sees
    applies,  ///< makes a new value of it
};

/// What can be done with the image of a value.
enum class GraphForm : std::uint8_t {
    bytes,    ///< it has none
    movable,  ///< changed in place, by whom it is given for good
    kept,     ///< the caller has a copy, which shares the image
    frozen,   ///< it can no longer change, or is empty: what is made of it is a delta
    gone,     ///< an earlier run has moved it
};

struct GraphUse {
    std::size_t value = 0;
    GraphAccess access = GraphAccess::bytes;
    std::optional<std::size_t> image{};  ///< which of the call's images
};

struct GraphNode {
    std::string name;
    bool is_effect = false;
    std::vector<GraphUse> uses;
    std::vector<std::size_t> makes;  ///< of an apply: the new value, then what the function returned
};

struct GraphValue {
    std::string name;
    std::string type;
    GraphForm form = GraphForm::bytes;        ///< of an input, when it is planned; of others, as they come from a call
    std::optional<std::size_t> maker{};       ///< the node
    std::optional<std::size_t> stands_for{};  ///< of a declared value: the one that it was defined to be
    bool is_input = false;
    bool is_output = false;
    unsigned definitions = 0;
};

struct GraphShape {
    std::vector<GraphValue> values;
    std::vector<GraphNode> nodes;

    /// What `value` stands for, through all definitions; nullopt when it stands for itself by way of others.
    [[nodiscard]] std::optional<std::size_t> resolve(std::size_t value) const;
    /// The same graph without the values that only stand for others: those have no uses any more.
    /// Pre: problems_of() has found none.
    [[nodiscard]] GraphShape resolved() const;
};

/// All that keeps the graph from being run, one line each: what is undefined, defined twice, unused, gone, or circular.
[[nodiscard]] std::vector<std::string> problems_of(const GraphShape& shape);

/// How one use is served.
struct GraphChoice {
    GraphDecision decision = GraphDecision::bytes;
    std::string reason;
};

/// What has been decided. Indices are those of the shape.
struct GraphAnalysis {
    std::vector<std::vector<GraphChoice>> choices;       ///< by node, by use
    std::vector<std::vector<std::size_t>> data_before;   ///< by node: the nodes whose results it reads
    std::vector<std::vector<std::size_t>> order_before;  ///< by node: others that it waits for
    std::vector<bool> lent;  ///< by value: its readers get it as it is, unfrozen, for nobody changes it meanwhile

    [[nodiscard]] GraphPlan plan(const GraphShape& shape) const;
};

/// Decides how each value gets to each reader.
///
/// A value is changed in place by the call that makes a new one of it when that is its only such call, every other
/// reader ends before, and its image can be changed at all: the graph alone has it, it is not frozen, not an output,
/// and no side effect has a snapshot of it. Two calls that make new values of the same one share it: each result keeps
/// the pages that it has not changed. Readers that are not ordered before the call are, with GraphPreference::moves,
/// put before it unless they need its result.
///
/// Pre:  `shape` is resolved and has no problems.
/// Cost: the square of the number of nodes, in bits.
[[nodiscard]] GraphAnalysis analyse(const GraphShape& shape, GraphPreference preference);

}  // namespace detail
}  // namespace procrun
