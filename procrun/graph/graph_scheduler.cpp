#include "procrun/graph/graph_scheduler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "procrun/graph/graph_state.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pool/async_call.hpp"
#include "procrun/pool/pool_core.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {

/// The nodes whose calls are done, as the pool reports them. Each call keeps this alive, because its end may be
/// reported after the scheduler is gone.
struct GraphScheduler::Ends {
    std::mutex mutex;
    std::condition_variable some;
    std::vector<std::size_t> nodes;  // has room for all nodes, so that `tell` does not allocate

    void tell(std::size_t node) noexcept {
        const std::scoped_lock lock(mutex);
        nodes.push_back(node);
        some.notify_one();
    }
};

GraphScheduler::GraphScheduler(GraphState& graph, const GraphShape& shape, const GraphAnalysis& analysis,
                               PoolCore& pool, GraphRunState& run)
    : graph_(graph),
      shape_(shape),
      analysis_(analysis),
      pool_(pool),
      run_(run),
      nodes_(shape.nodes.size()),
      readers_left_(shape.values.size()),
      unfinished_(shape.nodes.size()),
      ends_(std::make_shared<Ends>()) {
    ends_->nodes.reserve(nodes_.size());
    ready_.reserve(nodes_.size());
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        for (const auto* const before : {&analysis.data_before[i], &analysis.order_before[i]}) {
            nodes_[i].missing += before->size();
            for (const std::size_t first : *before) nodes_[first].after.push_back(i);
        }
        for (const GraphUse& use : shape.nodes[i].uses) ++readers_left_[use.value];
        if (nodes_[i].missing == 0) ready_.push_back(i);
    }
    std::make_heap(ready_.begin(), ready_.end(), std::greater<>());
}

GraphScheduler::~GraphScheduler() {
    for (const Node& node : nodes_) {
        if (node.call) pool_.cancel(node.call);
    }
}

void GraphScheduler::run() {
    while (true) {
        start_all_ready();
        if (unfinished_ == 0) return;
        for (const std::size_t node : wait_for_ends()) finish(node);
    }
}

/// Starts only as many calls as the pool has room for, so that calls of other threads get their turn.
void GraphScheduler::start_all_ready() {
    while (!ready_.empty() && running_ < pool_.calls_ahead()) {
        std::pop_heap(ready_.begin(), ready_.end(), std::greater<>());
        const std::size_t node = ready_.back();
        ready_.pop_back();
        start(node);
    }
}

void GraphScheduler::start(std::size_t node) {
    Node& at = nodes_[node];
    if (at.failed_before) {
        run_.nodes[node].end.outcome = {OutcomeKind::cancelled, 0,
                                        fmt::format("because '{}' failed", shape_.nodes[*at.failed_before].name)};
        return end(node);
    }
    if (!at.call && !make_call(node)) return end(node);
    at.call->on_done = [ends = ends_, node] { ends->tell(node); };
    ++running_;
    pool_.start(at.call);
}

std::vector<GraphHanded> GraphScheduler::values_for(std::size_t node) const {
    std::vector<GraphHanded> values;
    for (std::size_t i = 0; i < shape_.nodes[node].uses.size(); ++i) {
        const std::size_t value = shape_.nodes[node].uses[i].value;
        const bool moved = analysis_.choices[node][i].decision == GraphDecision::moved;
        const auto kept = analysis_.borrowed[value] ? GraphHanded::How::as_it_is : GraphHanded::How::frozen;
        VMCOW_ASSERT(!(shape_.nodes[node].is_effect && analysis_.borrowed[value]) &&
                     "I2: a side effect sees a snapshot, not an image that may change");
        values.push_back({run_.values[value].get(), moved ? GraphHanded::How::moved : kept});
    }
    return values;
}

bool GraphScheduler::make_call(std::size_t node) {
    auto call = std::make_shared<AsyncCall>();
    Outcome outcome{OutcomeKind::returned, 0, {}};
    try {
        graph_.calls[node].make(call->call, values_for(node));
    } catch (const std::system_error& error) {
        outcome = refusal_of(error, "make the call");
    } catch (const std::length_error& error) {
        outcome = {OutcomeKind::not_started, EINVAL, error.what()};
    } catch (const std::bad_alloc&) {
        outcome = {OutcomeKind::not_started, ENOMEM, "make the call"};
    }
    const bool gone = note_moved(node);
    if (outcome.ok()) {
        nodes_[node].call = std::move(call);
        return true;
    }
    if (gone) outcome.text += "; the moved value is gone";
    run_.nodes[node].end.outcome = std::move(outcome);
    return false;
}

/// Whether making the call has moved a value. The graph gives up the value if it was an input.
bool GraphScheduler::note_moved(std::size_t node) {
    const auto& choices = analysis_.choices[node];
    if (choices.empty() || choices[0].decision != GraphDecision::moved) return false;
    const std::size_t value = shape_.nodes[node].uses[0].value;
    if (graph_.types[value]->form(run_.values[value].get()) != GraphForm::gone) return false;
    graph_.inputs[value].reset();
    return true;
}

/// Sleeps until the pool's thread reports the end of a call. When only one call runs, this thread first looks for its
/// reply itself, as long as that is possible without sleeping.
std::vector<std::size_t> GraphScheduler::wait_for_ends() {
    VMCOW_ASSERT(running_ > 0 && "a node that waits has another one to wait for");
    if (running_ == 1) {
        const auto alone = std::find_if(nodes_.begin(), nodes_.end(), [](const Node& node) { return node.call; });
        static_cast<void>(pool_.wait(alone->call, Deadline::at({})));
    }
    std::unique_lock lock(ends_->mutex);
    ends_->some.wait(lock, [&] { return !ends_->nodes.empty(); });
    std::vector<std::size_t> ended;
    ended.reserve(nodes_.size());
    return std::exchange(ends_->nodes, std::move(ended));
}

/// Whether a call was refused because calls of other threads fill the queue. It is tried again when another call of
/// this graph has ended and made room. Without another call it has failed.
bool GraphScheduler::has_to_try_again(std::size_t node) {
    const std::shared_ptr<AsyncCall>& call = nodes_[node].call;
    const Outcome& outcome = call->result.outcome;
    if (outcome.kind != OutcomeKind::not_started || outcome.code != EAGAIN || running_ == 0) return false;
    auto again = std::make_shared<AsyncCall>();
    again->call = std::move(call->call);
    nodes_[node].call = std::move(again);
    ready_.push_back(node);
    std::push_heap(ready_.begin(), ready_.end(), std::greater<>());
    return true;
}

void GraphScheduler::finish(std::size_t node) {
    --running_;
    if (has_to_try_again(node)) return;
    const std::shared_ptr<AsyncCall> call = std::exchange(nodes_[node].call, nullptr);
    const auto& makes = shape_.nodes[node].makes;
    std::vector<GraphSlot> results(makes.size());
    run_.nodes[node].end = graph_.calls[node].finish(call->result, results);
    for (std::size_t i = 0; i < makes.size(); ++i) run_.values[makes[i]] = std::move(results[i]);
    end(node);
}

/// Ends a node, and makes ready the nodes that wait for it, however it ended. A node that needs a missing result is
/// cancelled when it is started.
void GraphScheduler::end(std::size_t node) {
    Node& at = nodes_[node];
    const bool failed = !run_.nodes[node].end.outcome.ok();
    if (failed && !run_.first_failure) run_.first_failure = node;
    const std::size_t cause = at.failed_before.value_or(node);
    for (const std::size_t value : shape_.nodes[node].makes) {
        if (failed) run_.missing[value] = shape_.nodes[cause].name;
    }
    release_values(node);
    --unfinished_;
    for (const std::size_t next : at.after) {
        const auto& data = analysis_.data_before[next];
        const bool needs_it = std::find(data.begin(), data.end(), node) != data.end();
        if (failed && needs_it && !nodes_[next].failed_before) nodes_[next].failed_before = cause;
        if (--nodes_[next].missing > 0) continue;
        ready_.push_back(next);
        std::push_heap(ready_.begin(), ready_.end(), std::greater<>());
    }
}

/// Drops each value whose last reader has ended, except outputs. Of an input only the run's reference is dropped.
void GraphScheduler::release_values(std::size_t node) {
    for (const GraphUse& use : shape_.nodes[node].uses) {
        if (--readers_left_[use.value] == 0 && !shape_.values[use.value].is_output) run_.values[use.value].reset();
    }
    for (const std::size_t value : shape_.nodes[node].makes) {
        if (readers_left_[value] == 0 && !shape_.values[value].is_output) run_.values[value].reset();
    }
}

}  // namespace procrun::detail
