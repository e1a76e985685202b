#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "procrun/call_cost.hpp"
#include "procrun/graph/graph_call.hpp"
#include "procrun/graph/graph_plan.hpp"
#include "procrun/outcome.hpp"

namespace procrun {

/// Thrown when a value is read that was not made; what() says which call failed, and how.
class GraphFailed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace detail {
struct GraphRunState;
}

/// A run of a graph that has ended: the outputs, and for each call how it ended and what it cost.
///
/// Threads: one at a time.
class GraphRun {
public:
    explicit GraphRun(std::unique_ptr<detail::GraphRunState> state) noexcept;
    ~GraphRun();
    GraphRun(GraphRun&& other) noexcept;
    GraphRun& operator=(GraphRun&& other) noexcept;

    /// Whether all calls have returned.
    [[nodiscard]] bool ok() const noexcept;
    /// The first call that did not return, and how it ended: "'scale' failed: killed by SIGSEGV"; empty if all
    /// returned.
    [[nodiscard]] std::string failure() const;

    /// How a call ended: `cancelled` if it was never made, because it takes the result of a call that failed.
    /// Throws: std::out_of_range -- no node has that name.
    [[nodiscard]] const Outcome& outcome(std::string_view node) const;
    /// What a call cost.
    /// Throws: std::out_of_range -- no node has that name.
    [[nodiscard]] const CallCost& cost(std::string_view node) const;

    /// Reads an output. Throws: GraphFailed -- it was not made; std::invalid_argument -- it is no output of this graph,
    /// or was taken already.
    template <class T>
    [[nodiscard]] const T& get(const GraphEdge<T>& output) const {
        return *static_cast<const T*>(object(output.graph_, output.value_));
    }
    /// Takes an output out of the run, once. A value that no other output shares can then be changed in place.
    /// Throws: as `get`.
    template <class T>
    [[nodiscard]] T take(const GraphEdge<T>& output) {
        T value = std::move(*static_cast<T*>(object(output.graph_, output.value_)));
        drop(output.value_);
        return value;
    }

    /// What was decided before the run.
    [[nodiscard]] const GraphPlan& plan() const noexcept;

private:
    [[nodiscard]] void* object(std::uint64_t graph, std::size_t value) const;
    void drop(std::size_t value) noexcept;
    [[nodiscard]] std::size_t node(std::string_view name) const;

    std::unique_ptr<detail::GraphRunState> state_;
};

}  // namespace procrun
