#pragma once

#include <boost/container_hash/hash.hpp>
#include <boost/multi_index/hashed_index.hpp>
#include <boost/multi_index/sequenced_index.hpp>
#include <boost/multi_index_container.hpp>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/shared_container.hpp"

namespace vmcow::heap {
namespace detail {

/// A Boost container that keeps entries in a row and finds them by hash.
template <class K, class V, Options kOptions, class Allocator, class Hash, class Equal>
struct OrderedHashTable {
    using Key = K;
    using Mapped = V;
    using Entry = std::pair<const K, V>;
    /// Not boost::multi_index::member, which needs a complete V: an entry may hold maps of its own type.
    struct KeyOf {
        using result_type = const K;  // NOLINT(readability-identifier-naming): the name that the index looks for
        const K& operator()(const Entry& entry) const noexcept { return entry.first; }
    };
    using Container = boost::multi_index_container<
        Entry,
        boost::multi_index::indexed_by<boost::multi_index::sequenced<>,
                                       boost::multi_index::hashed_unique<KeyOf, Hash, Equal>>,
        typename AllocatorFor<Entry, kOptions, Allocator>::Type>;

    [[nodiscard]] static const V* find(const Container& table, const K& key) {
        const auto& hashed = table.template get<1>();
        const auto found = hashed.find(key);
        return found == hashed.end() ? nullptr : &found->second;
    }
    /// The value may be changed: the indices look only at the key.
    [[nodiscard]] static V* find(Container& table, const K& key) {
        return const_cast<V*>(find(std::as_const(table), key));
    }
    static void add(Container& table, K&& key, V&& value) { table.emplace_back(std::move(key), std::move(value)); }
    static void remove(Container& table, const K& key) { table.template get<1>().erase(key); }
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Values by key, in the order in which the keys were added, as in PHP's arrays and Python's dictionaries. Setting a
/// key that is there keeps its place; a key that was removed and is set again comes last. Two ordered maps are equal if
/// they have equal entries in the same order. Otherwise as map.
template <class K, class V, Options kOptions = Options{}, class Allocator = std::allocator<std::pair<const K, V>>,
          class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
class ordered_map
    : public detail::MapFace<ordered_map<K, V, kOptions, Allocator, Hash, Equal>,
                             detail::OrderedHashTable<K, V, kOptions, Allocator, Hash, Equal>, kOptions, Allocator> {
    using Face = detail::MapFace<ordered_map, detail::OrderedHashTable<K, V, kOptions, Allocator, Hash, Equal>,
                                 kOptions, Allocator>;

public:
    using Face::Face;
    ordered_map() = default;
    ordered_map(std::initializer_list<std::pair<const K, V>> entries, const Allocator& allocator = {})
        : Face(allocator) {
        for (const auto& [key, value] : entries) this->set_in_place(key, value);
    }
    ordered_map(const ordered_map&) = default;
    ordered_map(const ordered_map& other, const Allocator& allocator) : Face(other, allocator) {}
    ordered_map(ordered_map&&) noexcept = default;
    ordered_map(ordered_map&& other, const Allocator& allocator) : Face(std::move(other), allocator) {}
    ordered_map& operator=(const ordered_map&) = default;
    ordered_map& operator=(ordered_map&&) noexcept(std::is_nothrow_move_assignable_v<Face>) = default;
    ~ordered_map() = default;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
