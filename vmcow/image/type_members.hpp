#pragma once

#include <boost/preprocessor/repetition/enum.hpp>
#include <boost/preprocessor/repetition/enum_params.hpp>
#include <boost/preprocessor/repetition/repeat_from_to.hpp>
#include <cstddef>
#include <type_traits>
#include <utility>

// The types of the members of an aggregate. Boost.PFR counts each element of a C array as a member, does not tell a
// reference from what it refers to, and does not compile for bit-fields. Here all of these have to be told apart.

namespace vmcow::detail {

template <class... T>
struct TypeList {};

/// The members of an aggregate with more members are not seen.
inline constexpr std::size_t kMostMembers = 40;

template <std::size_t N>
using MemberCount = std::integral_constant<std::size_t, N>;

/// Converts to the type of any member, for members that cannot be made from {}.
struct AnyMember {
    template <class U>
    operator U&() const&;  // NOLINT(google-explicit-constructor): that is what it is for
    template <class U>
    operator U&&() const&&;  // NOLINT(google-explicit-constructor)
};
/// Converts only to a base class of T.
template <class T>
struct AnyBase {
    template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>) operator U()
        const;  // NOLINT(google-explicit-constructor)
};

// NOLINTBEGIN(bugprone-macro-parentheses): lists of names and braces
#define VMCOW_BRACES(z, n, data) \
    {}
#define VMCOW_MEMBER_TYPE(z, n, data) decltype(member##n)
// For each number n of members: whether T can be made from n times {}; the types of the members of a T with n members;
// and a call with all of its members. An array is one member: one {} is enough for it.
#define VMCOW_MEMBERS_OF(n, braces, names, types)                                \
    template <class T>                                                           \
    consteval bool takes_braces(MemberCount<n>) {                                \
        return requires { T{VMCOW_LIST braces}; };                               \
    }                                                                            \
    template <class T>                                                           \
    auto types_of_members(T& object, MemberCount<n>) {                           \
        auto& [VMCOW_LIST names] = object;                                       \
        return TypeList<VMCOW_LIST types>{};                                     \
    }                                                                            \
    template <class T, class Visit>                                              \
    decltype(auto) call_with_members(T& object, Visit&& visit, MemberCount<n>) { \
        auto& [VMCOW_LIST names] = object;                                       \
        return std::forward<Visit>(visit) names;                                 \
    }
#define VMCOW_LIST(...) __VA_ARGS__
#define VMCOW_MEMBERS(z, n, data)                                                                        \
    VMCOW_MEMBERS_OF(n, (BOOST_PP_ENUM_##z(n, VMCOW_BRACES, ~)), (BOOST_PP_ENUM_PARAMS_Z(z, n, member)), \
                     (BOOST_PP_ENUM_##z(n, VMCOW_MEMBER_TYPE, ~)))
BOOST_PP_REPEAT_FROM_TO(1, 42, VMCOW_MEMBERS, ~)
#undef VMCOW_MEMBERS
#undef VMCOW_LIST
#undef VMCOW_MEMBERS_OF
#undef VMCOW_MEMBER_TYPE
#undef VMCOW_BRACES
// NOLINTEND(bugprone-macro-parentheses)

template <class T, std::size_t N>
inline constexpr bool kTakesMoreBraces = false;
template <class T, std::size_t N>
requires(N <= kMostMembers) inline constexpr bool kTakesMoreBraces<T, N> = takes_braces<T>(MemberCount<N + 1>{});

template <class T, std::size_t N = 0>
consteval std::size_t braces_taken() {
    if constexpr (kTakesMoreBraces<T, N>) {
        return braces_taken<T, N + 1>();
    } else {
        return N;
    }
}

template <class T, std::size_t... I>
consteval bool takes_any(std::index_sequence<I...>) {
    return requires { T{(static_cast<void>(I), AnyMember{})...}; };
}
template <class T, std::size_t N = kMostMembers + 1>
consteval std::size_t any_taken() {
    if constexpr (N == 0 || takes_any<T>(std::make_index_sequence<N>())) {
        return N;
    } else {
        return any_taken<T, N - 1>();
    }
}

/// How many members the aggregate T has; 0 if they cannot be seen: T has base classes, or too many members.
template <class T>
consteval std::size_t count_members() {
    if constexpr (requires { T{AnyBase<T>{}}; }) {
        return 0;
    } else {
        constexpr std::size_t kBraces = braces_taken<T>();
        // 0 if one of the members cannot be made from {}: then AnyMember is tried.
        constexpr std::size_t kCount = kBraces == 0 ? any_taken<T>() : kBraces;
        return kCount > kMostMembers ? 0 : kCount;
    }
}
template <class T>
inline constexpr std::size_t kMemberCount = count_members<T>();

/// Whether the members of T can be seen: T is an aggregate of at most `kMostMembers` members, without base classes.
template <class T>
consteval bool has_visible_members() {
    if constexpr (std::is_aggregate_v<T> && std::is_class_v<T>) {
        return kMemberCount<T> > 0;
    } else {
        return false;
    }
}
template <class T>
concept HasVisibleMembers = has_visible_members<std::remove_cv_t<T>>();

/// The types of T's members, as they are declared.
template <HasVisibleMembers T>
using MembersOf = decltype(types_of_members(std::declval<T&>(), MemberCount<kMemberCount<std::remove_cv_t<T>>>{}));

/// Calls `visit(member...)` with all members of `object`.
/// Pre: no member is a bit-field, if `visit` takes them by reference.
template <class T, class Visit>
requires HasVisibleMembers<T>
decltype(auto) with_members(T& object, Visit&& visit) {
    return call_with_members(object, std::forward<Visit>(visit), MemberCount<kMemberCount<std::remove_cv_t<T>>>{});
}

}  // namespace vmcow::detail
