#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "procrun/graph/graph_shape.hpp"
#include "procrun/pool.hpp"
#include "procrun/pool/call_packing.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/pool/image_parameter.hpp"

// The calls of a graph without their types: how a call is made from values, and how its results become values.

namespace procrun {

class Graph;
template <class T>
class GraphEdge;

/// A part or a member of a value of a graph, as an argument of a call. Made by GraphEdge::part and GraphEdge::member.
template <class V, class Pick, detail::GraphPiece kPiece>
class GraphEdgePiece {
public:
    GraphEdgePiece(const GraphEdge<V>& edge, Pick pick) : edge_(edge), pick_(std::move(pick)) {}

    /// The piece of `value`.
    template <class Whole>
    static auto of(Whole&& value, const Pick& pick) {
        if constexpr (kPiece == detail::GraphPiece::part) {
            return std::forward<Whole>(value).part(pick);
        } else {
            return std::forward<Whole>(value).member(pick);
        }
    }
    using Type = decltype(of(std::declval<const V&>(), std::declval<const Pick&>()));

    [[nodiscard]] const GraphEdge<V>& edge() const noexcept { return edge_; }
    [[nodiscard]] const Pick& pick() const noexcept { return pick_; }

private:
    GraphEdge<V> edge_;
    Pick pick_;
};

/// Refers to a value of a graph: an input, or a value that a call will make.
template <class T>
class GraphEdge {
public:
    using Type = T;

    /// A part of the value, as Value::part. The graph knows that it is one: who changes the value meanwhile, or another
    /// part of it, does not change it in place.
    template <class Pick>
    requires detail::kIsValue<T>
    [[nodiscard]] auto part(Pick pick) const {
        return GraphEdgePiece<T, Pick, detail::GraphPiece::part>(*this, std::move(pick));
    }
    /// A member of the value, as Value::member; likewise.
    template <class Pick>
    requires detail::kIsValue<T>
    [[nodiscard]] auto member(Pick pick) const {
        return GraphEdgePiece<T, Pick, detail::GraphPiece::member>(*this, std::move(pick));
    }

private:
    friend class Graph;
    friend class GraphRun;
    GraphEdge(std::uint64_t graph, std::size_t value) noexcept : graph_(graph), value_(value) {}

    std::uint64_t graph_;
    std::size_t value_;
};

namespace detail {

/// The object of a value. Its type is known to the node that made it and to the nodes that read it.
using GraphSlot = std::shared_ptr<void>;

/// What a graph has to know about the type of a value.
struct GraphType {
    const std::type_info* info;
    bool is_image;
    GraphForm (*form)(const void*);
    GraphSlot (*copy)(const void*);
};

template <class T>
GraphForm form_of(const T& object) {
    if constexpr (kIsValue<T>) {
        if (!object.handle()) return GraphForm::gone;
        if (!object.is_unique()) return GraphForm::kept;
        // What is small has no file to be moved; its bytes are sent, and nobody else has them.
        if (object.handle()->block_bytes()) return GraphForm::movable;
        std::unique_lock<std::recursive_mutex> lock;
        const bool is_arena = object.handle()->arena(lock) != nullptr;
        return is_arena && object.extent_bytes() > 0 ? GraphForm::movable : GraphForm::frozen;
    } else {
        return kHasImage<T> ? GraphForm::frozen : GraphForm::bytes;
    }
}

template <class T>
const GraphType& graph_type() {
    static const GraphType type{
        &typeid(T), kHasImage<T>, [](const void* object) { return form_of(*static_cast<const T*>(object)); },
        [](const void* object) -> GraphSlot { return std::make_shared<T>(*static_cast<const T*>(object)); }};
    return type;
}

/// One value that a call takes, and how it takes an image. A value that is no image is sent as bytes in any case.
struct GraphHanded {
    enum class How : std::uint8_t {
        as_it_is,  ///< an image is borrowed unfrozen
        frozen,    ///< an image is frozen first, because a new value may share it, or a side effect outlive it (I2)
        moved,     ///< an image is changed in place, and the value is gone afterwards
    };

    void* object;
    How how;
};

/// The end of one call.
struct GraphCallEnd {
    Outcome outcome;
    CallCost cost;
};

struct GraphCall {
    /// Puts the function and the values into the call. `values` are in the order of the node's uses. Throws as
    /// Pool::async does.
    std::function<void(ErasedCall& call, std::span<const GraphHanded> values)> make;
    /// Turns the results of the call into the values that its node makes.
    std::function<GraphCallEnd(ErasedResult& result, std::span<GraphSlot> values)> finish;
};

// ---- arguments

template <class A>
struct EdgeArgument {};
template <class T>
struct EdgeArgument<GraphEdge<T>> {
    using Type = T;
};
template <class A>
inline constexpr bool kIsEdge = requires {
    typename EdgeArgument<std::remove_cvref_t<A>>::Type;
};

template <class A>
inline constexpr bool kIsEdgePiece = false;
template <class V, class Pick, GraphPiece kPiece>
inline constexpr bool kIsEdgePiece<GraphEdgePiece<V, Pick, kPiece>> = true;

/// The type of a node's argument as the call sees it: the type of the edge's value or of its piece, or of the value
/// that is given now.
template <class A>
struct GraphArgument {
    using Type = std::remove_cvref_t<A>;
};
template <class A>
requires kIsEdge<A>
struct GraphArgument<A> : EdgeArgument<std::remove_cvref_t<A>> {
};

template <class A>
requires kIsEdgePiece<std::remove_cvref_t<A>>
struct GraphArgument<A> {
    using Type = typename std::remove_cvref_t<A>::Type;
};

/// An argument that is the value of an edge: it is known when the call is made. `use` is its index in the node's uses.
template <class T>
struct ValueOfEdge {
    std::size_t use;

    [[nodiscard]] const T& get(std::span<const GraphHanded> values) const {
        const T& object = *static_cast<const T*>(values[use].object);
        // The first reader freezes the value, so that no reader has borrowed an image that another one freezes.
        if constexpr (kIsValue<T>) {
            if (values[use].how == GraphHanded::How::frozen) static_cast<void>(object.snapshot());
        }
        return object;
    }
    [[nodiscard]] T&& take(std::span<const GraphHanded> values) const {
        return std::move(*static_cast<T*>(values[use].object));
    }
};

/// An argument that is a piece of the value of an edge.
template <class V, class Pick, GraphPiece kPiece>
struct PieceOfEdge {
    std::size_t use;
    Pick pick;

    [[nodiscard]] auto get(std::span<const GraphHanded> values) const {
        return GraphEdgePiece<V, Pick, kPiece>::of(ValueOfEdge<V>{use}.get(values), pick);
    }
    [[nodiscard]] auto take(std::span<const GraphHanded> values) const {
        return GraphEdgePiece<V, Pick, kPiece>::of(ValueOfEdge<V>{use}.take(values), pick);
    }
};

/// An argument that was given when the node was added.
template <class V>
struct GivenValue {
    V value;

    [[nodiscard]] const V& get(std::span<const GraphHanded>) const { return value; }
};

// ---- calls

/// An argument that is not moved is an lvalue, also where it is a piece that was taken just now.
template <class Bound>
using Kept = const std::remove_cvref_t<decltype(std::declval<const Bound&>().get({}))>&;

template <class F, class Parameters, bool Applies, class First, class... Rest>
void make_graph_call(ErasedCall& call, const F& function, std::span<const GraphHanded> values, const First& first,
                     const Rest&... rest) {
    constexpr ImageMode kMode = Applies ? ImageMode::apply : ImageMode::by_value;
    if constexpr (Applies) {
        if (values[0].how == GraphHanded::How::moved) {
            using Moved = std::remove_reference_t<decltype(first.take(values))>;
            return CallMaker<F, Parameters, Moved, Kept<Rest>...>::make(call, function, kMode, first.take(values),
                                                                        rest.get(values)...);
        }
    }
    CallMaker<F, Parameters, Kept<First>, Kept<Rest>...>::make(call, function, kMode, first.get(values),
                                                               rest.get(values)...);
}

/// Returns the function that makes the call of a node. `arguments` are ValueOfEdge, PieceOfEdge and GivenValue objects.
template <class F, bool Applies, class... Bound>
auto graph_call_maker(const F& function, const CallOptions& options, std::tuple<Bound...> arguments) {
    return
        [function, options, arguments = std::move(arguments)](ErasedCall& call, std::span<const GraphHanded> values) {
            using Parameters = typename Signature<F>::Parameters;
            call.begin(options);
            call.is_synchronous = true;
            std::apply(
                [&](const Bound&... bound) {
                    if constexpr (sizeof...(Bound) == 0) {
                        CallMaker<F, Parameters>::make(call, function, ImageMode::by_value);
                    } else {
                        make_graph_call<F, Parameters, Applies>(call, function, values, bound...);
                    }
                },
                arguments);
            open_borrowed(call);  // the graph sees to it that nobody changes or freezes them meanwhile
        };
}

template <class R>
GraphCallEnd finish_graph_call(ErasedResult& result, std::span<GraphSlot> values) {
    CallResult<R> came = decode_call<R>(result);
    GraphCallEnd end{came.outcome(), came.cost()};
    if (came.ok()) values[0] = std::make_shared<R>(std::move(came).value());
    return end;
}

template <class Argument, class R>
GraphCallEnd finish_graph_apply(ErasedResult& result, std::span<GraphSlot> values) {
    using Image = ImageResultOf<Argument>;
    auto came = decode_apply<R, Argument>(result);
    GraphCallEnd end{came.outcome(), came.cost()};
    if (!came.ok()) return end;
    if constexpr (std::is_void_v<R>) {
        values[0] = std::make_shared<Image>(std::move(came).value());
    } else {
        auto both = std::move(came).value();
        values[0] = std::make_shared<Image>(std::move(both.first));
        values[1] = std::make_shared<R>(std::move(both.second));
    }
    return end;
}

/// Drops the result of a side effect.
inline GraphCallEnd finish_graph_effect(ErasedResult& result, std::span<GraphSlot>) {
    return {std::move(result.outcome), std::move(result.cost)};
}

/// How a parameter uses an argument.
template <class P, class A>
constexpr GraphAccess access_of() {
    if constexpr (!kHasImage<A>) {
        return GraphAccess::bytes;
    } else {
        return writes<P, A>() ? GraphAccess::writes : GraphAccess::reads;
    }
}

}  // namespace detail
}  // namespace procrun
