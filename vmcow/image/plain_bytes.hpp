#pragma once

#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <optional>
#include <ratio>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "vmcow/image/type_members.hpp"

namespace vmcow {

/// Whether T points into the memory of one process.
template <class T>
struct IsView : std::bool_constant<std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_reference_v<T> ||
                                   std::is_null_pointer_v<T>> {};
template <class C, class R>
struct IsView<std::basic_string_view<C, R>> : std::true_type {};
template <class T, std::size_t N>
struct IsView<std::span<T, N>> : std::true_type {};

/// Vouches for a class whose members the compiler does not show: it means the same in any process and at any address.
/// Such a class holds no pointer, reference or view, and has its containers from vmcow/containers.hpp or vmcow/heap/.
///
///     class Money { public: explicit Money(long cents); private: long cents_; };
///     template <>
///     inline constexpr bool vmcow::kVouched<Money> = true;
///
/// An aggregate needs no vouching, if it has at most 40 members and no base class: its members are seen. The members of
/// a union, or of a class with constructors, private members or base classes, are not seen. A pointer to a function
/// cannot be vouched for: send a number that both sides know instead.
template <class T>
inline constexpr bool kVouched = false;

template <class Rep, class Period>
inline constexpr bool kVouched<std::chrono::duration<Rep, Period>> = std::is_arithmetic_v<Rep>;
template <class Clock, class Duration>
inline constexpr bool kVouched<std::chrono::time_point<Clock, Duration>> = kVouched<Duration>;
template <>
inline constexpr bool kVouched<std::chrono::day> = true;
template <>
inline constexpr bool kVouched<std::chrono::month> = true;
template <>
inline constexpr bool kVouched<std::chrono::year> = true;
template <>
inline constexpr bool kVouched<std::chrono::weekday> = true;
template <>
inline constexpr bool kVouched<std::chrono::year_month_day> = true;
template <class T>
inline constexpr bool kVouched<std::complex<T>> = std::is_arithmetic_v<T>;
template <std::size_t N>
inline constexpr bool kVouched<std::bitset<N>> = true;

namespace detail {

/// The types that an object of a standard type consists of, if they are known.
template <class T>
struct PartsOf {};
template <class A, class B>
struct PartsOf<std::pair<A, B>> {
    using Types = TypeList<A, B>;
};
template <class... T>
struct PartsOf<std::tuple<T...>> {
    using Types = TypeList<T...>;
};
template <class... T>
struct PartsOf<std::variant<T...>> {
    using Types = TypeList<T...>;
};
template <class T>
struct PartsOf<std::optional<T>> {
    using Types = TypeList<T>;
};
template <class T, std::size_t N>
struct PartsOf<std::array<T, N>> {
    using Types = TypeList<T>;
};
template <class T>
concept HasKnownParts = requires {
    typename PartsOf<T>::Types;
};

/// The first type that is not void.
template <class... T>
struct FirstFound {
    using Type = void;
};
template <class T, class... Rest>
struct FirstFound<T, Rest...> {
    using Type = T;
};
template <class... Rest>
struct FirstFound<void, Rest...> : FirstFound<Rest...> {};

template <class T>
consteval auto find_pointer();

template <class... T>
consteval auto find_pointer_in(TypeList<T...>) {
    return std::type_identity<typename FirstFound<typename decltype(find_pointer<T>())::type...>::Type>{};
}

/// The type in T that points into the memory of one process, or may do so because it does not show its members; else
/// void.
template <class T>
consteval auto find_pointer() {
    using U = std::remove_cv_t<T>;
    if constexpr (kVouched<U>) {
        return std::type_identity<void>{};
    } else if constexpr (IsView<U>::value) {
        return std::type_identity<U>{};
    } else if constexpr (std::is_array_v<U>) {
        return find_pointer<std::remove_all_extents_t<U>>();
    } else if constexpr (!std::is_class_v<U> && !std::is_union_v<U>) {
        return std::type_identity<void>{};
    } else if constexpr (HasKnownParts<U>) {
        return find_pointer_in(typename PartsOf<U>::Types{});
    } else if constexpr (std::is_empty_v<U>) {
        return std::type_identity<void>{};
    } else if constexpr (HasVisibleMembers<U>) {
        return find_pointer_in(MembersOf<U>{});
    } else {
        return std::type_identity<U>{};
    }
}

/// Like find_pointer, or T itself if T is not trivially copyable; void if T is nothing but its bytes.
template <class T>
consteval auto find_not_plain() {
    if constexpr (!std::is_trivially_copyable_v<T>) {
        return std::type_identity<std::remove_cv_t<T>>{};
    } else {
        return find_pointer<T>();
    }
}
template <class T>
using NotPlain = typename decltype(find_not_plain<T>())::type;

template <class T>
inline constexpr bool kPlainBytes = std::is_void_v<NotPlain<T>>;

}  // namespace detail

/// A type that is nothing but its bytes, wherever they lie: trivially copyable, and no member of it points anywhere.
template <class T>
concept PlainBytes = detail::kPlainBytes<T>;

}  // namespace vmcow
