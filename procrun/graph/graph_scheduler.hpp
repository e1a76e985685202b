#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "procrun/graph/graph_call.hpp"
#include "procrun/graph/graph_shape.hpp"
#include "procrun/graph/graph_state.hpp"
#include "procrun/pool/pool_core.hpp"

namespace procrun::detail {

/// Runs all nodes of a graph, each as soon as what it waits for is there, in the thread of its caller.
///
/// That thread alone makes calls and takes their results. When it has nothing to do it sleeps until the pool tells it
/// of the end of a call.
class GraphScheduler {
public:
    GraphScheduler(GraphState& graph, const GraphShape& shape, const GraphAnalysis& analysis, PoolCore& pool,
                   GraphRunState& run);
    /// Cancels what still runs.
    ~GraphScheduler();
    GraphScheduler(const GraphScheduler&) = delete;
    GraphScheduler& operator=(const GraphScheduler&) = delete;

    void run();

private:
    struct Ends;
    struct Node {
        std::size_t missing = 0;                     ///< nodes that it still waits for
        std::vector<std::size_t> after;              ///< nodes that wait for it
        std::optional<std::size_t> failed_before{};  ///< the failure because of which it cannot be called
        std::shared_ptr<AsyncCall> call;             ///< while it runs, or waits for the pool to have room
    };

    void start_all_ready();
    void start(std::size_t node);
    /// False when the node has ended in that.
    [[nodiscard]] bool make_call(std::size_t node);
    bool note_moved(std::size_t node);
    [[nodiscard]] std::vector<GraphHanded> values_for(std::size_t node) const;
    [[nodiscard]] std::vector<std::size_t> wait_for_ends();
    void finish(std::size_t node);
    [[nodiscard]] bool has_to_try_again(std::size_t node);
    void end(std::size_t node);
    void release_values(std::size_t node);

    GraphState& graph_;
    const GraphShape& shape_;
    const GraphAnalysis& analysis_;
    PoolCore& pool_;
    GraphRunState& run_;
    std::vector<Node> nodes_;
    std::vector<std::size_t> readers_left_;  // by value
    std::vector<std::size_t> ready_;         // a heap: what was written first is called first
    std::size_t running_ = 0;
    std::size_t unfinished_ = 0;
    std::shared_ptr<Ends> ends_;
};

}  // namespace procrun::detail
