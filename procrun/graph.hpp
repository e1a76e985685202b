#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "procrun/call_options.hpp"
#include "procrun/graph/graph_call.hpp"
#include "procrun/graph/graph_error.hpp"
#include "procrun/graph/graph_plan.hpp"
#include "procrun/graph/graph_run.hpp"
#include "procrun/graph/graph_shape.hpp"
#include "procrun/pool.hpp"
#include "procrun/pool/call_fit.hpp"
#include "procrun/pool/function_traits.hpp"

namespace procrun {

namespace detail {
struct GraphState;
}

/// Dataflow: calls through a pool, and the values that go from one call to the next.
///
///     procrun::Graph graph;
///     auto a = graph.input("a", std::move(numbers));            // vmcow::Value<vmcow::vector<long>>
///     auto total = graph.call("total", sum, a);                 // long sum(const vmcow::vector<long>&)
///     auto b = graph.apply("scale", scale, a, total);           // void scale(vmcow::vector<long>&, long)
///     graph.effect("log", log, b);                              // nobody waits for it
///     graph.output(b);
///     std::cout << graph.plan().text();                         // a: alias to total, moved to scale; …
///     procrun::GraphRun run = graph.run(pool);
///     vmcow::Value<vmcow::vector<long>> scaled = run.take(b);
///
/// An edge stands for one value, which never changes: `apply` makes a new value and leaves the first as it is for its
/// other readers, wherever they stand in the program. The graph copies only what must be copied for that. `plan()` says
/// how each value gets to each reader, and why:
///   - a read-only parameter gets an alias;
///   - a parameter `T&` of a `call` gets private pages, and its writes stay in the call;
///   - the first argument of an `apply` is changed in place where that is the last use of the value, and shared where
///     it is not: the new value then shares all other pages with the old one;
///   - a side effect gets a snapshot.
/// Calls that do not wait for each other's values run at the same time, as far as the pool has workers.
///
/// Functions and arguments are those of Pool::async and Pool::async_apply, with two differences: of an `apply` only the
/// first argument comes back changed, and an image can be given only as an edge. Names are for people. When the name of
/// a node is taken, the node is named "name#2". Its value has the name of the node, and what an applied function
/// returns beside the value is named "name.result".
///
/// Threads: one at a time.
class Graph {
public:
    template <class T>
    using Edge = GraphEdge<T>;

    explicit Graph(GraphOptions options = {});
    ~Graph();
    Graph(Graph&& other) noexcept;
    Graph& operator=(Graph&& other) noexcept;

    // ---- values

    /// Adds a value that is known. The graph keeps the value for further runs, until a run moves it.
    template <class T>
    // NOLINTNEXTLINE(performance-unnecessary-value-param): it is moved on
    requires std::copyable<std::remove_cvref_t<T>> Edge<std::remove_cvref_t<T>> input(std::string name, T&& value) {
        using V = std::remove_cvref_t<T>;
        static_assert(detail::kHasImage<V> || Transferable<V>,
                      "a value of a graph is a vmcow::Value, a vmcow::Snapshot, or what a pool call takes as bytes");
        return edge_of<V>(
            add_input(std::move(name), detail::graph_type<V>(), std::make_shared<V>(std::forward<T>(value))));
    }
    /// Adds a value that `define` gives later, so that its readers can be added first.
    template <class T>
    // NOLINTNEXTLINE(performance-unnecessary-value-param): it is moved on
    Edge<T> declare(std::string name) {
        return edge_of<T>(add_declared(std::move(name), detail::graph_type<T>()));
    }
    /// Defines `declared` to be `value`, which gets the declared name unless it is an input.
    /// Throws: GraphError -- an edge of another graph.
    template <class T>
    void define(const Edge<T>& declared, const Edge<T>& value) {
        add_definition(mine(declared), mine(value));
    }
    /// Finds a value by name. Throws: GraphError -- no value has the name, or it is of another type.
    template <class T>
    [[nodiscard]] Edge<T> edge(std::string_view name) const {
        return edge_of<T>(find(name, detail::graph_type<T>()));
    }
    /// Marks a value that the caller reads after the run.
    template <class T>
    void output(const Edge<T>& value) {
        add_output(mine(value));
    }

    // ---- calls

    /// Adds a call of `function(args...)`, and returns the edge of the function's result. Each argument is an edge, or
    /// a value that is sent as bytes.
    /// Throws: GraphError -- an edge of another graph.
    template <class F, class... A>
    auto call(const CallOptions& options, const std::string& name, F function, const A&... args) {
        if constexpr (fits<detail::CallKind::async, F, A...>()) {
            using R = detail::ResultOf<F>;
            static_assert(!std::is_void_v<R>,
                          "a call of a function that returns nothing is an effect: graph.effect(...)");
            if constexpr (!std::is_void_v<R>) {
                const std::size_t node = add<false>(name, options, function, detail::finish_graph_call<R>, args...);
                return edge_of<R>(add_result(node, detail::graph_type<R>()));
            }
        }
    }
    template <class F, class... A>
    auto call(const std::string& name, F function, const A&... args) {
        return call(CallOptions{}, name, function, args...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void call(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Adds a call of `function(image, args...)` that makes a new value of its first argument, as Pool::apply does, and
    /// returns the edge of that value. If the function returns something, it is a pair of that edge and the edge of the
    /// result, and the result may be left unread.
    /// Throws: GraphError -- an edge of another graph.
    template <class F, class... A>
    auto apply(const CallOptions& options, const std::string& name, F function, const A&... args) {
        if constexpr (fits<detail::CallKind::async_apply_first, F, A...>()) {
            using R = detail::ResultOf<F>;
            using First = std::tuple_element_t<0, std::tuple<typename detail::GraphArgument<A>::Type...>>;
            using Image = detail::ImageResultOf<First>;
            const std::size_t node = add<true>(name, options, function, detail::finish_graph_apply<First, R>, args...);
            const auto image = edge_of<Image>(add_result(node, detail::graph_type<Image>()));
            if constexpr (std::is_void_v<R>) {
                return image;
            } else {
                return std::pair(image, edge_of<R>(add_result(node, detail::graph_type<R>())));
            }
        }
    }
    template <class F, class... A>
    auto apply(const std::string& name, F function, const A&... args) {
        return apply(CallOptions{}, name, function, args...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void apply(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Adds a call of `function(args...)` for its side effect, on the values as they are at this place. No other call
    /// waits for it, but the run does. The result of the function is dropped.
    /// Throws: GraphError -- an edge of another graph.
    template <class F, class... A>
    void effect(const CallOptions& options, const std::string& name, F function, const A&... args) {
        if constexpr (fits<detail::CallKind::async, F, A...>()) {
            mark_effect(add<false>(name, options, function, detail::finish_graph_effect, args...));
        }
    }
    template <class F, class... A>
    void effect(const std::string& name, F function, const A&... args) {
        effect(CallOptions{}, name, function, args...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void effect(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    // ---- running

    /// What a run would do now. Throws: GraphError -- the graph cannot be run.
    [[nodiscard]] GraphPlan plan() const;

    /// Runs all calls, and waits for them. When a call does not return, the values that depend on it are missing, and
    /// the result says so; all other values are made. Inputs that were not moved are as before.
    /// Throws: GraphError -- the graph cannot be run; nothing has run. std::bad_alloc, or what the Transfer of an
    ///         argument throws; calls that were running have been cancelled.
    [[nodiscard]] GraphRun run(Pool& pool);

private:
    /// Fails to compile, with one sentence, for a function and arguments that do not fit.
    template <detail::CallKind Kind, class F, class... A>
    static constexpr bool fits() {
        constexpr bool kImagesAreEdges =
            ((detail::kIsEdge<A> || detail::kIsEdgePiece<A> || !detail::kHasImage<A>)&&...);
        static_assert(kImagesAreEdges, "an image is given to a graph as an input, and to its calls as that edge");
        if constexpr (!kImagesAreEdges) {
            return false;
        } else {
            // Edges count as lvalues: the plan decides which values are moved.
            return detail::fits_call<Kind, F, const typename detail::GraphArgument<A>::Type&...>();
        }
    }

    template <class T>
    [[nodiscard]] Edge<T> edge_of(std::size_t value) const {
        return Edge<T>(id(), value);
    }
    template <class T>
    [[nodiscard]] std::size_t mine(const Edge<T>& edge) const {
        check_mine(edge.graph_);
        return edge.value_;
    }

    template <bool Applies, class F, class Finish, class... A>
    std::size_t add(const std::string& name, const CallOptions& options, const F& function, Finish finish,
                    const A&... args) {
        std::vector<detail::GraphUse> uses;
        std::size_t images = 0;
        auto bound =
            bind<Applies>(static_cast<typename detail::Signature<F>::Parameters*>(nullptr), uses, images, args...);
        return add_node(name, std::move(uses),
                        {detail::graph_call_maker<F, Applies>(function, options, std::move(bound)), finish});
    }

    template <bool Applies, class... P, class... A>
    auto bind(std::tuple<P...>*, std::vector<detail::GraphUse>& uses, std::size_t& images, const A&... args) const {
        return std::tuple{bind_one<Applies, P>(uses, images, args)...};  // braces: from left to right
    }

    template <bool Applies, class P, class A>
    auto bind_one(std::vector<detail::GraphUse>& uses, [[maybe_unused]] std::size_t& images, const A& arg) const {
        if constexpr (detail::kIsEdge<A>) {
            using T = typename A::Type;
            return detail::ValueOfEdge<T>{add_use<Applies, P, T>(uses, images, arg, detail::GraphPiece::whole)};
        } else if constexpr (detail::kIsEdgePiece<A>) {
            return bind_piece<Applies, P>(uses, images, arg);
        } else {
            using V = std::remove_cvref_t<P>;
            return detail::GivenValue<V>{static_cast<V>(arg)};
        }
    }

    template <bool Applies, class P, class V, class Pick, detail::GraphPiece kPiece>
    auto bind_piece(std::vector<detail::GraphUse>& uses, std::size_t& images,
                    const GraphEdgePiece<V, Pick, kPiece>& piece) const {
        using T = typename GraphEdgePiece<V, Pick, kPiece>::Type;
        return detail::PieceOfEdge<V, Pick, kPiece>{add_use<Applies, P, T>(uses, images, piece.edge(), kPiece),
                                                    piece.pick()};
    }

    /// Notes that the parameter P takes a T, which is the value of `edge` or a piece of it. Returns the use's index.
    template <bool Applies, class P, class T, class V>
    std::size_t add_use(std::vector<detail::GraphUse>& uses, [[maybe_unused]] std::size_t& images, const Edge<V>& edge,
                        detail::GraphPiece piece) const {
        detail::GraphUse use{mine(edge), detail::access_of<P, T>(), {}, piece};
        if (Applies && uses.empty()) use.access = detail::GraphAccess::applies;
        if constexpr (detail::kHasImage<T>) use.image = images++;
        uses.push_back(use);
        return uses.size() - 1;
    }

    [[nodiscard]] std::uint64_t id() const noexcept;
    void check_mine(std::uint64_t graph) const;
    std::size_t add_input(std::string name, const detail::GraphType& type, detail::GraphSlot value);
    std::size_t add_declared(std::string name, const detail::GraphType& type);
    void add_definition(std::size_t declared, std::size_t value);
    [[nodiscard]] std::size_t find(std::string_view name, const detail::GraphType& type) const;
    void add_output(std::size_t value);
    std::size_t add_node(const std::string& name, std::vector<detail::GraphUse> uses, detail::GraphCall call);
    std::size_t add_result(std::size_t node, const detail::GraphType& type);
    void mark_effect(std::size_t node);

    std::unique_ptr<detail::GraphState> state_;
};

}  // namespace procrun
