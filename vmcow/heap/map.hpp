#pragma once

#include <boost/container_hash/hash.hpp>
#include <boost/unordered_map.hpp>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/shared_container.hpp"

namespace vmcow::heap {
namespace detail {

template <class K, class V, Options kOptions, class Allocator, class Hash, class Equal>
struct HashTable {
    using Key = K;
    using Mapped = V;
    using Container = boost::unordered_map<K, V, Hash, Equal,
                                           typename AllocatorFor<std::pair<const K, V>, kOptions, Allocator>::Type>;

    [[nodiscard]] static const V* find(const Container& table, const K& key) {
        const auto found = table.find(key);
        return found == table.end() ? nullptr : &found->second;
    }
    [[nodiscard]] static V* find(Container& table, const K& key) {
        const auto found = table.find(key);
        return found == table.end() ? nullptr : &found->second;
    }
    static void add(Container& table, K&& key, V&& value) { table.emplace(std::move(key), std::move(value)); }
    static void remove(Container& table, const K& key) { table.erase(key); }
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Values by key, in no order: a boost::unordered_map that is shared as a whole, as the elements of a list are. Its
/// changes have the three forms of list. A map that was moved from is empty and can be used again.
///
/// Throws:  std::out_of_range -- no such key; what hashing, comparing, allocating or copying throws. Operands are then
///          as before.
/// Cost:    as the hash table; a copy is O(1), and the first change of a shared map copies the table.
/// Threads: as list.
template <class K, class V, Options kOptions = Options{}, class Allocator = std::allocator<std::pair<const K, V>>,
          class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
class map : public detail::MapFace<map<K, V, kOptions, Allocator, Hash, Equal>,
                                   detail::HashTable<K, V, kOptions, Allocator, Hash, Equal>, kOptions, Allocator> {
    using Face = detail::MapFace<map, detail::HashTable<K, V, kOptions, Allocator, Hash, Equal>, kOptions, Allocator>;

public:
    using Face::Face;
    map() = default;
    map(std::initializer_list<std::pair<const K, V>> entries, const Allocator& allocator = {}) : Face(allocator) {
        for (const auto& [key, value] : entries) this->set_in_place(key, value);
    }
    map(const map&) = default;
    map(const map& other, const Allocator& allocator) : Face(other, allocator) {}
    map(map&&) noexcept = default;
    map(map&& other, const Allocator& allocator) : Face(std::move(other), allocator) {}
    map& operator=(const map&) = default;
    map& operator=(map&&) noexcept(std::is_nothrow_move_assignable_v<Face>) = default;
    ~map() = default;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
