#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "procrun/call/transfer.hpp"
#include "procrun/pass_on.hpp"
#include "procrun/pool/call_invocation.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/pool/image_parameter.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "procrun/worker/erased_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

// The caller's side: the arguments of a call become the images and bytes that a worker is given.

namespace procrun::detail {

template <class T>
void put_value(ErasedCall& call, const vmcow::Value<T>& value, bool is_last_use, ImageArgument& to) {
    to.grows = kind_of<vmcow::Value<T>>() == ArgumentKind::object;
    put_value_image(call, value.handle(), is_last_use, to);
}

/// The image of the whole value, and in the bytes of the arguments where the member lies.
template <class T, class E>
void put_member(ErasedCall& call, const vmcow::Member<T, E>& member, bool is_last_use, ImageArgument& to) {
    const MemberPlace place{vmcow::Value<T>::type(), member.offset()};
    call.arguments.put(std::as_bytes(std::span(&place, 1)));
    put_value(call, member.whole(), is_last_use, to);
}

template <class T>
void put_passed_on(ErasedCall& call, const PassedOn<T>& argument, ImageArgument& to) {
    const auto what = argument.what();
    if constexpr (std::is_array_v<T>) {
        put_present(call, std::as_bytes(what), to);
    } else if constexpr (vmcow::PlainBytes<T>) {
        put_present(call, std::as_bytes(std::span(what, 1)), to);
    } else {
        to.grows = true;
        if (put_present_object(call, {reinterpret_cast<const std::byte*>(what), sizeof(T)}, to)) return;
        const vmcow::Value<T> copy(*what);
        if (!send_block(call, copy.handle(), to)) to.snapshot.emplace(copy.snapshot());
    }
}

template <class P, class A>
void put_argument(ErasedCall& call, A&& argument, ImageMode writing_mode) {
    if constexpr (kHasImage<A>) {
        ImageArgument& to = call.images.emplace_back();
        to.mode = !writes<P, A>() ? ImageMode::read_only : (writes_back<P, A>() ? writing_mode : ImageMode::by_value);
        if constexpr (kIsValue<A>) {
            if constexpr (!std::is_lvalue_reference_v<A>) {
                if (to.mode == ImageMode::apply) {
                    const std::remove_cvref_t<A> taken(std::forward<A>(argument));
                    return put_value(call, taken, true, to);
                }
            }
            return put_value(call, argument, false, to);  // the argument outlives a call whose caller waits
        } else if constexpr (kIsMember<A>) {
            if (std::is_lvalue_reference_v<A> || to.mode != ImageMode::apply) {
                return put_member(call, argument, false, to);
            }
            const std::remove_cvref_t<A> taken(std::forward<A>(argument));
            return put_member(call, taken, true, to);
        } else if constexpr (kIsPassedOn<std::remove_cvref_t<A>>) {
            return put_passed_on(call, argument, to);
        } else if constexpr (kIsPart<A>) {
            to.part = argument.snapshot_part();
            to.snapshot = to.part->image();
            return;
        } else if constexpr (std::same_as<std::remove_cvref_t<A>, vmcow::Snapshot>) {
            to.snapshot.emplace(std::forward<A>(argument));
        } else {
            if (to.mode == ImageMode::apply) to.mode = ImageMode::moved;
            if constexpr (!std::is_lvalue_reference_v<A>) {
                if (to.mode == ImageMode::moved) {
                    to.moved.emplace(argument.is_own() ? std::forward<A>(argument) : own_copy_of(argument));
                }
            }
            if (!to.moved) put_arena(call, argument, to);
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
    /// Fills `call`. Images that the function takes by writable reference or span get the mode `written`: by_value or
    /// apply.
    static void make(ErasedCall& call, const F& function, [[maybe_unused]] ImageMode written, A&&... args) {
        call.function = &Invocation<F, std::tuple<P...>, std::integer_sequence<ArgumentKind, kind_of<A>()...>>::run;
        call.arguments.put(std::as_bytes(std::span(&function, 1)));
        call.images.reserve(((kHasImage<A> ? 1U : 0U) + ... + 0U));
        (put_argument<P, A>(call, std::forward<A>(args), written), ...);
    }
};

}  // namespace procrun::detail
