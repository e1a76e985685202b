// The analysis of a graph: how each value gets to each of its readers.
#include "procrun/graph/graph_shape.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <queue>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace procrun::detail {
namespace {

using Nodes = std::vector<std::size_t>;

/// Which nodes come before which other nodes, directly or through others.
class Order {
public:
    explicit Order(std::size_t nodes) : before_(nodes, std::vector<bool>(nodes)) {}

    [[nodiscard]] bool is_before(std::size_t first, std::size_t second) const { return before_[second][first]; }

    /// Puts `first` before `second`. Pre: `second` is not before `first`.
    void add(std::size_t first, std::size_t second) {
        VMCOW_ASSERT(first != second && !is_before(second, first) && "a graph stays without cycles");
        std::vector<bool> added = before_[first];
        added[first] = true;
        join(second, added);
        for (std::size_t node = 0; node < before_.size(); ++node) {
            if (before_[node][second]) join(node, added);
        }
    }

private:
    void join(std::size_t node, const std::vector<bool>& added) {
        for (std::size_t i = 0; i < added.size(); ++i) {
            if (added[i]) before_[node][i] = true;
        }
    }

    std::vector<std::vector<bool>> before_;
};

/// Orders the nodes so that each comes after those it waits for, and otherwise as they were added.
Nodes in_order(const std::vector<Nodes>& before) {
    std::vector<std::size_t> missing(before.size());
    std::vector<Nodes> after(before.size());
    std::priority_queue<std::size_t, Nodes, std::greater<>> ready;
    for (std::size_t node = 0; node < before.size(); ++node) {
        missing[node] = before[node].size();
        for (const std::size_t first : before[node]) after[first].push_back(node);
        if (missing[node] == 0) ready.push(node);
    }
    Nodes order;
    while (!ready.empty()) {
        const std::size_t node = ready.top();
        ready.pop();
        order.push_back(node);
        for (const std::size_t next : after[node]) {
            if (--missing[next] == 0) ready.push(next);
        }
    }
    VMCOW_ASSERT(order.size() == before.size() && "a graph that is analysed has no cycle");
    return order;
}

/// "'a'", "'a' and 'b'", "'a', 'b' and 'c'".
std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
        text += fmt::format("'{}'", names[i]);
    }
    return text;
}

class Analyser {
public:
    Analyser(const GraphShape& shape, GraphPreference preference)
        : shape_(shape), preference_(preference), order_(shape.nodes.size()), uses_(shape.values.size()) {}

    GraphAnalysis run() {
        const std::size_t nodes = shape_.nodes.size();
        result_.choices.resize(nodes);
        result_.data_before.resize(nodes);
        result_.order_before.resize(nodes);
        result_.borrowed.resize(shape_.values.size());
        for (const GraphValue& value : shape_.values) forms_.push_back(value.form);
        note_uses();
        for (std::size_t value = 0; value < shape_.values.size(); ++value) {
            if (!shape_.values[value].maker) decide(value);
        }
        for (const std::size_t node : in_order(result_.data_before)) {
            for (const std::size_t value : shape_.nodes[node].makes) {
                note_form(node, value);
                decide(value);
            }
        }
        return std::move(result_);
    }

private:
    struct Use {
        std::size_t node;
        std::size_t use;
    };

    [[nodiscard]] const GraphUse& at(const Use& use) const { return shape_.nodes[use.node].uses[use.use]; }
    [[nodiscard]] const std::string& name(std::size_t node) const { return shape_.nodes[node].name; }
    [[nodiscard]] GraphChoice& choice(const Use& use) { return result_.choices[use.node][use.use]; }

    void note_uses() {
        for (std::size_t node = 0; node < shape_.nodes.size(); ++node) {
            const auto& uses = shape_.nodes[node].uses;
            result_.choices[node].resize(uses.size());
            Nodes& before = result_.data_before[node];
            for (std::size_t i = 0; i < uses.size(); ++i) {
                VMCOW_ASSERT(!shape_.values[uses[i].value].stands_for && "the shape is resolved");
                uses_[uses[i].value].push_back({node, i});
                if (const auto maker = shape_.values[uses[i].value].maker) before.push_back(*maker);
            }
            std::sort(before.begin(), before.end());
            before.erase(std::unique(before.begin(), before.end()), before.end());
        }
        for (const std::size_t node : in_order(result_.data_before)) {
            for (const std::size_t first : result_.data_before[node]) {
                if (!order_.is_before(first, node)) order_.add(first, node);
            }
        }
    }

    /// Notes the form of an applied value: what was changed in place can be changed in place again.
    void note_form(std::size_t node, std::size_t value) {
        const auto& uses = shape_.nodes[node].uses;
        if (uses.empty() || uses[0].access != GraphAccess::applies || shape_.nodes[node].makes[0] != value) return;
        const bool moved = result_.choices[node][0].decision == GraphDecision::moved;
        forms_[value] = moved ? GraphForm::movable : GraphForm::frozen;
    }

    void decide(std::size_t value) {
        std::vector<Use> appliers;
        bool has_snapshot = false;
        for (const Use& use : uses_[value]) {
            if (at(use).access == GraphAccess::applies) {
                appliers.push_back(use);
            } else {
                choice(use) = choice_of_reader(use);
                // A piece is taken of a snapshot of the value.
                const bool is_piece = at(use).piece != GraphPiece::whole;
                if (choice(use).decision == GraphDecision::snapshot || is_piece) has_snapshot = true;
            }
        }
        bool shared = false;
        for (const Use& use : appliers) {
            std::string obstacle = obstacle_to_move(value, use, appliers);
            if (obstacle.empty()) {
                choice(use) = {GraphDecision::moved, "last reader" + wait_for_readers(value, use.node)};
            } else {
                choice(use) = {GraphDecision::shared, std::move(obstacle)};
                shared = true;
            }
        }
        result_.borrowed[value] = forms_[value] == GraphForm::movable && !shared && !has_snapshot;
    }

    [[nodiscard]] GraphChoice choice_of_reader(const Use& use) const {
        const GraphAccess access = at(use).access;
        if (access == GraphAccess::bytes) return {GraphDecision::bytes, "no image"};
        if (shape_.nodes[use.node].is_effect) {
            return {GraphDecision::snapshot,
                    access == GraphAccess::reads ? "side effect" : "side effect, its changes stay in the call"};
        }
        if (access == GraphAccess::reads) return {GraphDecision::alias, "read only"};
        return {GraphDecision::private_copy, "its changes stay in the call"};
    }

    /// Why the value cannot be changed in place by `use`; empty when it can.
    [[nodiscard]] std::string obstacle_to_move(std::size_t value, const Use& use,
                                               const std::vector<Use>& appliers) const {
        if (shape_.values[value].is_output) return "the caller reads it after the run";
        for (const Use& other : appliers) {
            if (other.node != use.node) return fmt::format("'{}' makes another value of it", name(other.node));
        }
        if (at(use).piece == GraphPiece::part) return "a part is an image of its own";
        for (const Use& other : uses_[value]) {
            if (other.node == use.node && other.use != use.use) return "the same call reads it, too";
            const bool is_piece = other.node != use.node && at(other).piece != GraphPiece::whole;
            if (is_piece) return fmt::format("'{}' has a part of it", name(other.node));
            if (shape_.nodes[other.node].is_effect) return fmt::format("side effect '{}' has it", name(other.node));
        }
        for (const Use& other : uses_[value]) {
            if (order_.is_before(use.node, other.node)) return fmt::format("'{}' reads it later", name(other.node));
        }
        if (preference_ == GraphPreference::parallel) {
            for (const Use& other : uses_[value]) {
                if (is_unordered(other.node, use.node)) {
                    return fmt::format("'{}' may read it at the same time", name(other.node));
                }
            }
        }
        return obstacle_of_form(value);
    }

    [[nodiscard]] std::string obstacle_of_form(std::size_t value) const {
        const GraphValue& known = shape_.values[value];
        switch (forms_[value]) {
            case GraphForm::movable:
                return {};
            case GraphForm::kept:
                return "last reader, but the caller keeps a copy";
            case GraphForm::bytes:
            case GraphForm::gone:
            case GraphForm::frozen:
                break;
        }
        if (!known.maker) return "last reader, but its image is frozen or empty";
        const auto& uses = shape_.nodes[*known.maker].uses;
        const bool is_delta = !uses.empty() && uses[0].access == GraphAccess::applies;
        return fmt::format("last reader, but '{}' has made it as a {}", name(*known.maker),
                           is_delta ? "delta" : "frozen image");
    }

    [[nodiscard]] bool is_unordered(std::size_t a, std::size_t b) const {
        return a != b && !order_.is_before(a, b) && !order_.is_before(b, a);
    }

    /// Puts the readers of a value before the node that changes it in place, and names those that were not there yet.
    std::string wait_for_readers(std::size_t value, std::size_t mover) {
        std::vector<std::string> names;
        for (const Use& use : uses_[value]) {
            if (!is_unordered(use.node, mover)) continue;
            order_.add(use.node, mover);
            result_.order_before[mover].push_back(use.node);
            names.push_back(name(use.node));
        }
        return names.empty() ? "" : ", waits for " + listed(names);
    }

    const GraphShape& shape_;
    GraphPreference preference_;
    Order order_;
    std::vector<std::vector<Use>> uses_;  // by value
    std::vector<GraphForm> forms_;        // by value
    GraphAnalysis result_;
};

/// All nodes that each node waits for.
std::vector<Nodes> all_before(const GraphAnalysis& analysis) {
    std::vector<Nodes> before = analysis.data_before;
    for (std::size_t node = 0; node < before.size(); ++node) {
        const Nodes& more = analysis.order_before[node];
        before[node].insert(before[node].end(), more.begin(), more.end());
    }
    return before;
}

GraphPlan::Levels levels_of(const GraphShape& shape, const GraphAnalysis& analysis) {
    const std::vector<Nodes> before = all_before(analysis);
    std::vector<std::size_t> level(before.size());
    GraphPlan::Levels levels;
    for (const std::size_t node : in_order(before)) {
        for (const std::size_t first : before[node]) level[node] = std::max(level[node], level[first] + 1);
        if (level[node] >= levels.size()) levels.resize(level[node] + 1);
        levels[level[node]].push_back(shape.nodes[node].name);
    }
    return levels;
}

}  // namespace

std::optional<std::size_t> GraphShape::resolve(std::size_t value) const {
    for (std::size_t steps = 0; steps <= values.size(); ++steps) {
        if (!values[value].stands_for) return value;
        value = *values[value].stands_for;
    }
    return std::nullopt;
}

GraphShape GraphShape::resolved() const {
    GraphShape shape = *this;
    for (GraphNode& node : shape.nodes) {
        for (GraphUse& use : node.uses) use.value = resolve(use.value).value();
    }
    // The name that was declared for it is the one by which its readers know it. The first one wins.
    for (std::size_t i = values.size(); i-- > 0;) {
        if (!values[i].stands_for) continue;
        GraphValue& real = shape.values[resolve(i).value()];
        if (!real.is_input) real.name = values[i].name;
        real.is_output = real.is_output || values[i].is_output;
        shape.values[i].is_output = false;
    }
    return shape;
}

GraphPlan GraphAnalysis::plan(const GraphShape& shape) const {
    std::vector<std::vector<GraphPlanEdge>> by_value(shape.values.size());
    const auto edge = [&](std::size_t value) {
        const GraphValue& known = shape.values[value];
        const std::string from = known.maker ? shape.nodes[*known.maker].name : std::string();
        return GraphPlanEdge{known.name, known.type, from, {}, GraphDecision::output, "read after the run", {}};
    };
    std::vector<GraphPlanWait> waits;
    for (std::size_t node = 0; node < shape.nodes.size(); ++node) {
        for (std::size_t i = 0; i < shape.nodes[node].uses.size(); ++i) {
            const GraphUse& use = shape.nodes[node].uses[i];
            GraphPlanEdge& to = by_value[use.value].emplace_back(edge(use.value));
            to.to = shape.nodes[node].name;
            to.decision = choices[node][i].decision;
            to.reason = choices[node][i].reason;
            to.image = use.image;
        }
        for (const std::size_t first : order_before[node]) {
            waits.push_back({shape.nodes[node].name, shape.nodes[first].name});
        }
    }
    std::vector<GraphPlanEdge> edges;
    for (std::size_t value = 0; value < shape.values.size(); ++value) {
        if (shape.values[value].is_output) by_value[value].push_back(edge(value));
        std::move(by_value[value].begin(), by_value[value].end(), std::back_inserter(edges));
    }
    return {std::move(edges), std::move(waits), levels_of(shape, *this)};
}

GraphAnalysis analyse(const GraphShape& shape, GraphPreference preference) { return Analyser(shape, preference).run(); }

}  // namespace procrun::detail
