#pragma once

#include <boost/interprocess/offset_ptr.hpp>
#include <concepts>
#include <type_traits>

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/value/image_heap.hpp"

// Which types can lie in an image, together with containers that take their memory from it.

namespace vmcow::detail {

template <class A>
inline constexpr bool kIsImageAllocator = false;
template <class T>
inline constexpr bool kIsImageAllocator<allocator<T>> = true;

template <class T>
inline constexpr bool kIsOffset = false;
template <class T, class D, class O, std::size_t A>
inline constexpr bool kIsOffset<boost::interprocess::offset_ptr<T, D, O, A>> = true;

template <class T>
concept HasAllocator = requires {
    typename T::allocator_type;
};

/// The types of what a container keeps: its elements, and the functions by which it orders or finds them.
template <class C>
consteval auto kept_by() {
    const auto elements = [] {
        if constexpr (requires { typename C::value_type; }) {
            return TypeList<typename C::value_type>{};
        } else {
            return TypeList<typename C::allocator_type::value_type>{};
        }
    };
    if constexpr (requires { typename C::key_compare; }) {
        return TypeList<typename C::value_type, typename C::key_compare>{};
    } else if constexpr (requires {
                             typename C::hasher;
                             typename C::key_equal;
                         }) {
        return TypeList<typename C::value_type, typename C::hasher, typename C::key_equal>{};
    } else {
        return elements();
    }
}

template <class T, class... Around>
consteval auto find_foreign();

template <class... Around, class... T>
consteval auto find_foreign_in(TypeList<T...>) {
    return std::type_identity<typename FirstFound<typename decltype(find_foreign<T, Around...>())::type...>::Type>{};
}

/// The first type in T whose memory lies, or may lie, outside of the image in which a T lies; void if there is none.
/// `Around` are the types that T was found in: a type that holds itself, in a container, is looked at once.
template <class T, class... Around>
consteval auto find_foreign() {
    using U = std::remove_cv_t<T>;
    if constexpr (kVouched<U> || kIsOffset<U> || (std::same_as<U, Around> || ...)) {
        return std::type_identity<void>{};
    } else if constexpr (IsView<U>::value || std::is_polymorphic_v<U>) {
        return std::type_identity<U>{};
    } else if constexpr (std::is_array_v<U>) {
        return find_foreign<std::remove_all_extents_t<U>, Around...>();
    } else if constexpr (!std::is_class_v<U> && !std::is_union_v<U>) {
        return std::type_identity<void>{};
    } else if constexpr (HasAllocator<U>) {
        if constexpr (kIsImageAllocator<typename U::allocator_type>) {
            return find_foreign_in<U, Around...>(kept_by<U>());
        } else {
            return std::type_identity<U>{};
        }
    } else if constexpr (HasKnownParts<U>) {
        return find_foreign_in<U, Around...>(typename PartsOf<U>::Types{});
    } else if constexpr (std::is_empty_v<U>) {
        return std::type_identity<void>{};
    } else if constexpr (HasVisibleMembers<U>) {
        return find_foreign_in<U, Around...>(MembersOf<U>{});
    } else {
        return std::type_identity<U>{};
    }
}
template <class T>
using ForeignIn = typename decltype(find_foreign<T>())::type;

/// True. Naming it makes the compiler instantiate all of T, with its static_asserts.
template <class T>
inline constexpr bool kIsComplete = requires {
    sizeof(T);
};

/// Fails to compile, with one sentence, for a T that cannot be a value; `Reason` is the type in T that prevents it.
template <class T, class Reason>
struct ContentOfValue {
    static_assert(!IsView<T>::value,
                  "a value is an object, no pointer, reference or view: those point out of its image");
    static_assert(
        IsView<T>::value || std::is_void_v<Reason>,
        "a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: "
        "what it points to would be nowhere in another process, and a class that hides its members has to "
        "vouch for itself (vmcow::kVouched)");
};
/// Fails to compile, with one sentence, for a T that cannot be the element of an array value.
template <class T, class Reason>
struct ElementsOfValue {
    static_assert(
        std::is_void_v<Reason>,
        "the elements of an array value are plain bytes: trivially copyable, without pointers, references and "
        "views; a class that hides its members has to vouch for itself (vmcow::kVouched)");
};

}  // namespace vmcow::detail
