#include "procrun/graph/graph_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "procrun/graph/graph_state.hpp"

namespace procrun {

GraphRun::GraphRun(std::unique_ptr<detail::GraphRunState> state) noexcept : state_(std::move(state)) {}
GraphRun::~GraphRun() = default;
GraphRun::GraphRun(GraphRun&& other) noexcept = default;
GraphRun& GraphRun::operator=(GraphRun&& other) noexcept = default;

bool GraphRun::ok() const noexcept { return !state_->first_failure; }

std::string GraphRun::failure() const {
    if (ok()) return {};
    const detail::GraphNodeEnd& node = state_->nodes[*state_->first_failure];
    return fmt::format("'{}' failed: {}", node.name, node.end.outcome.describe());
}

std::size_t GraphRun::node(std::string_view name) const {
    const auto found = std::find_if(state_->nodes.begin(), state_->nodes.end(),
                                    [&](const detail::GraphNodeEnd& node) { return node.name == name; });
    if (found == state_->nodes.end()) throw std::out_of_range(fmt::format("graph: no node is named '{}'", name));
    return static_cast<std::size_t>(found - state_->nodes.begin());
}

const Outcome& GraphRun::outcome(std::string_view name) const { return state_->nodes[node(name)].end.outcome; }
const CallCost& GraphRun::cost(std::string_view name) const { return state_->nodes[node(name)].end.cost; }
const GraphPlan& GraphRun::plan() const noexcept { return state_->plan; }

void* GraphRun::object(std::uint64_t graph, std::size_t value) const {
    const bool known = graph == state_->graph && value < state_->outputs.size() && state_->outputs[value];
    if (!known) throw std::invalid_argument("graph: the edge is no output of the graph that was run");
    const std::size_t at = *state_->outputs[value];
    if (!state_->missing[at].empty()) {
        throw GraphFailed(fmt::format("graph: a value was not made because '{}' failed: {}", state_->missing[at],
                                      outcome(state_->missing[at]).describe()));
    }
    if (!state_->values[at]) throw std::invalid_argument("graph: the output has been taken already");
    return state_->values[at].get();
}

void GraphRun::drop(std::size_t value) noexcept { state_->values[*state_->outputs[value]].reset(); }

}  // namespace procrun
