#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/graph/graph_plan.hpp"

// A graph without its types and functions: the input of the analysis.

namespace procrun {

/// What is preferred where a value can be changed in place only after other readers have ended.
enum class GraphPreference : std::uint8_t {
    moves,     ///< the call that changes the value waits for the readers: nothing is copied
    parallel,  ///< the call shares the value with the readers, and nobody waits: the pages that it writes are copied
};

struct GraphOptions {
    GraphPreference prefer = GraphPreference::moves;
};

namespace detail {

/// What a node does with a value.
enum class GraphAccess : std::uint8_t {
    bytes,    ///< gets the bytes of a value that is no image
    reads,    ///< reads an image
    writes,   ///< writes to private pages of an image, which nobody else sees
    applies,  ///< makes a new value of an image
};

/// What can be done with the image of a value.
enum class GraphForm : std::uint8_t {
    bytes,    ///< the value has no image
    movable,  ///< the image can be changed in place by a call that it is moved to
    kept,     ///< the caller has a copy of the value, which shares the image
    frozen,   ///< the image can no longer change, or is empty: a new value of it is a delta
    gone,     ///< an earlier run has moved the value
};

/// How much of a value a call gets.
enum class GraphPiece {
    whole,
    part,    ///< some bytes, in an image of their own
    member,  ///< an object in the image of the value, through a handle of its own
};

struct GraphUse {
    std::size_t value = 0;
    GraphAccess access = GraphAccess::bytes;
    std::optional<std::size_t> image{};  ///< the index among the images of the call
    GraphPiece piece = GraphPiece::whole;
};

struct GraphNode {
    std::string name;
    bool is_effect = false;
    std::vector<GraphUse> uses;
    std::vector<std::size_t> makes;  ///< values; of an apply the new value, then what the function returned
};

struct GraphValue {
    std::string name;
    std::string type;
    GraphForm form = GraphForm::bytes;        ///< of an input the form when it is planned; of others as a call makes it
    std::optional<std::size_t> maker{};       ///< the node that makes the value
    std::optional<std::size_t> stands_for{};  ///< of a declared value the value that it was defined to be
    bool is_input = false;
    bool is_output = false;
    unsigned definitions = 0;
};

struct GraphShape {
    std::vector<GraphValue> values;
    std::vector<GraphNode> nodes;

    /// The value that `value` stands for, through all definitions; nullopt when the definitions form a circle.
    [[nodiscard]] std::optional<std::size_t> resolve(std::size_t value) const;
    /// A copy of the graph in which no node uses a value that stands for another.
    /// Pre: problems_of() has found none.
    [[nodiscard]] GraphShape resolved() const;
};

/// How one use gets its value, and why.
struct GraphChoice {
    GraphDecision decision = GraphDecision::bytes;
    std::string reason;
};

/// The decisions about a graph. Indices are those of the shape.
struct GraphAnalysis {
    std::vector<std::vector<GraphChoice>> choices;       ///< by node and use
    std::vector<std::vector<std::size_t>> data_before;   ///< by node: the nodes whose results it reads
    std::vector<std::vector<std::size_t>> order_before;  ///< by node: other nodes that it waits for
    std::vector<bool> borrowed;  ///< by value: readers get the image unfrozen, because nobody changes it meanwhile (I2)

    [[nodiscard]] GraphPlan plan(const GraphShape& shape) const;
};

/// Decides how each value gets to each reader.
///
/// A call that makes a new value of an old one changes the old value in place when three things hold: no other call
/// makes a new value of it; every other reader ends before; and its image can be changed, that is, only the graph has
/// it, it is not frozen, it is not an output, and no side effect has a snapshot of it. Two calls that make new values
/// of the same value share it: each result keeps the pages that the call has not changed. With GraphPreference::moves,
/// readers that are not ordered before the call are put before it, unless they need its result.
///
/// Pre:  `shape` is resolved and has no problems.
/// Cost: the square of the number of nodes, in bits.
[[nodiscard]] GraphAnalysis analyse(const GraphShape& shape, GraphPreference preference);

}  // namespace detail
}  // namespace procrun
