#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "procrun/transfer.hpp"
#include "procrun/warm_process.hpp"
#include "procrun/worker_main.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image_heap.hpp"
#include "vmcow/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

// How the parameters of a function decide what becomes of the arguments of a call through a pool.

namespace procrun::detail {

// ---- the function

/// The result and the parameters of a function or of a lambda whose types are all named.
template <class F>
struct Signature;
template <class R, class... P>
struct Signature<R (*)(P...)> {
    using Result = R;
    using Parameters = std::tuple<P...>;
};
template <class R, class... P>
struct Signature<R (*)(P...) noexcept> : Signature<R (*)(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) const> : Signature<R (*)(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) const noexcept> : Signature<R (*)(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...)> : Signature<R (*)(P...)> {};
template <class C, class R, class... P>
struct Signature<R (C::*)(P...) noexcept> : Signature<R (*)(P...)> {};
template <class F>
requires requires { &F::operator(); }
struct Signature<F> : Signature<decltype(&F::operator())> {};

template <class F>
concept HasSignature = requires {
    typename Signature<F>::Parameters;
};

// ---- images

template <class T>
inline constexpr bool kIsImage =
    std::same_as<std::remove_cvref_t<T>, vmcow::Snapshot> || std::same_as<std::remove_cvref_t<T>, vmcow::Arena>;

template <class T>
struct ValueArgument {};
template <class T>
struct ValueArgument<vmcow::Value<T>> {
    using Type = T;
};
template <class A>
inline constexpr bool kIsValue = requires {
    typename ValueArgument<std::remove_cvref_t<A>>::Type;
};

template <class T>
struct PartArgument {};
template <class T, class E>
struct PartArgument<vmcow::Part<T, E>> {
    using Type = E;
};
template <class A>
inline constexpr bool kIsPart = requires {
    typename PartArgument<std::remove_cvref_t<A>>::Type;
};

/// What an argument is a value of: T of a Value<T>, E of a Part<T, E>.
template <class A>
struct TypedArgument {};
template <class A>
requires kIsValue<A>
struct TypedArgument<A> : ValueArgument<std::remove_cvref_t<A>> {
};
template <class A>
requires kIsPart<A>
struct TypedArgument<A> : PartArgument<std::remove_cvref_t<A>> {
};

/// How an argument gets to the function.
enum class ArgumentKind : std::uint8_t {
    bytes,   ///< as bytes, by `Transfer`
    image,   ///< an image whose bytes are the object or the array
    object,  ///< an image with a heap in which the object lies
};

template <class A>
constexpr ArgumentKind kind_of() {
    if constexpr (kIsValue<A>) {
        using T = typename ValueArgument<std::remove_cvref_t<A>>::Type;
        return vmcow::PlainBytes<std::remove_extent_t<T>> ? ArgumentKind::image : ArgumentKind::object;
    } else {
        return kIsImage<A> || kIsPart<A> ? ArgumentKind::image : ArgumentKind::bytes;
    }
}
template <class A>
inline constexpr bool kHasImage = kind_of<A>() != ArgumentKind::bytes;

template <class T>
struct SpanElement {};
template <class T>
struct SpanElement<std::span<T>> {
    using Type = T;
};

template <class T>
inline constexpr bool kIsSpan = requires {
    typename SpanElement<std::remove_cvref_t<T>>::Type;
};

/// What a parameter makes of an image: the object at its start, or all of it as an array.
template <class P>
struct ImageParameter {
    using Plain = std::remove_cvref_t<P>;

    static constexpr bool element_is_plain() {
        if constexpr (kIsSpan<P>) {
            return PlainBytes<std::remove_const_t<typename SpanElement<Plain>::Type>>;
        } else {
            return PlainBytes<Plain>;
        }
    }
    static constexpr bool kValid = element_is_plain() && !std::is_rvalue_reference_v<P>;

    static constexpr bool writes() {
        if constexpr (kIsSpan<P>) {
            return !std::is_const_v<typename SpanElement<Plain>::Type>;
        } else {
            return std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;
        }
    }
    static constexpr bool kWrites = writes();
    /// The image has at least this many bytes.
    static constexpr std::size_t kLeastBytes = kIsSpan<P> ? 0 : sizeof(Plain);

    /// What is kept while the function runs: the span itself, or where the object is.
    static decltype(auto) from(const WorkerCall::Image& image) {
        if constexpr (kIsSpan<P>) {
            using Element = typename SpanElement<Plain>::Type;
            return Plain(reinterpret_cast<Element*>(image.data), image.extent_bytes / sizeof(Element));
        } else if constexpr (kWrites) {
            return *std::launder(reinterpret_cast<Plain*>(image.data));
        } else {
            return *std::launder(reinterpret_cast<const Plain*>(image.data));
        }
    }
};

/// What a parameter makes of an image with a heap. One that is taken by value is moved out of a private mapping, with
/// all that it holds left where it is.
template <class P>
struct ObjectParameter {
    using Plain = std::remove_cvref_t<P>;

    static constexpr bool kWrites = !std::is_reference_v<P> || !std::is_const_v<std::remove_reference_t<P>>;
    using Passed = std::conditional_t<std::is_reference_v<P>, P, std::conditional_t<kWrites, Plain&&, const Plain&>>;

    static Passed from(WorkerCall::Image& image, std::optional<vmcow::HeapScope>& scope) {
        // One function may have damaged what the next one gets.
        vmcow::detail::check_object(image.data, image.extent_bytes, vmcow::Value<Plain>::type(), sizeof(Plain),
                                    alignof(Plain));
        if constexpr (kWrites) scope.emplace(vmcow::detail::heap_of(image.data), &image);
        auto* const header = reinterpret_cast<const vmcow::detail::ValueHeader*>(image.data);
        return static_cast<Passed>(*std::launder(reinterpret_cast<Plain*>(image.data + header->object)));
    }
};

/// Whether the pages that the parameter P writes of the image argument A are its own.
template <class P, class A>
constexpr bool writes() {
    if constexpr (kind_of<A>() == ArgumentKind::object) {
        return ObjectParameter<P>::kWrites;
    } else {
        return ImageParameter<P>::kWrites;
    }
}

/// Whether P can take what A is a value of.
template <class P, class T>
constexpr bool takes_value_of() {
    using Plain = std::remove_cvref_t<P>;
    if constexpr (std::is_rvalue_reference_v<P>) {
        return false;
    } else if constexpr (std::is_array_v<T>) {
        using E = std::remove_extent_t<T>;
        return std::same_as<Plain, std::span<E>> || std::same_as<Plain, std::span<const E>>;
    } else {
        return std::same_as<Plain, T>;
    }
}

// ---- other values

/// A parameter can be given a value that the worker has read from its caller.
template <class P, class A>
inline constexpr bool kTakesValue =
    Transferable<std::remove_cvref_t<P>>&& std::is_convertible_v<A, std::remove_cvref_t<P>> &&
    !(std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>);

/// What keeps `f(args...)` from going through a pool.
enum class Misfit {
    none,
    signature,
    captures,
    count,
    image_parameter,
    value_of_other_type,
    reference_to_value,
    value_parameter,
    result,
    too_many_images,
    apply_without_image,
    apply_without_change,
    apply_of_lvalue_arena,
    async_of_lvalue_arena,
};

template <class P, class A>
constexpr Misfit misfit_of_argument() {
    if constexpr (kIsValue<A> || kIsPart<A>) {
        using T = typename TypedArgument<A>::Type;
        return takes_value_of<P, T>() ? Misfit::none : Misfit::value_of_other_type;
    } else if constexpr (kIsImage<A>) {
        return ImageParameter<P>::kValid ? Misfit::none : Misfit::image_parameter;
    } else if constexpr (std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>) {
        return Misfit::reference_to_value;
    } else {
        return kTakesValue<P, A> ? Misfit::none : Misfit::value_parameter;
    }
}

template <class Parameters, class... A>
struct MisfitOfArguments {
    static constexpr Misfit value() { return Misfit::count; }
};
template <class... P, class... A>
requires(sizeof...(P) == sizeof...(A)) struct MisfitOfArguments<std::tuple<P...>, A...> {
    static constexpr Misfit value() {
        Misfit found = Misfit::none;
        ((found = found == Misfit::none ? misfit_of_argument<P, A>() : found), ...);
        return found;
    }
};

/// The kinds of call differ in what an arena may be: the caller waits only for a synchronous one.
enum class CallKind { call, apply, async, async_apply };

template <class A>
inline constexpr bool kIsLvalueArena =
    std::is_lvalue_reference_v<A>&& std::same_as<std::remove_cvref_t<A>, vmcow::Arena>;

template <class F, class P, class First>
constexpr Misfit misfit_of_apply() {
    if constexpr (!kHasImage<First>) {
        return Misfit::apply_without_image;
    } else if constexpr (!writes<P, First>() || (!std::is_reference_v<P> && !kIsSpan<P>)) {
        return Misfit::apply_without_change;
    } else {
        return kIsLvalueArena<First> ? Misfit::apply_of_lvalue_arena : Misfit::none;
    }
}

template <CallKind Kind, class F, class... A>
constexpr Misfit misfit_of_call() {
    if constexpr (!HasSignature<F>) {
        return Misfit::signature;
    } else if constexpr (!std::is_trivially_copyable_v<F>) {
        return Misfit::captures;
    } else {
        using Parameters = typename Signature<F>::Parameters;
        using R = typename Signature<F>::Result;
        constexpr Misfit kOfArguments = MisfitOfArguments<Parameters, A...>::value();
        constexpr bool kApplies = Kind == CallKind::apply || Kind == CallKind::async_apply;
        constexpr bool kAsync = Kind == CallKind::async || Kind == CallKind::async_apply;
        if constexpr (kOfArguments != Misfit::none) {
            return kOfArguments;
        } else if constexpr (!std::is_void_v<R> && !Transferable<std::remove_cvref_t<R>>) {
            return Misfit::result;
        } else if constexpr (((kHasImage<A> ? 1U : 0U) + ... + 0U) > kMaxImages) {
            return Misfit::too_many_images;
        } else if constexpr (kApplies && sizeof...(A) == 0) {
            return Misfit::apply_without_image;
        } else if constexpr (kAsync && (kIsLvalueArena<A> || ...)) {
            return Misfit::async_of_lvalue_arena;
        } else if constexpr (kApplies) {
            return misfit_of_apply<F, std::tuple_element_t<0, Parameters>, std::tuple_element_t<0, std::tuple<A...>>>();
        } else {
            return Misfit::none;
        }
    }
}

/// Fails to compile, with one sentence, for what does not fit.
template <Misfit M>
constexpr void explain() {
    static_assert(M != Misfit::signature,
                  "a pool calls a function or a lambda whose parameter types are all named: no template, no auto, no "
                  "overloaded operator()");
    static_assert(
        M != Misfit::captures,
        "a pool calls a function or a lambda whose captures are trivially copyable, because they go to another "
        "process as bytes: give it the rest as arguments");
    static_assert(M != Misfit::count, "a pool call has as many arguments as the function has parameters");
    static_assert(M != Misfit::image_parameter,
                  "an image (vmcow::Snapshot, vmcow::Arena) is taken as const T&, T&, T, std::span<const T> or "
                  "std::span<T> of a trivially copyable T that is no pointer");
    static_assert(
        M != Misfit::value_of_other_type,
        "a vmcow::Value<T> or a part of one is taken as const T&, T& or T, a vmcow::Value<T[]> or a part with "
        "several elements as std::span<const T> or std::span<T>, of the same T");
    static_assert(M != Misfit::reference_to_value,
                  "a value that is no image is taken by value or as const T&, because what the function writes to it "
                  "would be lost: pass an image, or return the value");
    static_assert(M != Misfit::value_parameter,
                  "an argument of a pool call is an image, or trivially copyable (no pointer), std::string, or a "
                  "std::vector, std::pair or std::tuple of these, and converts to the parameter's type");
    static_assert(
        M != Misfit::result,
        "the result of a pool call is void, trivially copyable (no pointer), std::string, vmcow::Snapshot, or "
        "a std::vector, std::pair or std::tuple of these");
    static_assert(M != Misfit::too_many_images, "a pool call has eight images and values at the most");
    static_assert(M != Misfit::apply_without_image,
                  "apply changes an image: its first argument is a vmcow::Value, a vmcow::Snapshot or a moved "
                  "vmcow::Arena");
    static_assert(M != Misfit::apply_without_change,
                  "apply changes its first argument: the function takes it as T& or std::span<T>");
    static_assert(M != Misfit::apply_of_lvalue_arena,
                  "apply shares unchanged pages with the value it is given, which an arena that can still change does "
                  "not allow: freeze it to keep it, or move it to have it changed in place");
    static_assert(M != Misfit::async_of_lvalue_arena,
                  "an asynchronous call outlives this statement, so that an arena could change under it: freeze it, or "
                  "move it into async_apply");
}

// ---- in the worker

/// While the function runs, it may change the objects that it has to itself.
using HeapScopes = std::array<std::optional<vmcow::HeapScope>, kMaxImages>;

/// Makes one parameter's value, images in their order and the rest out of the message.
template <class P, ArgumentKind Kind>
decltype(auto) take_argument(WorkerCall& call, std::size_t& next_image, [[maybe_unused]] HeapScopes& scopes) {
    if constexpr (Kind == ArgumentKind::object) {
        const std::size_t at = next_image++;
        return ObjectParameter<P>::from(call.image(at), scopes[at]);
    } else if constexpr (Kind == ArgumentKind::image) {
        return ImageParameter<P>::from(call.image(next_image++));
    } else {
        return Transfer<std::remove_cvref_t<P>>::take(call.arguments());
    }
}

template <class F, class Parameters, class Kinds>
struct Invocation;

/// What a worker runs for calls of one type. How each argument gets there is part of that type.
template <class F, class... P, ArgumentKind... Kinds>
struct Invocation<F, std::tuple<P...>, std::integer_sequence<ArgumentKind, Kinds...>> {
    using R = typename Signature<F>::Result;

    static void run(WorkerCall& call) {
        alignas(F) std::byte bytes[sizeof(F)];
        std::memcpy(bytes, call.arguments().take(sizeof(F)).data(), sizeof(F));
        F& function = *std::launder(reinterpret_cast<F*>(bytes));
        std::size_t next_image = 0;
        HeapScopes scopes;
        // Braces: from left to right.
        std::tuple<decltype(take_argument<P, Kinds>(call, next_image, scopes))...> arguments{
            take_argument<P, Kinds>(call, next_image, scopes)...};
        call.arguments().expect_end();
        const auto invoke = [&](auto&&... argument) -> decltype(auto) {
            return function(static_cast<decltype(argument)>(argument)...);
        };
        if constexpr (std::is_void_v<R>) {
            std::apply(invoke, std::move(arguments));
        } else {
            Transfer<std::remove_cvref_t<R>>::put(call.result(), std::apply(invoke, std::move(arguments)));
        }
    }
};

// ---- in the caller

/// A value whose image nobody shares is moved where it is to be changed for good, and lent where the caller waits; else
/// it is the snapshot that it is now.
template <class T>
void put_value(ErasedCall& call, const vmcow::Value<T>& value, bool is_last_use, ImageArgument& to) {
    to.grows = kind_of<vmcow::Value<T>>() == ArgumentKind::object;
    vmcow::ValueImage& image = *value.handle();
    if (value.is_unique()) {
        if (to.mode == ImageMode::apply && is_last_use) {
            // An empty one has no file that could be mapped.
            if (std::optional<vmcow::Arena> arena = image.extent_bytes() > 0 ? image.take_arena() : std::nullopt) {
                if (to.grows) arena->make_room(kMovedRoom);
                to.mode = ImageMode::moved;
                to.moved = std::move(arena);
                return;
            }
        } else if (to.mode != ImageMode::apply && call.waits) {
            std::unique_lock<std::recursive_mutex> lock;
            const vmcow::Arena* const arena = image.arena(lock);
            if (arena != nullptr && arena->mapped_bytes() > 0) {
                to.lent = arena;
                call.locks.push_back(std::move(lock));
                return;
            }
        }
    }
    to.snapshot.emplace(image.snapshot());
}

template <class P, class A>
void put_argument(ErasedCall& call, A&& argument, ImageMode writing_mode, int& image) {
    if constexpr (kHasImage<A>) {
        ImageArgument& to = call.images.emplace_back();
        const bool first = image++ == 0;
        to.mode = !writes<P, A>() ? ImageMode::read_only : (first ? writing_mode : ImageMode::by_value);
        if constexpr (kIsValue<A>) {
            if constexpr (!std::is_lvalue_reference_v<A>) {
                if (to.mode == ImageMode::apply) {
                    const std::remove_cvref_t<A> taken(std::forward<A>(argument));
                    return put_value(call, taken, true, to);
                }
            }
            return put_value(call, argument, false, to);  // it outlives a call that waits
        } else if constexpr (kIsPart<A>) {
            to.part = argument.snapshot_part();
            to.snapshot = to.part->image();
            return;
        } else if constexpr (std::same_as<std::remove_cvref_t<A>, vmcow::Snapshot>) {
            to.snapshot.emplace(std::forward<A>(argument));
        } else {
            if (to.mode == ImageMode::apply) to.mode = ImageMode::moved;
            to.lent = &argument;
            if constexpr (!std::is_lvalue_reference_v<A>) {
                if (to.mode == ImageMode::moved) {
                    to.lent = nullptr;
                    to.moved.emplace(std::forward<A>(argument));
                }
            }
        }
        if (to.extent_bytes() < ImageParameter<P>::kLeastBytes || to.mapped_bytes() == 0) {
            throw std::length_error("an image of " + std::to_string(to.extent_bytes()) +
                                    " bytes is given to a parameter of " +
                                    std::to_string(ImageParameter<P>::kLeastBytes));
        }
    } else {
        using V = std::remove_cvref_t<P>;
        if constexpr (std::same_as<V, std::remove_cvref_t<A>>) {
            Transfer<V>::put(call.arguments, argument);
        } else {
            Transfer<V>::put(call.arguments, static_cast<V>(std::forward<A>(argument)));
        }
    }
}

template <class F, class Parameters, class... A>
struct CallMaker;

template <class F, class... P, class... A>
struct CallMaker<F, std::tuple<P...>, A...> {
    static void make(ErasedCall& call, const F& function, [[maybe_unused]] ImageMode first_written, A&&... args) {
        call.function = &Invocation<F, std::tuple<P...>, std::integer_sequence<ArgumentKind, kind_of<A>()...>>::run;
        call.arguments.put(std::as_bytes(std::span(&function, 1)));
        call.images.reserve(((kHasImage<A> ? 1U : 0U) + ... + 0U));
        [[maybe_unused]] int images = 0;
        (put_argument<P, A>(call, std::forward<A>(args), first_written, images), ...);
    }
};

}  // namespace procrun::detail
