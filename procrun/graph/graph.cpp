#include "procrun/graph.hpp"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <set>
#include <typeinfo>
#include <utility>

#include "procrun/graph/graph_error.hpp"
#include "procrun/graph/graph_problems.hpp"
#include "procrun/graph/graph_run.hpp"
#include "procrun/graph/graph_scheduler.hpp"
#include "procrun/graph/graph_shape.hpp"
#include "procrun/graph/graph_state.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {
namespace detail {

struct PoolAccess {
    static PoolCore& core(Pool& pool) { return *PoolCore::here(pool.core_); }
};

namespace {

/// Zero is never the id of a graph.
std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

/// Removes template arguments that nobody writes, such as ", vmcow::allocator<…>".
void remove_arguments(std::string& text, std::string_view begin) {
    for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
        std::size_t end = at + begin.size();
        for (int depth = 1; end < text.size() && depth > 0; ++end) {
            if (text[end] == '<') ++depth;
            if (text[end] == '>') --depth;
        }
        while (end < text.size() && text[end] == ' ') ++end;
        text.erase(at, end - at);
    }
}

/// The name of a type as a person would write it: "Value<vector<long>>".
std::string readable(const std::type_info& type) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                           &std::free);
    std::string text = status == 0 ? name.get() : type.name();
    replace_all(text, "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string");
    remove_arguments(text, ", std::allocator<");
    remove_arguments(text, ", std::less<");
    remove_arguments(text, ", std::char_traits<");
    remove_arguments(text, ", vmcow::ImageAllocator<");
    remove_arguments(text, ", vmcow::allocator<");
    constexpr std::array<std::string_view, 4> kNoise = {", void",
                                                        "(anonymous namespace)::", "boost::container::", "vmcow::"};
    for (const std::string_view noise : kNoise) replace_all(text, noise, "");
    replace_all(text, "> >", ">>");
    replace_all(text, "basic_string<char>", "string");
    return text;
}

}  // namespace

GraphShape GraphState::checked_shape() const {
    GraphShape now = shape;
    for (std::size_t i = 0; i < now.values.size(); ++i) {
        if (!now.values[i].is_input) continue;
        now.values[i].form = inputs[i] ? types[i]->form(inputs[i].get()) : GraphForm::gone;
    }
    std::vector<std::string> problems = problems_of(now);
    if (!problems.empty()) throw GraphError(std::move(problems));
    return now.resolved();
}

}  // namespace detail

namespace {

[[noreturn]] void refuse(std::string problem) { throw GraphError({std::move(problem)}); }

/// `name` or, where that is taken, "name#2" and so on.
template <class Things>
std::string free_name(const Things& things, const std::string& name) {
    std::set<std::string_view> taken;
    for (const auto& thing : things) taken.insert(thing.name);
    std::string free = name;
    for (unsigned i = 2; taken.contains(free); ++i) free = fmt::format("{}#{}", name, i);
    return free;
}

std::size_t add_value(detail::GraphState& state, detail::GraphValue value, const detail::GraphType& type,
                      detail::GraphSlot input) {
    value.type = detail::readable(*type.info);
    state.shape.values.push_back(std::move(value));
    state.types.push_back(&type);
    state.inputs.push_back(std::move(input));
    return state.shape.values.size() - 1;
}

}  // namespace

Graph::Graph(GraphOptions options) : state_(std::make_unique<detail::GraphState>()) {
    state_->id = detail::next_id();
    state_->options = options;
}
Graph::~Graph() = default;
Graph::Graph(Graph&& other) noexcept = default;
Graph& Graph::operator=(Graph&& other) noexcept = default;

std::uint64_t Graph::id() const noexcept { return state_->id; }

void Graph::check_mine(std::uint64_t graph) const {
    if (graph != state_->id) refuse("an edge of another graph is given to this one");
}

std::size_t Graph::add_input(std::string name, const detail::GraphType& type, detail::GraphSlot value) {
    return add_value(*state_, {.name = std::move(name), .type = {}, .is_input = true, .definitions = 1}, type,
                     std::move(value));
}

std::size_t Graph::add_declared(std::string name, const detail::GraphType& type) {
    return add_value(*state_, {.name = std::move(name), .type = {}}, type, nullptr);
}

void Graph::add_definition(std::size_t declared, std::size_t value) {
    detail::GraphValue& at = state_->shape.values[declared];
    if (++at.definitions == 1) at.stands_for = value;
}

std::size_t Graph::find(std::string_view name, const detail::GraphType& type) const {
    const auto& values = state_->shape.values;
    const auto found =
        std::find_if(values.begin(), values.end(), [&](const detail::GraphValue& value) { return value.name == name; });
    if (found == values.end()) refuse(fmt::format("no value is named '{}'", name));
    const auto at = static_cast<std::size_t>(found - values.begin());
    if (*state_->types[at]->info != *type.info) {
        refuse(fmt::format("'{}' is a {}, and is asked for as a {}", name, found->type, detail::readable(*type.info)));
    }
    return at;
}

void Graph::add_output(std::size_t value) { state_->shape.values[value].is_output = true; }

std::size_t Graph::add_node(const std::string& name, std::vector<detail::GraphUse> uses, detail::GraphCall call) {
    auto& nodes = state_->shape.nodes;
    nodes.push_back({.name = free_name(nodes, name), .uses = std::move(uses), .makes = {}});
    state_->calls.push_back(std::move(call));
    return nodes.size() - 1;
}

std::size_t Graph::add_result(std::size_t node, const detail::GraphType& type) {
    detail::GraphNode& maker = state_->shape.nodes[node];
    const std::string name = maker.makes.empty() ? maker.name : maker.name + ".result";
    const auto form = type.is_image ? detail::GraphForm::frozen : detail::GraphForm::bytes;
    const std::size_t value = add_value(
        *state_,
        {.name = free_name(state_->shape.values, name), .type = {}, .form = form, .maker = node, .definitions = 1},
        type, nullptr);
    maker.makes.push_back(value);
    return value;
}

void Graph::mark_effect(std::size_t node) { state_->shape.nodes[node].is_effect = true; }

GraphPlan Graph::plan() const {
    const detail::GraphShape shape = state_->checked_shape();
    return detail::analyse(shape, state_->options.prefer).plan(shape);
}

GraphRun Graph::run(Pool& pool) {
    const detail::GraphShape shape = state_->checked_shape();
    const detail::GraphAnalysis analysis = detail::analyse(shape, state_->options.prefer);
    auto run = std::make_unique<detail::GraphRunState>();
    run->graph = state_->id;
    run->plan = analysis.plan(shape);
    for (const detail::GraphNode& node : shape.nodes) run->nodes.push_back({.name = node.name});
    run->values = state_->inputs;
    run->missing.resize(shape.values.size());
    detail::GraphScheduler(*state_, shape, analysis, detail::PoolAccess::core(pool), *run).run();

    run->outputs.resize(shape.values.size());
    for (std::size_t i = 0; i < shape.values.size(); ++i) {
        if (state_->shape.values[i].is_output) run->outputs[i] = state_->shape.resolve(i);
        // The graph keeps its inputs: the run gets a copy of an input that is an output.
        if (!state_->inputs[i]) continue;
        run->values[i] = shape.values[i].is_output ? state_->types[i]->copy(state_->inputs[i].get()) : nullptr;
    }
    return GraphRun(std::move(run));
}

}  // namespace procrun
