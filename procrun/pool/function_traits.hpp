#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>

#include "procrun/by_bytes.hpp"
#include "procrun/pass_on.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

// Sorts the types of a function and of a call's arguments: parameters and result, images, values and parts.

namespace procrun::detail {

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
requires requires { typename Signature<F>::Parameters; }
struct Signature<ByBytes<F>> : Signature<F> {};

template <class F>
concept HasSignature = requires {
    typename Signature<F>::Parameters;
};

/// Whether an F can go to another process as bytes: it has no captures, shows plain members, or was vouched for.
template <class F>
inline constexpr bool kFunctionIsBytes =
    (std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>) || vmcow::PlainBytes<F>;
template <class F>
inline constexpr bool kFunctionIsBytes<ByBytes<F>> = true;

// ---- arguments

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

template <class T>
struct MemberArgument {};
template <class T, class E>
struct MemberArgument<vmcow::Member<T, E>> {
    using Type = E;
};
template <class A>
inline constexpr bool kIsMember = requires {
    typename MemberArgument<std::remove_cvref_t<A>>::Type;
};

template <class T>
struct PassedOnArgument {};
template <class T>
struct PassedOnArgument<PassedOn<T>> {
    using Type = T;
};

/// The type that an argument holds: T of a Value<T> or a PassedOn<T>, E of a Part<T, E> or a Member<T, E>.
template <class A>
struct TypedArgument {};
template <class A>
requires kIsPassedOn<std::remove_cvref_t<A>>
struct TypedArgument<A> : PassedOnArgument<std::remove_cvref_t<A>> {
};
template <class A>
requires kIsValue<A>
struct TypedArgument<A> : ValueArgument<std::remove_cvref_t<A>> {
};
template <class A>
requires kIsPart<A>
struct TypedArgument<A> : PartArgument<std::remove_cvref_t<A>> {
};

template <class A>
requires kIsMember<A>
struct TypedArgument<A> : MemberArgument<std::remove_cvref_t<A>> {
};

/// How an argument gets to the function.
enum class ArgumentKind : std::uint8_t {
    bytes,   ///< as bytes, by `Transfer`
    image,   ///< an image whose bytes are the object or the array
    object,  ///< an image with a heap in which the object lies
    member,  ///< the same, and bytes that say where in the image the object is
};

template <class A>
constexpr ArgumentKind kind_of() {
    if constexpr (kIsValue<A> || kIsPassedOn<std::remove_cvref_t<A>>) {
        using T = typename TypedArgument<A>::Type;
        return vmcow::PlainBytes<std::remove_extent_t<T>> ? ArgumentKind::image : ArgumentKind::object;
    } else if constexpr (kIsMember<A>) {
        return ArgumentKind::member;
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

}  // namespace procrun::detail
