#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "procrun/call/transfer.hpp"
#include "procrun/pass_on.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/pool/image_parameter.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/value/image_types.hpp"

// Which calls do not fit through a pool, and how the compiler says so.

namespace procrun::detail {

// ---- arguments

/// Whether the parameter P can take the argument A as bytes that the worker reads from its caller.
template <class P, class A>
inline constexpr bool kTakesValue =
    Transferable<std::remove_cvref_t<P>>&& std::is_convertible_v<A, std::remove_cvref_t<P>> &&
    !(std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>);

/// Why `f(args...)` cannot go through a pool.
enum class Misfit {
    none,
    member_function,
    signature,
    captures,
    count,
    image_parameter,
    value_of_other_type,
    reference_to_value,
    value_parameter,
    not_convertible,
    result,
    too_many_images,
    apply_without_image,
    apply_without_change,
    apply_of_lvalue_arena,
    change_is_lost,
    async_of_lvalue_arena,
};

/// A misfit and the number of the argument that does not fit, counted from 1; 0 where it is not about an argument.
struct Finding {
    Misfit misfit = Misfit::none;
    std::size_t argument = 0;
};

template <class P, class A>
constexpr Misfit misfit_of_argument() {
    if constexpr (kIsValue<A> || kIsPart<A> || kIsMember<A> || kIsPassedOn<std::remove_cvref_t<A>>) {
        using T = typename TypedArgument<A>::Type;
        return takes_value_of<P, T>() ? Misfit::none : Misfit::value_of_other_type;
    } else if constexpr (kIsImage<A>) {
        return ImageParameter<P>::kValid ? Misfit::none : Misfit::image_parameter;
    } else if constexpr (std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>) {
        return Misfit::reference_to_value;
    } else if constexpr (!Transferable<std::remove_cvref_t<P>>) {
        return Misfit::value_parameter;
    } else {
        return kTakesValue<P, A> ? Misfit::none : Misfit::not_convertible;
    }
}

/// The kinds of call. An arena can be borrowed only by a synchronous call, whose caller waits. `async_apply_first` is a
/// graph's apply, or a call for each part of a value: only the first argument comes back.
enum class CallKind { call, apply, async, async_apply, async_apply_first };

template <class A>
inline constexpr bool kIsLvalueArena =
    std::is_lvalue_reference_v<A>&& std::same_as<std::remove_cvref_t<A>, vmcow::Arena>;

/// Why argument N, which the function changes, cannot come back.
template <CallKind Kind, std::size_t N, class P, class A>
constexpr Misfit misfit_of_applied() {
    if constexpr (N == 1 && (!kHasImage<A> || kIsPassedOn<std::remove_cvref_t<A>>)) {
        return Misfit::apply_without_image;
    } else if constexpr (!writes_back<P, A>()) {
        return N == 1 ? Misfit::apply_without_change : Misfit::none;
    } else if constexpr (N > 1 && Kind == CallKind::async_apply_first) {
        return Misfit::change_is_lost;
    } else {
        return kIsLvalueArena<A> ? Misfit::apply_of_lvalue_arena : Misfit::none;
    }
}

template <CallKind Kind, std::size_t N, class P, class A>
constexpr Misfit misfit_in_call() {
    constexpr bool kApplies = Kind != CallKind::call && Kind != CallKind::async;
    if constexpr (misfit_of_argument<P, A>() != Misfit::none) {
        return misfit_of_argument<P, A>();
    } else if constexpr (Kind != CallKind::call && Kind != CallKind::apply && kIsLvalueArena<A>) {
        return Misfit::async_of_lvalue_arena;
    } else if constexpr (kApplies) {
        return misfit_of_applied<Kind, N, P, A>();
    } else {
        return Misfit::none;
    }
}

template <CallKind Kind, class Numbers, class Parameters, class... A>
struct MisfitOfArguments;
template <CallKind Kind, std::size_t... I, class... P, class... A>
struct MisfitOfArguments<Kind, std::index_sequence<I...>, std::tuple<P...>, A...> {
    static constexpr Finding value() {
        Finding found;
        [[maybe_unused]] const auto note = [&](Misfit misfit, std::size_t argument) {
            if (found.misfit == Misfit::none && misfit != Misfit::none) found = {misfit, argument};
        };
        (note(misfit_in_call<Kind, I + 1, P, A>(), I + 1), ...);
        return found;
    }
};

template <CallKind Kind, class F, class... A>
constexpr Finding misfit_of_call() {
    if constexpr (std::is_member_pointer_v<F>) {
        return {Misfit::member_function};
    } else if constexpr (!HasSignature<F>) {
        return {Misfit::signature};
    } else if constexpr (!kFunctionIsBytes<F>) {
        return {Misfit::captures};
    } else {
        using Parameters = typename Signature<F>::Parameters;
        using R = std::remove_cvref_t<typename Signature<F>::Result>;
        constexpr bool kApplies = Kind != CallKind::call && Kind != CallKind::async;
        if constexpr (std::tuple_size_v<Parameters> != sizeof...(A)) {
            return {Misfit::count};
        } else if constexpr (kApplies && sizeof...(A) == 0) {
            return {Misfit::apply_without_image};
        } else {
            constexpr Finding kOfArguments =
                MisfitOfArguments<Kind, std::index_sequence_for<A...>, Parameters, A...>::value();
            if constexpr (kOfArguments.misfit != Misfit::none) {
                return kOfArguments;
            } else if constexpr (!std::is_void_v<R> && !Transferable<R>) {
                return {Misfit::result};
            } else if constexpr (((kHasImage<A> ? 1U : 0U) + ... + 0U) > kMaxImages) {
                return {Misfit::too_many_images};
            } else {
                return {};
            }
        }
    }
}

// ---- the compiler's message: these types stand in it behind the sentence

/// Argument `N` of the call, counted from 1, its parameter, and what was given to it.
template <std::size_t N, class Parameter, class Given>
struct Argument;
/// Argument `N`, where `Within` is the part of the parameter's type that cannot go as bytes.
template <std::size_t N, class Parameter, class Given, class Within>
struct ArgumentWith;
template <std::size_t Parameters, std::size_t Arguments>
struct Counts;
template <class F>
struct Function;

template <Finding Found, class F, class... A>
constexpr auto where() {
    if constexpr (Found.argument > 0) {
        constexpr std::size_t kAt = Found.argument - 1;
        using P = std::tuple_element_t<kAt, typename Signature<F>::Parameters>;
        using Given = std::tuple_element_t<kAt, std::tuple<A...>>;
        if constexpr (Found.misfit == Misfit::value_parameter) {
            using Within = Untransferable<std::remove_cvref_t<P>>;
            return static_cast<ArgumentWith<Found.argument, P, Given, Within>*>(nullptr);
        } else {
            return static_cast<Argument<Found.argument, P, Given>*>(nullptr);
        }
    } else if constexpr (Found.misfit == Misfit::count) {
        constexpr std::size_t kParameters = std::tuple_size_v<typename Signature<F>::Parameters>;
        return static_cast<Counts<kParameters, sizeof...(A)>*>(nullptr);
    } else {
        return static_cast<Function<F>*>(nullptr);
    }
}

/// Stands in the message for a name that several functions have.
struct OverloadedFunction;

/// Fails to compile with one sentence for the misfit M. `Where` names the argument or the function.
template <Misfit M, class Where>
constexpr void explain() {
    static_assert(M != Misfit::member_function,
                  "a pool does not call a member function: give it a lambda that takes the object, as in "
                  "[](const Shop& shop, int day) { return shop.total(day); }");
    static_assert(M != Misfit::signature,
                  "a pool calls a function or a lambda whose parameter types are all named: no template, no auto, no "
                  "overloaded operator()");
    static_assert(
        M != Misfit::captures,
        "what a lambda captures would go to another process as bytes, where references and pointers lead "
        "nowhere: give it as arguments, or say by procrun::by_bytes(lambda) that bytes are all there is to it");
    static_assert(M != Misfit::count, "a pool call has as many arguments as the function has parameters");
    static_assert(
        M != Misfit::image_parameter,
        "an image (vmcow::Snapshot, vmcow::Arena) is taken as const T&, T&, T, std::span<const T> or "
        "std::span<T> of a T that is plain bytes: trivially copyable, without pointers, references and views; "
        "a class that hides its members has to vouch for itself (vmcow::kVouched)");
    static_assert(
        M != Misfit::value_of_other_type,
        "a vmcow::Value<T> or a part of one is taken as const T&, T& or T, a vmcow::Value<T[]> or a part with "
        "several elements as std::span<const T> or std::span<T>, of the same T");
    static_assert(M != Misfit::reference_to_value,
                  "a value that is no image is taken by value or as const T&, because what the function writes to it "
                  "would be lost: pass an image, or return the value");
    static_assert(
        M != Misfit::value_parameter,
        "an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, "
        "pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no "
        "pointer, reference or view, and a class that hides its members has to vouch for itself "
        "(vmcow::kVouched)");
    static_assert(M != Misfit::not_convertible,
                  "the argument of a pool call does not convert to the type of its parameter");
    static_assert(M != Misfit::too_many_images, "a pool call has eight images and values at the most");
    static_assert(M != Misfit::apply_without_image,
                  "apply changes an image: its first argument is a vmcow::Value, a vmcow::Snapshot or a moved "
                  "vmcow::Arena");
    static_assert(M != Misfit::apply_without_change,
                  "apply changes its first argument: the function takes it as T& or std::span<T>");
    static_assert(M != Misfit::apply_of_lvalue_arena,
                  "apply shares unchanged pages with the value it is given, which an arena that can still change does "
                  "not allow: freeze it to keep it, or move it to have it changed in place");
    static_assert(M != Misfit::change_is_lost,
                  "only the first argument of a graph's apply or of map_parts comes back changed: take the others as "
                  "const T& or std::span<const T>, or, to change a copy, as T");
    static_assert(M != Misfit::async_of_lvalue_arena,
                  "an asynchronous call outlives this statement, so that an arena could change under it: freeze it, or "
                  "move it into async_apply");
}

/// True if `f(args...)` can go through a pool; otherwise it fails to compile.
template <CallKind Kind, class F, class... A>
constexpr bool fits_call() {
    constexpr Finding kFound = misfit_of_call<Kind, F, A...>();
    if constexpr (kFound.misfit == Misfit::result) {
        using R = std::remove_cvref_t<typename Signature<F>::Result>;
        static_assert(vmcow::detail::kIsComplete<ResultOfCall<R, Untransferable<R>>>);
    } else if constexpr (kFound.misfit != Misfit::none) {
        explain<kFound.misfit, std::remove_pointer_t<decltype(where<kFound, F, A...>())>>();
    }
    return kFound.misfit == Misfit::none;
}

}  // namespace procrun::detail
