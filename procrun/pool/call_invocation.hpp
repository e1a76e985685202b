#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "procrun/call/transfer.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/pool/image_parameter.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "procrun/worker/worker_call.hpp"
#include "vmcow/value/image_heap.hpp"

// The worker's side: images and bytes become the arguments of the function again.

namespace procrun::detail {

/// The heaps of the objects that the function may change, open while it runs.
using HeapScopes = std::array<std::optional<vmcow::HeapScope>, kMaxImages>;

/// Makes one parameter's value: from the next image, or from the message's next bytes.
template <class P, ArgumentKind Kind>
decltype(auto) take_argument(WorkerCall& call, std::size_t& next_image, [[maybe_unused]] HeapScopes& scopes) {
    if constexpr (Kind == ArgumentKind::object) {
        const std::size_t at = next_image++;
        return ObjectParameter<P>::from(call.image(at), scopes[at]);
    } else if constexpr (Kind == ArgumentKind::member) {
        MemberPlace place;
        std::memcpy(&place, call.arguments().take(sizeof(place)).data(), sizeof(place));
        const std::size_t at = next_image++;
        return ObjectParameter<P>::from(call.image(at), place, scopes[at]);
    } else if constexpr (Kind == ArgumentKind::image) {
        return ImageParameter<P>::from(call.image(next_image++));
    } else {
        return Transfer<std::remove_cvref_t<P>>::take(call.arguments());
    }
}

template <class F, class Parameters, class Kinds>
struct Invocation;

/// The function that a worker runs for calls of one type. The kinds of the arguments are part of that type.
template <class F, class... P, ArgumentKind... Kinds>
struct Invocation<F, std::tuple<P...>, std::integer_sequence<ArgumentKind, Kinds...>> {
    using R = typename Signature<F>::Result;

    static void run(WorkerCall& call) {
        alignas(F) std::byte bytes[sizeof(F)];
        std::memcpy(bytes, call.arguments().take(sizeof(F)).data(), sizeof(F));
        F& function = *std::launder(reinterpret_cast<F*>(bytes));
        std::size_t next_image = 0;
        HeapScopes scopes;
        // Braces, because they are evaluated from left to right.
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

}  // namespace procrun::detail
