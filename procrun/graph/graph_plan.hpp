#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace procrun {

/// How a value of a graph gets to one of its readers.
enum class GraphDecision : std::uint8_t {
    alias,         ///< mapped read-only, where it lies
    private_copy,  ///< mapped privately; the copied pages end with the call
    shared,        ///< mapped privately; the copied pages become the delta of a new value
    moved,         ///< changed in place: it becomes the new value
    snapshot,      ///< frozen as it is now, for a side effect
    bytes,         ///< sent with the call, because it is no image
    output,        ///< stays where it is, for the caller to read after the run
};
/// "alias", "private", "shared", "moved", "snapshot", "bytes", "output".
[[nodiscard]] const char* name_of(GraphDecision decision) noexcept;

/// One reader of one value.
struct GraphPlanEdge {
    std::string value;
    std::string type;
    std::string from;  ///< the node that makes the value; empty: the caller
    std::string to;    ///< the node that reads the value; empty: the caller
    GraphDecision decision = GraphDecision::bytes;
    std::string reason;                ///< a clause for people
    std::optional<std::size_t> image;  ///< of an image, the index in `CallCost::images()` of the call that reads it
};

/// A node that waits until another node has read a value, because it changes that value in place.
struct GraphPlanWait {
    std::string node;
    std::string awaited;
};

/// What a graph will do: how each value gets to each of its readers, why, and what can run at the same time.
class GraphPlan {
public:
    /// Nodes of one level do not wait for each other. Each waits for at least one node of the level before.
    using Levels = std::vector<std::vector<std::string>>;

    GraphPlan(std::vector<GraphPlanEdge> edges, std::vector<GraphPlanWait> waits, Levels levels);

    /// The edges by value, in the order in which the values were added to the graph.
    [[nodiscard]] const std::vector<GraphPlanEdge>& edges() const noexcept { return edges_; }
    [[nodiscard]] const std::vector<GraphPlanWait>& waits() const noexcept { return waits_; }
    [[nodiscard]] const Levels& levels() const noexcept { return levels_; }

    /// The edge by which `value` gets to `to`, a node or, if empty, the caller; nullptr if there is none.
    [[nodiscard]] const GraphPlanEdge* find(const std::string& value, const std::string& to) const noexcept;

    /// A table of the edges, and the levels below it.
    [[nodiscard]] std::string text() const;
    /// The edges and waits as a Graphviz digraph. Names are quoted, because they may hold any characters.
    [[nodiscard]] std::string dot() const;

private:
    std::vector<GraphPlanEdge> edges_;
    std::vector<GraphPlanWait> waits_;
    Levels levels_;
};

}  // namespace procrun
