#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

namespace vmcow {

/// Types that point into the memory of one process.
template <class T>
struct IsView : std::bool_constant<std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_reference_v<T>> {};
template <class C, class R>
struct IsView<std::basic_string_view<C, R>> : std::true_type {};
template <class T, std::size_t N>
struct IsView<std::span<T, N>> : std::true_type {};

/// A type that is nothing but its bytes, wherever they lie.
template <class T>
concept PlainBytes = std::is_trivially_copyable_v<T> && !IsView<T>::value;

}  // namespace vmcow
