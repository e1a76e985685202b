#pragma once

#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "vmcow/image/plain_bytes.hpp"

// One way to read and change the containers that a value may have: those of vmcow/containers.hpp and of vmcow/heap/.

namespace vmcow::detail {

template <class C>
concept KeyedContainer = requires {
    typename C::key_type;
};

template <class C>
concept Sequence = !KeyedContainer<C> && requires(const C& container) {
    container.size();
    container.begin();
};

/// Whether two objects are the same: by == where there is one, so that padding and capacity do not count.
template <class T>
[[nodiscard]] bool is_same_value(const T& a, const T& b) {
    if constexpr (std::is_floating_point_v<T>) {
        return std::memcmp(&a, &b, sizeof(T)) == 0;  // a NaN that nobody has changed is the same NaN
    } else if constexpr (requires { static_cast<bool>(a == b); }) {
        return static_cast<bool>(a == b);
    } else {
        static_assert(PlainBytes<T>, "a class that a merge compares has operator==, or visible members");
        return std::memcmp(&a, &b, sizeof(T)) == 0;
    }
}

// ---- sequences

template <class C, class E>
void append_element(C& to, const E& element) {
    if constexpr (requires { to.push_back_in_place(element); }) {
        to.push_back_in_place(element);
    } else if constexpr (requires { to.push_in_place(element); }) {
        to.push_in_place(element);
    } else {
        to.push_back(element);
    }
}

template <class C, class E>
void set_element(C& to, std::size_t index, const E& element) {
    if constexpr (requires { to.set_in_place(index, element); }) {
        to.set_in_place(index, element);
    } else {
        *std::next(to.begin(), static_cast<std::ptrdiff_t>(index)) = element;
    }
}

// ---- containers with keys

template <class Entry>
[[nodiscard]] const auto& key_of(const Entry& entry) {
    if constexpr (requires { entry.second; }) {
        return entry.first;
    } else if constexpr (requires { entry.key; }) {
        return entry.key;
    } else {
        return entry;
    }
}

/// What belongs to the key: the mapped object, or the key itself in a set.
template <class Entry>
[[nodiscard]] const auto& mapped_of(const Entry& entry) {
    if constexpr (requires { entry.second; }) {
        return entry.second;
    } else if constexpr (requires { entry.key; }) {
        return entry.value;
    } else {
        return entry;
    }
}

template <class C>
using EntryOf = std::remove_cvref_t<decltype(*std::declval<const C&>().begin())>;
template <class C>
using KeyOf = std::remove_cvref_t<decltype(key_of(std::declval<const EntryOf<C>&>()))>;
template <class C>
using MappedOf = std::remove_cvref_t<decltype(mapped_of(std::declval<const EntryOf<C>&>()))>;

/// What `key` has in the container; nullptr when it is not there.
template <class C>
[[nodiscard]] const MappedOf<C>* find_mapped(const C& container, const KeyOf<C>& key) {
    if constexpr (requires { container.find(key) == container.end(); }) {
        const auto found = container.find(key);
        return found == container.end() ? nullptr : &mapped_of(*found);
    } else if constexpr (requires { *container.find(key); }) {
        return container.find(key);
    } else {
        return container.contains(key) ? &key : nullptr;
    }
}

template <class C>
void set_mapped(C& to, const KeyOf<C>& key, const MappedOf<C>& mapped) {
    if constexpr (std::is_same_v<KeyOf<C>, EntryOf<C>>) {
        if constexpr (requires { to.insert_in_place(key); }) {
            to.insert_in_place(key);
        } else {
            to.insert(key);
        }
    } else if constexpr (requires { to.set_in_place(key, mapped); }) {
        to.set_in_place(key, mapped);
    } else {
        to.insert_or_assign(key, mapped);
    }
}

template <class C>
void erase_key(C& to, const KeyOf<C>& key) {
    if constexpr (requires { to.remove_in_place(key); }) {
        to.remove_in_place(key);
    } else if constexpr (requires { to.erase_in_place(key); }) {
        to.erase_in_place(key);
    } else {
        to.erase(key);
    }
}

/// A key as people write it; empty for a key that is neither a number nor a text.
template <class K>
[[nodiscard]] std::string text_of_key(const K& key) {
    if constexpr (std::is_arithmetic_v<K>) {
        return " " + std::to_string(key);
    } else if constexpr (requires { std::string_view(key.data(), key.size()); }) {
        return " '" + std::string(key.data(), key.size()) + "'";
    } else {
        return {};
    }
}

}  // namespace vmcow::detail
