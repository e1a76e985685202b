#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <type_traits>

#include "procrun/pass_on.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/worker/worker_call.hpp"
#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value/image_heap.hpp"

// The objects and arrays that a function's parameters make of images, and which of the images the function writes to.

namespace procrun::detail {

/// A parameter that takes an image: the object at the image's start, or the whole image as an array.
template <class P>
struct ImageParameter {
    using Plain = std::remove_cvref_t<P>;

    static constexpr bool element_is_plain() {
        if constexpr (kIsSpan<P>) {
            return vmcow::PlainBytes<std::remove_const_t<typename SpanElement<Plain>::Type>>;
        } else {
            return vmcow::PlainBytes<Plain>;
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

    /// What is kept while the function runs: the span itself, or a reference to the object.
    static decltype(auto) from(const CallImage& image) {
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

/// Where in an image of a value a member lies. It goes with the bytes of the arguments.
struct MemberPlace {
    std::uint64_t whole_type = 0;
    std::uint64_t offset = 0;
};

/// A parameter that takes an image with a heap: the object in it, or a member. An object that is taken by value is
/// moved out of a private mapping; the memory that it holds stays where it is.
template <class P>
struct ObjectParameter {
    using Plain = std::remove_cvref_t<P>;

    static constexpr bool kWrites = !std::is_reference_v<P> || !std::is_const_v<std::remove_reference_t<P>>;
    using Passed = std::conditional_t<std::is_reference_v<P>, P, std::conditional_t<kWrites, Plain&&, const Plain&>>;

    static Passed from(CallImage& image, std::optional<vmcow::HeapScope>& scope) {
        // An earlier function may have damaged the image.
        vmcow::detail::check_object(image.data, image.extent_bytes, vmcow::Value<Plain>::type(), sizeof(Plain),
                                    alignof(Plain));
        return at(image, reinterpret_cast<const vmcow::detail::ValueHeader*>(image.data)->object, scope);
    }
    static Passed from(CallImage& image, const MemberPlace& place, std::optional<vmcow::HeapScope>& scope) {
        vmcow::detail::check_member(image.data, image.extent_bytes, place.whole_type, place.offset, sizeof(Plain),
                                    alignof(Plain));
        return at(image, place.offset, scope);
    }

private:
    static Passed at(CallImage& image, std::uint64_t offset, std::optional<vmcow::HeapScope>& scope) {
        if constexpr (kWrites) scope.emplace(vmcow::detail::heap_of(image.data), &image);
        return static_cast<Passed>(*std::launder(reinterpret_cast<Plain*>(image.data + offset)));
    }
};

/// Whether the parameter P writes to the image argument A, so that it needs pages of its own.
template <class P, class A>
constexpr bool writes() {
    if constexpr (kind_of<A>() == ArgumentKind::object || kind_of<A>() == ArgumentKind::member) {
        return ObjectParameter<P>::kWrites;
    } else {
        return ImageParameter<P>::kWrites;
    }
}

/// Whether the parameter P can take a value of type T.
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

/// Whether changes that the parameter P makes to the image argument A can come back: P is T& or std::span<T>.
template <class P, class A>
constexpr bool writes_back() {
    if constexpr (kHasImage<A> && !kIsPassedOn<std::remove_cvref_t<A>>) {
        return writes<P, A>() && (std::is_reference_v<P> || kIsSpan<P>);
    } else {
        return false;
    }
}

}  // namespace procrun::detail
