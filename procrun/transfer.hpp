#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "pipes/value_message.hpp"
#include "vmcow/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

namespace procrun {

/// How a value of T goes from one process to another: `put` writes it, `take` reads it back and throws
/// std::system_error (EBADMSG) for what does not fit, because the sender is not trusted (I3).
///
/// There is a form for trivially copyable types, std::string, std::vector, std::pair, std::tuple, vmcow::Value and
/// vmcow::Snapshot, nested as one likes. Values and snapshots go by descriptor, everything else as bytes. Pointers and
/// views into memory have none: what they point to is in another process.
template <class T>
struct Transfer;

using vmcow::PlainBytes;

/// A type that can be the result of a call.
template <class T>
concept Transferable = requires(pipes::MessageWriter& writer, pipes::MessageReader& reader, const T& value) {
    Transfer<T>::put(writer, value);
    { Transfer<T>::take(reader) } -> std::same_as<T>;
};

template <PlainBytes T>
struct Transfer<T> {
    static void put(pipes::MessageWriter& writer, const T& value) { writer.put(std::as_bytes(std::span(&value, 1))); }
    static T take(pipes::MessageReader& reader) {
        alignas(T) std::byte bytes[sizeof(T)];
        std::memcpy(bytes, reader.take(sizeof(T)).data(), sizeof(T));
        return *std::launder(reinterpret_cast<T*>(bytes));
    }
};

template <>
struct Transfer<vmcow::Snapshot> {
    static void put(pipes::MessageWriter& writer, const vmcow::Snapshot& value) { writer.put(value); }
    static vmcow::Snapshot take(pipes::MessageReader& reader) { return reader.take_snapshot(); }
};

template <class T>
struct Transfer<vmcow::Value<T>> {
    static void put(pipes::MessageWriter& writer, const vmcow::Value<T>& value) { writer.put(value.snapshot()); }
    static vmcow::Value<T> take(pipes::MessageReader& reader) {
        return vmcow::Value<T>::from_snapshot(reader.take_snapshot());
    }
};

/// A length and the elements behind it.
template <class C, class Element>
struct SequenceTransfer {
    static void put(pipes::MessageWriter& writer, const C& value) {
        Transfer<std::uint64_t>::put(writer, value.size());
        if constexpr (PlainBytes<Element>) {
            writer.put(std::as_bytes(std::span(value.data(), value.size())));
        } else {
            for (const Element& element : value) Transfer<Element>::put(writer, element);
        }
    }
    static C take(pipes::MessageReader& reader) {
        const std::uint64_t count = Transfer<std::uint64_t>::take(reader);
        C value;
        if constexpr (PlainBytes<Element>) {
            // Bytes that are not there are noticed before memory is asked for.
            const bool fits = count <= std::numeric_limits<std::size_t>::max() / sizeof(Element);
            const auto bytes = reader.take(fits ? count * sizeof(Element) : std::numeric_limits<std::size_t>::max());
            value.resize(count);
            if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
        } else {
            for (std::uint64_t i = 0; i < count; ++i) value.push_back(Transfer<Element>::take(reader));
        }
        return value;
    }
};

template <>
struct Transfer<std::string> : SequenceTransfer<std::string, char> {};

template <class T>
requires(!std::same_as<T, bool>) struct Transfer<std::vector<T>> : SequenceTransfer<std::vector<T>, T> {
};

template <class A, class B>
requires(!PlainBytes<std::pair<A, B>>) struct Transfer<std::pair<A, B>> {
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
requires(!PlainBytes<std::tuple<T...>>) struct Transfer<std::tuple<T...>> {
    static void put(pipes::MessageWriter& writer, const std::tuple<T...>& value) {
        std::apply([&](const T&... each) { (Transfer<T>::put(writer, each), ...); }, value);
    }
    static std::tuple<T...> take(pipes::MessageReader& reader) {
        return std::tuple<T...>{Transfer<T>::take(reader)...};  // braces: from left to right
    }
};

}  // namespace procrun
