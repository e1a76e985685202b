#include "procrun/graph/graph_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace procrun {
namespace {

constexpr const char* kCaller = "(caller)";

/// Replaces control characters, so that a name stays on one line of a table.
std::string printable(const std::string& name) {
    std::string text = name;
    std::replace_if(
        text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, '?');
    return text;
}

std::string side(const std::string& node) { return node.empty() ? kCaller : printable(node); }

/// Writes a string of the dot language. Backslashes are doubled, because they begin escapes in labels.
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += static_cast<unsigned char>(c) < ' ' || c == '\x7f' ? '?' : c;
        }
    }
    return out + '"';
}

const char* style_of(GraphDecision decision) noexcept {
    switch (decision) {
        case GraphDecision::moved:
            return "style=bold, color=darkgreen";
        case GraphDecision::shared:
            return "color=darkorange";
        case GraphDecision::private_copy:
            return "color=goldenrod";
        case GraphDecision::snapshot:
            return "style=dotted, color=blue";
        case GraphDecision::alias:
        case GraphDecision::bytes:
        case GraphDecision::output:
            return "color=gray40";
    }
    vmcow::sys::assert_failed("GraphDecision is one of its enumerators", __FILE__, __LINE__);
}

using Row = std::array<std::string, 5>;

/// Writes a table whose columns are as wide as their content; the last column is not padded.
std::string table(const std::vector<Row>& rows) {
    std::array<std::size_t, 4> widths{};
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string out;
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < widths.size(); ++i) {
            fmt::format_to(std::back_inserter(out), "{}{:{}}", row[i], "", widths[i] + 2 - row[i].size());
        }
        out += row.back() + '\n';
    }
    return out;
}

}  // namespace

const char* name_of(GraphDecision decision) noexcept {
    switch (decision) {
        case GraphDecision::alias:
            return "alias";
        case GraphDecision::private_copy:
            return "private";
        case GraphDecision::shared:
            return "shared";
        case GraphDecision::moved:
            return "moved";
        case GraphDecision::snapshot:
            return "snapshot";
        case GraphDecision::bytes:
            return "bytes";
        case GraphDecision::output:
            return "output";
    }
    vmcow::sys::assert_failed("GraphDecision is one of its enumerators", __FILE__, __LINE__);
}

GraphPlan::GraphPlan(std::vector<GraphPlanEdge> edges, std::vector<GraphPlanWait> waits, Levels levels)
    : edges_(std::move(edges)), waits_(std::move(waits)), levels_(std::move(levels)) {}

const GraphPlanEdge* GraphPlan::find(const std::string& value, const std::string& to) const noexcept {
    const auto found = std::find_if(edges_.begin(), edges_.end(),
                                    [&](const GraphPlanEdge& edge) { return edge.value == value && edge.to == to; });
    return found == edges_.end() ? nullptr : &*found;
}

std::string GraphPlan::text() const {
    std::vector<Row> rows{{"value", "from -> to", "type", "decision", "reason"}};
    for (const GraphPlanEdge& edge : edges_) {
        rows.push_back({printable(edge.value), side(edge.from) + " -> " + side(edge.to), edge.type,
                        name_of(edge.decision), printable(edge.reason)});
    }
    std::string out = table(rows);
    for (std::size_t i = 0; i < levels_.size(); ++i) {
        out += fmt::format("level {}: ", i + 1);
        for (const std::string& node : levels_[i]) {
            if (&node != &levels_[i].front()) out += ", ";
            out += printable(node);
        }
        out += '\n';
    }
    return out;
}

std::string GraphPlan::dot() const {
    std::string out = "digraph plan {\n  rankdir=LR;\n  node [shape=box];\n";
    const auto into = std::back_inserter(out);
    std::map<std::string, std::string> ids;
    for (const auto& level : levels_) {
        for (const std::string& node : level) {
            const std::string id = fmt::format("n{}", ids.size());
            fmt::format_to(into, "  {} [label={}];\n", id, quoted(node));
            ids.emplace(node, id);
        }
    }
    // The caller is drawn as one ellipse for each value that comes from it or goes to it.
    std::map<std::string, std::string> outside;
    const auto end = [&](const std::string& node, const char* prefix, const std::string& value) {
        if (!node.empty()) return ids.at(node);
        const auto [place, is_new] = outside.emplace(prefix + value, fmt::format("{}{}", prefix, outside.size()));
        if (is_new) fmt::format_to(into, "  {} [label={}, shape=ellipse];\n", place->second, quoted(value));
        return place->second;
    };
    for (const GraphPlanEdge& edge : edges_) {
        const std::string from = end(edge.from, "in", edge.value);
        const std::string to = end(edge.to, "out", edge.value);
        const std::string label = fmt::format("{}: {}\n{}", edge.value, name_of(edge.decision), edge.reason);
        fmt::format_to(into, "  {} -> {} [label={}, {}];\n", from, to, quoted(label), style_of(edge.decision));
    }
    for (const GraphPlanWait& wait : waits_) {
        fmt::format_to(into, "  {} -> {} [label=\"before\", style=dashed];\n", ids.at(wait.awaited), ids.at(wait.node));
    }
    return out + "}\n";
}

}  // namespace procrun
