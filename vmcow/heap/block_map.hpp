#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "vmcow/heap/blocks/map_tree.hpp"

namespace vmcow::heap {

namespace detail {

/// Goes through a `block_map`, in the order of its keys' hashes. Once the map has been changed, the iterator can only
/// be assigned, compared or destroyed; other uses throw std::logic_error.
template <class Map>
class MapIterator {
public:
    // NOLINTBEGIN(readability-identifier-naming): what std::iterator_traits looks for.
    using iterator_category = std::forward_iterator_tag;
    using value_type = typename Map::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;
    // NOLINTEND(readability-identifier-naming)

    MapIterator() = default;

    [[nodiscard]] reference operator*() const {
        check();
        if (index_ >= leaf_.size()) throw std::out_of_range("an iterator at the end of a block_map");
        return leaf_[index_];
    }
    [[nodiscard]] pointer operator->() const { return &**this; }
    MapIterator& operator++() {
        check();
        if (++index_ >= leaf_.size()) {
            leaf_ = map_->tree_.next_leaf(position_);
            index_ = 0;
        }
        return *this;
    }
    MapIterator operator++(int) {
        const MapIterator before = *this;
        ++*this;
        return before;
    }
    /// Pre: both iterators are of the same map.
    [[nodiscard]] bool operator==(const MapIterator& other) const noexcept {
        return leaf_.data() == other.leaf_.data() && index_ == other.index_;
    }

private:
    friend Map;
    MapIterator(const Map& map, bool at_end) : map_(&map), changes_(map.changes_) {
        if (!at_end) leaf_ = map.tree_.next_leaf(position_);
    }
    void check() const {
        if (map_ == nullptr) throw std::logic_error("an iterator of no block_map");
        if (changes_ != map_->changes_) throw std::logic_error("the block_map was changed since the iterator was made");
    }

    const Map* map_ = nullptr;
    std::span<const value_type> leaf_;  ///< empty at the end
    std::size_t index_ = 0;
    MapPosition position_;
    std::uint64_t changes_ = 0;
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as the containers of the standard library are.

/// A hash map in blocks that copies share. A copy is O(1); a change of a map copies one leaf and the inner nodes above
/// it, where others share them, and changes blocks in place that nobody shares. Every change has the three forms that
/// `block_array` has. A map that was moved from is empty, keeps its shape and can be used again.
///
///     block_map<int, long> a;
///     a.set_in_place(1, 10);
///     const auto b = a;                          // O(1)
///     const auto c = a.set(1, 11).erase(2);      // a and b stay as they are
///     if (const long* found = c.find(1)) ...
///
/// Shape:      a tree over the bits of the keys' hashes, which are spread first: any Hash will do that tells keys
///             apart. A leaf has as many entries as fit, and in front of them one byte of each entry's hash, so that
///             finding a key takes a look at one leaf. A leaf splits when it is full; entries whose whole hashes are
///             equal share a leaf that grows. Equal maps that were made by different steps may have different leaves.
/// Elements:   keys and values that can be copied. Trivially copyable entries are copied as bytes.
/// Throws:     what the allocator, Hash, Equal and copying throw. The map holds then what it held before, if moving a
///             key or a value does not throw.
/// References: what `find`, `at` and iterators give is good until this map is changed, assigned or destroyed.
/// Threads, Allocators: as `block_array`.
/// Source:     Fagin, Nievergelt, Pippenger and Strong, Extendible Hashing, 1979, for how leaves split; Bagwell, Ideal
///             Hash Trees, 2001, for the tree.
template <class K, class V, Options kOptions = Options{}, class Hash = std::hash<K>, class Equal = std::equal_to<K>,
          class Allocator = std::allocator<MapEntry<K, V>>>
class block_map {
    static_assert(std::is_object_v<K> && !std::is_const_v<K> && std::is_copy_constructible_v<K>);
    static_assert(std::is_object_v<V> && !std::is_const_v<V> && std::is_copy_constructible_v<V>);
    using Tree = detail::MapTree<K, V, kOptions, Hash, Equal, Allocator>;
    using Memory = typename Tree::Memory;
    friend class detail::MapIterator<block_map>;
    friend struct detail::MapAccess;
    friend class detail::TreeCheck;

public:
    using key_type = K;
    using mapped_type = V;
    using value_type = MapEntry<K, V>;
    using allocator_type = Allocator;
    using size_type = std::size_t;
    using iterator = detail::MapIterator<block_map>;
    using const_iterator = iterator;

    /// Leaves of 256 bytes, or larger ones where an entry needs it.
    [[nodiscard]] static constexpr BlockShape default_shape() noexcept {
        return {std::max(BlockShape{}.leaf_bytes, std::bit_ceil(sizeof(value_type))), 0};
    }
    /// The shape that a map gets for which `shape` is asked.
    /// Throws: std::invalid_argument -- see `BlockShape::checked`.
    [[nodiscard]] static BlockShape checked_shape(BlockShape shape) {
        // The inner nodes of a map are as wide as the tree needs them: the fan-out is only the largest width.
        if (shape.fan_out == 0) shape.fan_out = BlockShape::kMostFanOut;
        return shape.checked(sizeof(value_type));
    }

    /// Empty; allocates nothing.
    /// Throws: std::invalid_argument -- see `BlockShape::checked`; an element is an entry, of a key and a value.
    block_map() : block_map(default_shape()) {}
    explicit block_map(const Allocator& allocator) : block_map(default_shape(), allocator) {}
    explicit block_map(const BlockShape& shape, const Allocator& allocator = Allocator())
        : tree_(checked_shape(shape), Memory(allocator)) {}
    /// The entries given. Of several entries with one key the last one counts.
    explicit block_map(std::span<const value_type> entries, const BlockShape& shape = default_shape(),
                       const Allocator& allocator = Allocator())
        : block_map(shape, allocator) {
        for (const value_type& entry : entries) set_in_place(entry.key, entry.value);
    }
    block_map(std::initializer_list<value_type> entries, const BlockShape& shape = default_shape(),
              const Allocator& allocator = Allocator())
        : block_map(std::span<const value_type>(entries.begin(), entries.size()), shape, allocator) {}

    /// Cost: O(1); O(n) where the copy takes its memory from another allocator.
    block_map(const block_map& other) : tree_(other.tree_, other.tree_.memory().for_copy()) {}
    block_map(const block_map& other, const Allocator& allocator) : tree_(other.tree_, Memory(allocator)) {}
    /// Leaves `other` empty.
    block_map(block_map&& other) noexcept : tree_(other.tree_.shape(), other.tree_.memory()) {
        ++other.changes_;
        tree_.take(other.tree_);
    }
    block_map(block_map&& other, const Allocator& allocator) : tree_(other.tree_.shape(), Memory(allocator)) {
        ++other.changes_;
        tree_.move_from(other.tree_);
    }
    block_map& operator=(const block_map& other) {
        if (this != &other) {
            tree_.copy_from(other.tree_);
            ++changes_;
        }
        return *this;
    }
    block_map& operator=(block_map&& other) noexcept(Memory::kAlwaysEqual || Memory::kMovesAllocator) {
        if (this == &other) return *this;
        tree_.move_from(other.tree_);
        ++changes_;
        ++other.changes_;
        return *this;
    }
    ~block_map() = default;

    friend void swap(block_map& a, block_map& b) noexcept(std::is_nothrow_move_assignable_v<block_map>) {
        detail::swap_by_moves(a, b, Memory::kMovesAllocator || a.tree_.memory() == b.tree_.memory());
    }

    [[nodiscard]] std::size_t size() const noexcept { return tree_.size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    [[nodiscard]] BlockShape shape() const noexcept { return tree_.shape(); }
    [[nodiscard]] Allocator get_allocator() const noexcept { return tree_.memory().allocator(); }
    /// Whether no other map has any block of this one; true for an empty map. Cost: O(blocks).
    [[nodiscard]] bool is_unique() const noexcept { return usage().shared_blocks == 0; }
    /// Cost: O(blocks).
    [[nodiscard]] BlockUsage usage() const noexcept { return tree_.usage(); }

    // ---- reading

    /// The value of a key; nullptr if the key is not there.
    [[nodiscard]] const V* find(const K& key) const& {
        const value_type* const entry = tree_.find(key);
        return entry == nullptr ? nullptr : &entry->value;
    }
    template <class U = V>
    [[nodiscard]] const V* find(const K&) const&& {
        return detail::refuse_view_of_temporary<U>(), nullptr;
    }
    [[nodiscard]] bool contains(const K& key) const { return tree_.find(key) != nullptr; }
    /// The value of a key; of a temporary, a copy of it. Throws: std::out_of_range -- the key is not there.
    [[nodiscard]] const V& at(const K& key) const& {
        const value_type* const entry = tree_.find(key);
        if (entry == nullptr) throw std::out_of_range("a key that is not in the block_map");
        return entry->value;
    }
    [[nodiscard]] V at(const K& key) const&& { return at(key); }

    [[nodiscard]] iterator begin() const& { return {*this, false}; }
    [[nodiscard]] iterator end() const& { return {*this, true}; }
    template <class U = V>
    [[nodiscard]] iterator begin() const&& {
        return detail::refuse_view_of_temporary<U>(), iterator();
    }
    template <class U = V>
    [[nodiscard]] iterator end() const&& {
        return detail::refuse_view_of_temporary<U>(), iterator();
    }
    /// Calls `visit(std::span<const MapEntry<K, V>>)` for each leaf.
    /// Throws: std::logic_error -- `visit` has changed this map.
    template <class F>
    requires std::invocable<F&, std::span<const value_type>>
    void for_each_span(F&& visit) const {
        const std::uint64_t unchanged = changes_;
        detail::MapPosition position;
        for (auto leaf = tree_.next_leaf(position); !leaf.empty(); leaf = tree_.next_leaf(position)) {
            visit(leaf);
            if (changes_ != unchanged) throw std::logic_error("the function that visits a block_map has changed it");
        }
    }

    /// Calls `visit(key, mine, theirs)` for each key that does not have the same value in both maps, until `visit`
    /// returns false. `mine` or `theirs` is nullptr where the key is not in that map.
    /// Cost: blocks that both share are not looked at; O(n) if the shapes differ.
    template <class F>
    requires std::predicate<F&, const K&, const V*, const V*>
    bool for_each_difference(const block_map& other, F&& visit) const {
        return tree_.for_each_difference(other.tree_, visit);
    }
    /// The same keys with the same values.
    [[nodiscard]] bool operator==(const block_map& other) const requires std::equality_comparable<V> {
        return size() == other.size() && for_each_difference(other, [](const K&, const V*, const V*) { return false; });
    }

    // ---- changing

    /// Adds the key with this value, unless the key is there.
    [[VMCOW_RETURNS_CHANGED_COPY(insert)]] block_map insert(K key, V value) const& {
        return changed([&](block_map& copy) { copy.insert_in_place(std::move(key), std::move(value)); });
    }
    [[VMCOW_RETURNS_ITSELF(insert)]] block_map insert(K key, V value) && {
        insert_in_place(std::move(key), std::move(value));
        return std::move(*this);
    }
    /// False if the key was there; nothing has changed then.
    bool insert_in_place(K key, V value) {
        ++changes_;
        return tree_.insert(std::move(key), std::move(value));
    }

    /// Gives the key this value, whether it is there or not.
    [[VMCOW_RETURNS_CHANGED_COPY(set)]] block_map set(K key, V value) const& {
        return changed([&](block_map& copy) { copy.set_in_place(std::move(key), std::move(value)); });
    }
    [[VMCOW_RETURNS_ITSELF(set)]] block_map set(K key, V value) && {
        set_in_place(std::move(key), std::move(value));
        return std::move(*this);
    }
    void set_in_place(K key, V value) {
        ++changes_;
        tree_.set(std::move(key), std::move(value));
    }

    /// Calls `change(value)`, which may write to the value, and must neither change nor copy this map.
    /// Throws: std::out_of_range -- the key is not there; std::logic_error -- `change` has changed or copied the map.
    template <class F>
    requires std::invocable<F&&, V&>
    [[VMCOW_RETURNS_CHANGED_COPY(update)]] block_map update(const K& key, F&& change) const& {
        return changed([&](block_map& copy) { copy.update_in_place(key, std::forward<F>(change)); });
    }
    template <class F>
    requires std::invocable<F&&, V&>
    [[VMCOW_RETURNS_ITSELF(update)]] block_map update(const K& key, F&& change) && {
        update_in_place(key, std::forward<F>(change));
        return std::move(*this);
    }
    template <class F>
    requires std::invocable<F&&, V&>
    void update_in_place(const K& key, F&& change) {
        ++changes_;
        value_type* const entry = tree_.own_entry(key);
        if (entry == nullptr) throw std::out_of_range("a key that is not in the block_map");
        const std::uint64_t changes = changes_;
        std::forward<F>(change)(entry->value);
        detail::check_only_element_changed(changes_ == changes && tree_.has_own_root());
    }

    /// Removes the key, if it is there.
    [[VMCOW_RETURNS_CHANGED_COPY(erase)]] block_map erase(const K& key) const& {
        return changed([&](block_map& copy) { copy.erase_in_place(key); });
    }
    [[VMCOW_RETURNS_ITSELF(erase)]] block_map erase(const K& key) && {
        erase_in_place(key);
        return std::move(*this);
    }
    /// False if the key was not there.
    bool erase_in_place(const K& key) {
        ++changes_;
        return tree_.erase(key);
    }

    /// Removes all entries and keeps the shape.
    void clear_in_place() noexcept {
        ++changes_;
        tree_.clear();
    }

private:
    template <class F>
    [[nodiscard]] block_map changed(F&& change) const {
        block_map copy(*this);
        change(copy);
        return copy;
    }

    Tree tree_;
    std::uint64_t changes_ = 0;
};

/// A key that does not have the same value in two maps.
template <class K, class V>
struct MapDifference {
    K key;
    const V* before;  ///< its value in the first map; nullptr if it is not there
    const V* after;   ///< its value in the second map; nullptr if it is not there
};

/// The keys that do not have the same value in both maps. The values that the result points to belong to the maps.
/// Cost: blocks that both share are not looked at; O(n) if the shapes differ.
template <class K, class V, Options kOptions, class Hash, class Equal, class Allocator>
[[nodiscard]] std::vector<MapDifference<K, V>> diff(const block_map<K, V, kOptions, Hash, Equal, Allocator>& a,
                                                    const block_map<K, V, kOptions, Hash, Equal, Allocator>& b) {
    std::vector<MapDifference<K, V>> differences;
    a.for_each_difference(b, [&](const K& key, const V* before, const V* after) {
        differences.push_back({key, before, after});
        return true;
    });
    return differences;
}

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
