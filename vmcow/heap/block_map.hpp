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

#include "vmcow/heap/block_map_tree.hpp"

namespace vmcow::heap {

namespace detail {

/// Goes through a `block_map`, in the order of its keys' hashes. Once the map has been changed, all but assigning and
/// destroying throws std::logic_error.
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
        if (index_ >= leaf_.size()) throw std::out_of_range("the end of a block_map");
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
    /// Of the same map.
    [[nodiscard]] bool operator==(const MapIterator& other) const noexcept {
        return leaf_.data() == other.leaf_.data() && index_ == other.index_;
    }

private:
    friend Map;
    MapIterator(const Map& map, bool at_end) : map_(&map), changes_(map.changes_) {
        if (!at_end) leaf_ = map.tree_.next_leaf(position_);
    }
    void check() const {
        if (map_ == nullptr || changes_ != map_->changes_) throw std::logic_error("an iterator of a changed block_map");
    }

    const Map* map_ = nullptr;
    std::span<const value_type> leaf_;  ///< nothing at the end
    std::size_t index_ = 0;
    MapPosition position_;
    std::uint64_t changes_ = 0;
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as the containers of the standard library are.

/// A hash map in blocks that copies share: copied in O(1), and then changed at the price of one leaf and the inner
/// nodes above it. What nobody shares is changed in place. Every change has the three forms that `block_array` has.
///
///     block_map<int, long> a;
///     a = std::move(a).set(1, 10);               // in place
///     const auto b = a;                          // O(1)
///     const auto c = a.set(1, 11).erase(2);      // a and b stay as they are
///     if (const long* found = c.find(1)) ...
///
/// Shape:      a tree over the bits of the keys' hashes, which are spread, so that any Hash will do that tells keys
/// apart;
///             leaves of as many entries as fit, with one byte of each entry's hash in front, and so a look at one leaf
///             per key. A leaf splits when it is full; entries whose whole hashes are equal share one that grows.
///             A map that was made by other steps may have other leaves, but the same entries.
/// Elements:   keys and values that can be copied. Trivially copyable ones are copied as bytes.
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
    /// The shape of a map for which this one is asked. Throws: std::invalid_argument -- see `BlockShape::checked`.
    [[nodiscard]] static BlockShape checked_shape(BlockShape shape) {
        // A map's inner nodes are as wide as the tree needs them: what is chosen here is how wide that may be.
        if (shape.fan_out == 0) shape.fan_out = BlockShape::kMostFanOut;
        return shape.checked(sizeof(value_type));
    }

    /// Empty; allocates nothing. Throws: std::invalid_argument -- see `BlockShape::checked`; an entry has a key and a
    /// value.
    block_map() : block_map(default_shape()) {}
    explicit block_map(const Allocator& allocator) : block_map(default_shape(), allocator) {}
    explicit block_map(const BlockShape& shape, const Allocator& allocator = Allocator())
        : tree_(checked_shape(shape), Memory(allocator)) {}
    /// Of several entries with one key the last one counts.
    explicit block_map(std::span<const value_type> entries, const BlockShape& shape = default_shape(),
                       const Allocator& allocator = Allocator())
        : block_map(shape, allocator) {
        for (const value_type& entry : entries) set_in_place(entry.key, entry.value);
    }
    block_map(std::initializer_list<value_type> entries, const BlockShape& shape = default_shape(),
              const Allocator& allocator = Allocator())
        : block_map(std::span<const value_type>(entries.begin(), entries.size()), shape, allocator) {}

    /// Cost: O(1); O(n) where the copy has its memory elsewhere.
    block_map(const block_map& other) : tree_(other.tree_, other.tree_.memory().for_copy()) {}
    block_map(const block_map& other, const Allocator& allocator) : tree_(other.tree_, Memory(allocator)) {}
    /// Leaves the other one empty.
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
        block_map other = std::move(a);
        a = std::move(b);
        b = std::move(other);
    }

    [[nodiscard]] std::size_t size() const noexcept { return tree_.size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    [[nodiscard]] BlockShape shape() const noexcept { return tree_.shape(); }
    [[nodiscard]] Allocator get_allocator() const noexcept { return tree_.memory().allocator(); }
    /// No other map has any of this one's blocks, or the map is empty. Cost: O(blocks).
    [[nodiscard]] bool is_unique() const noexcept { return usage().shared_blocks == 0; }
    /// Cost: O(blocks).
    [[nodiscard]] BlockUsage usage() const noexcept { return tree_.usage(); }

    // ---- reading

    /// nullptr where the key is not there.
    [[nodiscard]] const V* find(const K& key) const {
        const value_type* const entry = tree_.find(key);
        return entry == nullptr ? nullptr : &entry->value;
    }
    [[nodiscard]] bool contains(const K& key) const { return tree_.find(key) != nullptr; }
    /// Throws: std::out_of_range.
    [[nodiscard]] const V& at(const K& key) const {
        const value_type* const entry = tree_.find(key);
        if (entry == nullptr) throw std::out_of_range("a key that is not in the block_map");
        return entry->value;
    }

    [[nodiscard]] iterator begin() const { return {*this, false}; }
    [[nodiscard]] iterator end() const { return {*this, true}; }
    /// Calls `visit(std::span<const MapEntry<K, V>>)` for leaf after leaf. Throws: std::logic_error -- `visit` has
    /// changed this map.
    template <class F>
    requires std::invocable<F&, std::span<const value_type>>
    void for_each_span(F&& visit) const {
        const std::uint64_t unchanged = changes_;
        detail::MapPosition position;
        for (auto leaf = tree_.next_leaf(position); !leaf.empty(); leaf = tree_.next_leaf(position)) {
            visit(leaf);
            if (changes_ != unchanged) throw std::logic_error("a block_map changed while it was gone through");
        }
    }

    /// Calls `visit(key, mine, theirs)` for each key that does not have the same value in both maps, until it returns
    /// false; mine or theirs is nullptr where the key is not there.
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

    /// Adds the key, unless it is there.
    [[nodiscard]] block_map insert(K key, V value) const& {
        return changed([&](block_map& copy) { copy.insert_in_place(std::move(key), std::move(value)); });
    }
    [[nodiscard]] block_map insert(K key, V value) && {
        insert_in_place(std::move(key), std::move(value));
        return std::move(*this);
    }
    /// False where the key was there; nothing has changed then.
    bool insert_in_place(K key, V value) {
        ++changes_;
        return tree_.insert(std::move(key), std::move(value));
    }

    /// Gives the key this value, whether it is there or not.
    [[nodiscard]] block_map set(K key, V value) const& {
        return changed([&](block_map& copy) { copy.set_in_place(std::move(key), std::move(value)); });
    }
    [[nodiscard]] block_map set(K key, V value) && {
        set_in_place(std::move(key), std::move(value));
        return std::move(*this);
    }
    void set_in_place(K key, V value) {
        ++changes_;
        tree_.set(std::move(key), std::move(value));
    }

    /// `change(value)` may write to the value, and to nothing else of this map. Throws: std::out_of_range.
    template <class F>
    requires std::invocable<F&&, V&>
    [[nodiscard]] block_map update(const K& key, F&& change) const& {
        return changed([&](block_map& copy) { copy.update_in_place(key, std::forward<F>(change)); });
    }
    template <class F>
    requires std::invocable<F&&, V&>
    [[nodiscard]] block_map update(const K& key, F&& change) && {
        update_in_place(key, std::forward<F>(change));
        return std::move(*this);
    }
    template <class F>
    requires std::invocable<F&&, V&>
    void update_in_place(const K& key, F&& change) {
        ++changes_;
        value_type* const entry = tree_.own_entry(key);
        if (entry == nullptr) throw std::out_of_range("a key that is not in the block_map");
        std::forward<F>(change)(entry->value);
    }

    /// Takes the key out, if it is there.
    [[nodiscard]] block_map erase(const K& key) const& {
        return changed([&](block_map& copy) { copy.erase_in_place(key); });
    }
    [[nodiscard]] block_map erase(const K& key) && {
        erase_in_place(key);
        return std::move(*this);
    }
    /// False where the key was not there.
    bool erase_in_place(const K& key) {
        ++changes_;
        return tree_.erase(key);
    }

    /// Keeps the shape.
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

/// What has become of a key from one map to another.
template <class K, class V>
struct MapDifference {
    K key;
    const V* before;  ///< in the first map; nullptr where it was not there
    const V* after;
};

/// The keys that do not have the same value in both maps. What it points to belongs to the maps.
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
