#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "procrun/call_cost.hpp"
#include "procrun/graph_call.hpp"
#include "procrun/graph_plan.hpp"
#include "procrun/outcome.hpp"

namespace procrun {

/// Thrown where a value is asked for that was not made; what() names the call that failed, and how.
class GraphFailed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace detail {
struct GraphRunState;
}

/// What came of a run of a graph: its outputs, and of each call how it ended and what it cost.
///
/// Threads: one at a time.
class GraphRun {
public:
    explicit GraphRun(std::unique_ptr<detail::GraphRunState> state) noexcept;
    ~GraphRun();
    GraphRun(GraphRun&& other) noexcept;
    GraphRun& operator=(GraphRun&& other) noexcept;

    /// All calls have returned.
    [[nodiscard]] bool ok() const noexcept;
    /// The first call that did not, and how it ended: "'scale' failed: killed by SIGSEGV"; empty if all have returned.
    [[nodiscard]] std::string failure() const;

    /// How a call ended; one that was never made, because another one failed whose result it takes, is cancelled.
    /// Throws: std::out_of_range -- no node has that name.
    [[nodiscard]] const Outcome& outcome(std::string_view node) const;
    [[nodiscard]] const CallCost& cost(std::string_view node) const;

    /// An output. Throws: GraphFailed -- it was not made. std::invalid_argument: it is none of this graph's outputs.
    template <class T>
    [[nodiscard]] const T& get(const GraphEdge<T>& output) const {
        return *static_cast<const T*>(object(output.graph_, output.value_));
    }
    /// The same, for good: what no other output shares can be changed in place. Once for each output.
    template <class T>
    [[nodiscard]] T take(const GraphEdge<T>& output) {
        T value = std::move(*static_cast<T*>(object(output.graph_, output.value_)));
        drop(output.value_);
        return value;
    }

    /// What was decided.
    [[nodiscard]] const GraphPlan& plan() const noexcept;

private:
    [[nodiscard]] void* object(std::uint64_t graph, std::size_t value) const;
    void drop(std::size_t value) noexcept;
    [[nodiscard]] std::size_t node(std::string_view name) const;

    std::unique_ptr<detail::GraphRunState> state_;
};

}  // namespace procrun
