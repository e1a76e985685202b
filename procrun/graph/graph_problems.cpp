// Finds what makes a graph impossible to run, before anything runs.
#include "procrun/graph/graph_problems.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace procrun::detail {
namespace {

/// Finds cycles: walks from results to arguments, and reports each path that leads back to itself.
class CycleSearch {
public:
    explicit CycleSearch(const GraphShape& shape) : shape_(shape), states_(shape.nodes.size(), State::unseen) {}

    std::vector<std::string> run() {
        for (std::size_t node = 0; node < states_.size(); ++node) {
            if (states_[node] == State::unseen) walk(node);
        }
        return std::move(found_);
    }

private:
    enum class State : std::uint8_t { unseen, on_path, done };
    struct Step {
        std::size_t node;
        std::size_t next_use = 0;
    };

    /// The node that makes the value of one use.
    [[nodiscard]] std::optional<std::size_t> maker(std::size_t node, std::size_t use) const {
        const auto value = shape_.resolve(shape_.nodes[node].uses[use].value);
        return value ? shape_.values[*value].maker : std::nullopt;
    }

    void walk(std::size_t start) {
        path_.push_back({start});
        states_[start] = State::on_path;
        while (!path_.empty()) {
            Step& step = path_.back();
            if (step.next_use == shape_.nodes[step.node].uses.size()) {
                states_[step.node] = State::done;
                path_.pop_back();
                continue;
            }
            const auto before = maker(step.node, step.next_use++);
            if (!before || states_[*before] == State::done) continue;
            if (states_[*before] == State::on_path) {
                report(*before);
            } else {
                states_[*before] = State::on_path;
                path_.push_back({*before});
            }
        }
    }

    /// Reports a cycle in the order in which values would flow.
    void report(std::size_t node) {
        const auto begin =
            std::find_if(path_.begin(), path_.end(), [&](const Step& step) { return step.node == node; });
        std::string text = fmt::format("cycle: '{}'", shape_.nodes[node].name);
        for (auto step = path_.end(); step != begin;) {
            --step;
            text += fmt::format(" -> '{}'", shape_.nodes[step->node].name);
        }
        if (std::find(found_.begin(), found_.end(), text) == found_.end()) found_.push_back(std::move(text));
    }

    const GraphShape& shape_;
    std::vector<State> states_;
    std::vector<Step> path_;
    std::vector<std::string> found_;
};

struct Readers {
    std::vector<std::string> nodes;
    bool is_output = false;

    [[nodiscard]] bool none() const noexcept { return nodes.empty() && !is_output; }
};

/// The readers of each value, including those that read it by a value that stands for it.
std::vector<Readers> readers_of(const GraphShape& shape) {
    std::vector<Readers> readers(shape.values.size());
    for (const GraphNode& node : shape.nodes) {
        for (const GraphUse& use : node.uses) {
            if (const auto value = shape.resolve(use.value)) readers[*value].nodes.push_back(node.name);
        }
    }
    for (std::size_t i = 0; i < shape.values.size(); ++i) {
        const auto value = shape.resolve(i);
        if (value && shape.values[i].is_output) readers[*value].is_output = true;
    }
    return readers;
}

void check_definition(const GraphShape& shape, std::size_t at, const Readers& readers,
                      std::vector<std::string>& problems) {
    const GraphValue& value = shape.values[at];
    if (value.definitions > 1) problems.push_back(fmt::format("'{}' is defined twice", value.name));
    if (!shape.resolve(at)) {
        problems.push_back(fmt::format("cycle: '{}' is defined to be itself", value.name));
    } else if (value.definitions == 0) {
        const std::string reader = readers.nodes.empty() ? "" : fmt::format(", and '{}' reads it", readers.nodes[0]);
        problems.push_back(fmt::format("'{}' is declared and never defined{}", value.name, reader));
    }
    if (value.is_input && value.form == GraphForm::gone) {
        problems.push_back(fmt::format("input '{}' is gone: an earlier run has moved it", value.name));
    }
}

/// Checks that something reads the new value of a node. Only what an applied function returned beside it may be unread.
void check_results(const GraphShape& shape, const GraphNode& node, const std::vector<Readers>& readers,
                   std::vector<std::string>& problems) {
    if (node.makes.empty() || !readers[node.makes[0]].none()) return;
    const std::string& value = shape.values[node.makes[0]].name;
    if (node.makes.size() > 1 && !readers[node.makes[1]].none()) {
        problems.push_back(fmt::format(
            "'{}' is unused: nobody reads the value that '{}' makes: call it, do not apply it", value, node.name));
    } else {
        problems.push_back(fmt::format("'{}' is unused: nobody reads what '{}' makes", value, node.name));
    }
}

}  // namespace

std::vector<std::string> problems_of(const GraphShape& shape) {
    std::vector<std::string> problems;
    const std::vector<Readers> readers = readers_of(shape);
    std::map<std::string, unsigned> names;
    for (std::size_t i = 0; i < shape.values.size(); ++i) {
        const GraphValue& value = shape.values[i];
        if (++names[value.name] == 2) problems.push_back(fmt::format("two values are named '{}'", value.name));
        check_definition(shape, i, readers[i], problems);
        if (value.is_input && readers[i].none()) {
            problems.push_back(fmt::format("input '{}' is unused: nobody reads it", value.name));
        }
    }
    for (const GraphNode& node : shape.nodes) check_results(shape, node, readers, problems);
    for (std::string& cycle : CycleSearch(shape).run()) problems.push_back(std::move(cycle));
    return problems;
}

}  // namespace procrun::detail
