#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/channel/message_codec.hpp"
#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/image/type_members.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

namespace procrun {

/// How a value of type T is sent from one process to another. `put` writes it. `take` reads it back, and throws
/// std::system_error (EBADMSG) when the bytes do not fit, because the sender is not trusted (I3).
///
/// There is a Transfer for
///   - plain bytes (`vmcow::PlainBytes`): trivially copyable types that hold no pointer;
///   - the containers of the standard library whose allocator, order and hash have no state, and std::filesystem::path;
///   - std::pair, std::tuple, std::array, std::optional, std::variant;
///   - vmcow::Value and vmcow::Snapshot, which go by descriptor;
///   - aggregates whose members are of these types: at most 40, and no base class.
/// These may be nested; a type within its own container at most 500 deep. There is none for pointers, references, views
/// and pointers to functions, because what they point to is in another process. For a class of your own, specialize
/// Transfer with both functions, or vouch for the class (`vmcow::kVouched`) if it can be sent as its bytes.
template <class T>
struct Transfer;

using vmcow::PlainBytes;

namespace detail {

/// The base of each Transfer in this header. Such a Transfer works only if all parts of T have one.
struct TransferForm {};

/// Whether the bytes of a T say which of several alternatives it holds. A sender could write bytes that mean none of
/// them, so that such a type is not sent as bytes.
template <class T>
inline constexpr bool kIsChoice = std::same_as<T, bool>;
template <class T>
inline constexpr bool kIsChoice<std::optional<T>> = true;
template <class... T>
inline constexpr bool kIsChoice<std::variant<T...>> = true;

template <class T>
consteval bool holds_choice();
template <class... T>
consteval bool one_holds_choice(vmcow::detail::TypeList<T...>) {
    return (holds_choice<T>() || ...);
}
template <class T>
consteval bool holds_choice() {
    using U = std::remove_cv_t<std::remove_all_extents_t<T>>;
    if constexpr (kIsChoice<U>) {
        return true;
    } else if constexpr (vmcow::detail::HasKnownParts<U>) {
        return one_holds_choice(typename vmcow::detail::PartsOf<U>::Types{});
    } else if constexpr (!vmcow::kVouched<U> && vmcow::detail::HasVisibleMembers<U>) {
        return one_holds_choice(vmcow::detail::MembersOf<U>{});
    } else {
        return false;
    }
}

/// Whether a T is sent as its bytes, of which any are a valid T.
template <class T>
inline constexpr bool kGoesAsBytes = false;
template <PlainBytes T>
requires(!std::is_array_v<T> && !std::is_const_v<T>) inline constexpr bool kGoesAsBytes<T> = !holds_choice<T>();

template <class T>
inline constexpr bool kIsValueForm = false;
template <class T>
inline constexpr bool kIsValueForm<vmcow::Value<T>> = true;
template <>
inline constexpr bool kIsValueForm<vmcow::Snapshot> = true;

template <class C>
concept HasStatelessOrder =
    (
        !requires { typename C::key_compare; } || requires { requires std::is_empty_v<typename C::key_compare>; }) &&
    (
        !requires { typename C::hasher; } ||
        requires { requires std::is_empty_v<typename C::hasher> && std::is_empty_v<typename C::key_equal>; });
/// A container that is described by its elements alone: it can be made empty and filled from the front.
template <class C>
concept Container = !kGoesAsBytes<C> && !kIsValueForm<C> && requires {
    typename C::value_type;
    typename C::iterator;
    typename C::allocator_type;
    requires std::allocator_traits<typename C::allocator_type>::is_always_equal::value;
};
template <class C>
concept FilledAtEnd = requires(C& container, typename C::value_type&& element) {
    { container.insert(container.end(), std::move(element)) } -> std::convertible_to<typename C::iterator>;
};
template <class C>
concept FilledAfter = requires(C& container, typename C::value_type&& element) {
    { container.insert_after(container.before_begin(), std::move(element)) } -> std::same_as<typename C::iterator>;
};

/// An aggregate that goes neither as bytes nor as a choice, a value or a container: its members are sent one by one.
template <class T>
concept GoesByMembers = !kGoesAsBytes<T> && !kIsChoice<T> && !kIsValueForm<T> && !Container<T> && !std::is_const_v<T> &&
                        !vmcow::detail::HasKnownParts<T> && vmcow::detail::HasVisibleMembers<T>;

/// The type of a container's element before it is inserted: the key of a map's element is not const then.
template <class E>
struct LooseElement {
    using Type = E;
};
template <class K, class V>
struct LooseElement<std::pair<const K, V>> {
    using Type = std::pair<K, V>;
};
template <class C>
using ElementOf = typename LooseElement<typename C::value_type>::Type;

/// Counts how deep a value is nested, and refuses more than kMost. A type that contains itself, such as a tree, is as
/// deep as the sender wants, but the stack is not.
class Nesting {
public:
    static constexpr unsigned kMost = 500;

    Nesting() {
        if (depth == kMost) {
            pipes::refuse_message("transfer a value: it is nested more than 500 times");
        }
        ++depth;
    }
    ~Nesting() { --depth; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

private:
    static inline thread_local unsigned depth = 0;
};

/// Reads the number of elements that follow. Each takes at least a byte, so that there cannot be more than bytes left.
inline std::uint64_t take_count(pipes::MessageReader& reader) {
    std::uint64_t count = 0;
    std::memcpy(&count, reader.take(sizeof(count)).data(), sizeof(count));
    if (count > reader.left()) pipes::refuse_message("take a value: fewer elements were sent than announced");
    return count;
}

}  // namespace detail

template <class T>
requires detail::kGoesAsBytes<T>
struct Transfer<T> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const T& value) { writer.put(std::as_bytes(std::span(&value, 1))); }
    static T take(pipes::MessageReader& reader) {
        alignas(T) std::byte bytes[sizeof(T)];
        std::memcpy(bytes, reader.take(sizeof(T)).data(), sizeof(T));
        return *std::launder(reinterpret_cast<T*>(bytes));
    }
};

template <>
struct Transfer<bool> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, bool value) {
        Transfer<std::uint8_t>::put(writer, std::uint8_t{value});
    }
    static bool take(pipes::MessageReader& reader) { return Transfer<std::uint8_t>::take(reader) != 0; }
};

template <>
struct Transfer<vmcow::Snapshot> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const vmcow::Snapshot& value) { writer.put(value); }
    static vmcow::Snapshot take(pipes::MessageReader& reader) { return reader.take_snapshot(); }
};

template <class T>
struct Transfer<vmcow::Value<T>> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const vmcow::Value<T>& value) { writer.put(value.snapshot()); }
    static vmcow::Value<T> take(pipes::MessageReader& reader) {
        return vmcow::Value<T>::from_snapshot(reader.take_snapshot());
    }
};

/// Sends the number of elements, and then the elements.
template <detail::Container C>
requires((detail::FilledAtEnd<C> || detail::FilledAfter<C>)&&detail::HasStatelessOrder<C>) struct Transfer<C>
    : detail::TransferForm {
    using Element = detail::ElementOf<C>;
    static constexpr bool kInOnePiece = detail::kGoesAsBytes<Element> && requires(C & container) {
        { container.data() } -> std::convertible_to<const Element*>;
        container.resize(1);
    };

    static void put(pipes::MessageWriter& writer, const C& value) {
        const auto count = static_cast<std::uint64_t>(std::distance(value.begin(), value.end()));
        writer.put(std::as_bytes(std::span(&count, 1)));
        if constexpr (kInOnePiece) {
            writer.put(std::as_bytes(std::span(value.data(), value.size())));
        } else {
            const detail::Nesting nesting;
            for (auto&& element : value) put_element(writer, element);
        }
    }
    static C take(pipes::MessageReader& reader) {
        const std::uint64_t count = detail::take_count(reader);
        C value;
        if constexpr (kInOnePiece) {
            // `take` throws for bytes that were not sent, before `resize` allocates memory for them.
            const bool fits = count <= std::numeric_limits<std::size_t>::max() / sizeof(Element);
            const auto bytes = reader.take(fits ? count * sizeof(Element) : std::numeric_limits<std::size_t>::max());
            value.resize(count);
            if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
        } else if constexpr (detail::FilledAtEnd<C>) {
            const detail::Nesting nesting;
            for (std::uint64_t i = 0; i < count; ++i) value.insert(value.end(), Transfer<Element>::take(reader));
        } else {
            const detail::Nesting nesting;
            auto last = value.before_begin();
            for (std::uint64_t i = 0; i < count; ++i) last = value.insert_after(last, Transfer<Element>::take(reader));
        }
        return value;
    }

private:
    /// Writes what Transfer<Element> would write, but without copying a map's key.
    template <class E>
    static void put_element(pipes::MessageWriter& writer, const E& element) {
        if constexpr (std::same_as<E, Element> || detail::kGoesAsBytes<Element>) {
            Transfer<Element>::put(writer, element);
        } else if constexpr (requires { typename E::first_type; }) {
            Transfer<typename Element::first_type>::put(writer, element.first);
            Transfer<typename Element::second_type>::put(writer, element.second);
        } else {
            Transfer<Element>::put(writer, static_cast<Element>(element));  // vector<bool>: a reference to a bit
        }
    }
};

template <>
struct Transfer<std::filesystem::path> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const std::filesystem::path& value) {
        Transfer<std::string>::put(writer, value.native());
    }
    static std::filesystem::path take(pipes::MessageReader& reader) { return Transfer<std::string>::take(reader); }
};

template <class A, class B>
requires(!detail::kGoesAsBytes<std::pair<A, B>>) struct Transfer<std::pair<A, B>> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const std::pair<A, B>& value) {
        Transfer<A>::put(writer, value.first);
        Transfer<B>::put(writer, value.second);
    }
    static std::pair<A, B> take(pipes::MessageReader& reader) {
        A first = Transfer<A>::take(reader);
        return {std::move(first), Transfer<B>::take(reader)};
    }
};

template <class... T>
requires(!detail::kGoesAsBytes<std::tuple<T...>>) struct Transfer<std::tuple<T...>> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const std::tuple<T...>& value) {
        std::apply([&](const T&... each) { (Transfer<T>::put(writer, each), ...); }, value);
    }
    static std::tuple<T...> take(pipes::MessageReader& reader) {
        return std::tuple<T...>{Transfer<T>::take(reader)...};  // braces: from left to right
    }
};

template <class T>
struct Transfer<std::optional<T>> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const std::optional<T>& value) {
        Transfer<bool>::put(writer, value.has_value());
        if (value) Transfer<T>::put(writer, *value);
    }
    static std::optional<T> take(pipes::MessageReader& reader) {
        if (!Transfer<bool>::take(reader)) return std::nullopt;
        return std::optional<T>(Transfer<T>::take(reader));
    }
};

template <class... T>
struct Transfer<std::variant<T...>> : detail::TransferForm {
    using V = std::variant<T...>;

    /// Throws: std::bad_variant_access -- the variant holds nothing, because an assignment to it has thrown.
    static void put(pipes::MessageWriter& writer, const V& value) {
        Transfer<std::uint64_t>::put(writer, value.index());
        std::visit([&](const auto& held) { Transfer<std::remove_cvref_t<decltype(held)>>::put(writer, held); }, value);
    }
    static V take(pipes::MessageReader& reader) {
        const std::uint64_t index = Transfer<std::uint64_t>::take(reader);
        if (index >= sizeof...(T)) pipes::refuse_message("take a variant: an index beyond its alternatives was sent");
        return take_one(reader, index, std::index_sequence_for<T...>());
    }

private:
    template <std::size_t... I>
    static V take_one(pipes::MessageReader& reader, std::uint64_t index, std::index_sequence<I...>) {
        using Take = V (*)(pipes::MessageReader&);
        constexpr std::array<Take, sizeof...(T)> kTakes{
            [](pipes::MessageReader& from) { return V(std::in_place_index<I>, Transfer<T>::take(from)); }...};
        return kTakes[index](reader);
    }
};

namespace detail {

/// Writes a member of an aggregate. A member may be an array, which cannot be an argument or a result itself.
template <class M>
void put_member(pipes::MessageWriter& writer, const M& member) {
    if constexpr (std::is_array_v<M>) {
        for (const auto& element : member) put_member(writer, element);
    } else {
        Transfer<M>::put(writer, member);
    }
}
template <class M>
void take_member(pipes::MessageReader& reader, M& member) {
    if constexpr (std::is_array_v<M>) {
        for (auto& element : member) take_member(reader, element);
    } else {
        member = Transfer<M>::take(reader);
    }
}

}  // namespace detail

template <class T, std::size_t N>
requires(!detail::kGoesAsBytes<std::array<T, N>>) struct Transfer<std::array<T, N>> : detail::TransferForm {
    static void put(pipes::MessageWriter& writer, const std::array<T, N>& value) {
        for (const T& element : value) Transfer<T>::put(writer, element);
    }
    static std::array<T, N> take(pipes::MessageReader& reader) {
        return take_all(reader, std::make_index_sequence<N>());
    }

private:
    template <std::size_t... I>
    static std::array<T, N> take_all(pipes::MessageReader& reader, std::index_sequence<I...>) {
        return {{(static_cast<void>(I), Transfer<T>::take(reader))...}};  // braces: from left to right
    }
};

template <detail::GoesByMembers T>
struct Transfer<T> : detail::TransferForm {
    using Members = vmcow::detail::MembersOf<T>;

    static void put(pipes::MessageWriter& writer, const T& value) { put_all(writer, value, Members{}); }
    static T take(pipes::MessageReader& reader) { return take_all(reader, Members{}); }

private:
    template <class... M>
    static void put_all(pipes::MessageWriter& writer, const T& value, vmcow::detail::TypeList<M...>) {
        // The parameters name the declared types, so that a bit-field is passed as a copy.
        vmcow::detail::with_members(
            value, [&](const std::remove_cv_t<M>&... member) { (detail::put_member(writer, member), ...); });
    }
    template <class... M>
    static T take_all(pipes::MessageReader& reader, vmcow::detail::TypeList<M...>) {
        if constexpr ((std::is_array_v<M> || ...)) {
            T value{};
            vmcow::detail::with_members(value, [&](M&... member) { (detail::take_member(reader, member), ...); });
            return value;
        } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"                          // of a bit-field, to its own width
            return T{Transfer<std::remove_cv_t<M>>::take(reader)...};  // braces: from left to right
#pragma GCC diagnostic pop
        }
    }
};

namespace detail {

template <class T, class... Around>
consteval auto find_untransferable();

template <class... Around, class... T>
consteval auto find_untransferable_in(vmcow::detail::TypeList<T...>) {
    return std::type_identity<
        typename vmcow::detail::FirstFound<typename decltype(find_untransferable<T, Around...>())::type...>::Type>{};
}

template <class T>
concept HasTransfer = requires(pipes::MessageWriter& writer, pipes::MessageReader& reader, const T& value) {
    Transfer<T>::put(writer, value);
    { Transfer<T>::take(reader) } -> std::same_as<T>;
};

/// Finds the part of T that has no Transfer; void if every part has one. `Around` are the types that T was found in.
template <class T, class... Around>
consteval auto find_untransferable() {
    using U = std::remove_cv_t<T>;
    if constexpr ((std::same_as<U, Around> || ...)) {
        return std::type_identity<void>{};
    } else if constexpr (std::is_array_v<U> && sizeof...(Around) > 0) {
        return find_untransferable<std::remove_extent_t<U>, Around...>();
    } else if constexpr (!std::is_object_v<U> || std::is_array_v<U> || !HasTransfer<U>) {
        return std::type_identity<U>{};
    } else if constexpr (!std::derived_from<Transfer<U>, TransferForm> || kGoesAsBytes<U> || kIsValueForm<U> ||
                         std::same_as<U, std::filesystem::path>) {
        return std::type_identity<void>{};
    } else if constexpr (vmcow::detail::HasKnownParts<U>) {
        return find_untransferable_in<U, Around...>(typename vmcow::detail::PartsOf<U>::Types{});
    } else if constexpr (Container<U>) {
        return find_untransferable<ElementOf<U>, U, Around...>();
    } else if constexpr (GoesByMembers<U>) {
        return find_untransferable_in<U, Around...>(vmcow::detail::MembersOf<U>{});
    } else {
        return std::type_identity<void>{};
    }
}
template <class T>
using Untransferable = typename decltype(find_untransferable<T>())::type;
template <class T>
inline constexpr bool kTransferable = std::is_void_v<Untransferable<T>>;

/// Fails to compile, with one sentence, for a result that cannot be sent back. `Within` is the part of it that has no
/// Transfer.
template <class Result, class Within>
struct ResultOfCall {
    static_assert(
        std::is_void_v<Within>,
        "the result of a call is void or goes as bytes: it is of a plain type, std::string, a standard "
        "container, pair, tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; "
        "no pointer, reference or view, and a class that hides its members has to vouch for itself "
        "(vmcow::kVouched)");
};

}  // namespace detail

/// A type that can be the result of a call.
template <class T>
concept Transferable = detail::kTransferable<T>;

}  // namespace procrun
