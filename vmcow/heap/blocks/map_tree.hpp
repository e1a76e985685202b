#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmcow/heap/blocks/map_nodes.hpp"

namespace vmcow::heap::detail {

/// The tree of a `block_map`: how lookups and changes go through its nodes. A change does all that can fail before it
/// takes anything away, so that an exception leaves a tree with the same entries.
template <class K, class V, Options kOptions, class Hash, class Equal, class Allocator>
class MapTree {
    friend struct MapAccess;
    friend class TreeCheck;
    using Nodes = MapNodes<K, V, kOptions, Allocator>;
    using Node = typename Nodes::Node;
    using Slot = typename Nodes::Slot;
    using Entry = typename Nodes::Entry;

public:
    using Memory = typename Nodes::Memory;

    MapTree(const BlockShape& checked, const Memory& memory) noexcept : nodes_(checked, memory) {}
    /// Shares the blocks of `other`, or copies them all where `memory` is not equal.
    MapTree(const MapTree& other, const Memory& memory) : nodes_(other.shape(), memory) {
        if (memory == other.memory()) {
            nodes_ = other.nodes_;  // whose allocator is no longer undecided
            root_ = other.root_;
            if (root_ != nullptr) Nodes::at(root_)->count.add();
            other.alone_.set(false);
            alone_.set(false);
        } else if (other.root_ != nullptr) {
            root_ = Slot(clone(Nodes::at(other.root_)));
        }
        size_ = other.size_;
    }
    MapTree(const MapTree&) = delete;
    MapTree& operator=(const MapTree&) = delete;
    ~MapTree() { clear(); }

    /// Takes over the blocks and the allocator, which is decided once it has given memory. Pre: this tree is empty.
    void take(MapTree& other) noexcept {
        nodes_ = other.nodes_;
        root_ = std::exchange(other.root_, Slot(nullptr));
        size_ = std::exchange(other.size_, 0);
        shortcuts_ = std::exchange(other.shortcuts_, Shortcuts(nullptr));
        shortcut_bits_ = std::exchange(other.shortcut_bits_, 0);
        alone_.set(other.alone_.get());
        other.alone_.set(true);
    }
    void copy_from(const MapTree& other) {
        MapTree copy(other, Memory::kCopiesAllocator || memory() == other.memory() ? other.memory() : memory());
        replace_by(copy);
    }
    void move_from(MapTree& other) {
        if (Memory::kMovesAllocator || memory() == other.memory()) return replace_by(other);
        MapTree copy(other, memory());
        replace_by(copy);
        other.clear();
    }
    void clear() noexcept {
        size_ = 0;
        nodes_.drop(Nodes::at(std::exchange(root_, Slot(nullptr))));
        drop_shortcuts();
        alone_.set(true);
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool has_own_root() const noexcept { return root_ == nullptr || Nodes::at(root_)->count.unique(); }
    [[nodiscard]] BlockShape shape() const noexcept { return nodes_.shape(); }
    [[nodiscard]] const Memory& memory() const noexcept { return nodes_.memory(); }
    [[nodiscard]] BlockUsage usage() const noexcept {
        BlockUsage usage;
        if (root_ != nullptr) count_blocks(Nodes::at(root_), false, usage);
        if (shortcut_bits_ != 0) usage.bytes += Memory::allocated_bytes(shortcut_bytes());
        return usage;
    }

    [[nodiscard]] const Entry* find(const K& key) const {
        const std::uint64_t hash = hash_of(key);
        if (const Node* const leaf = shortcut_to(hash)) {
            Nodes::prefetch(leaf);
            return find_in(leaf, hash, key);
        }
        return find_below(Nodes::at(root_), 0, hash, key);
    }

    /// The entries of the first leaf from `position` on that has any; `position` is moved behind it. Empty at the end.
    [[nodiscard]] std::span<const Entry> next_leaf(MapPosition& position) const {
        while (!position.at_end && root_ != nullptr) {
            const Node* node = Nodes::at(root_);
            unsigned above = 0;
            while (node != nullptr && !node->is_leaf()) {
                const std::size_t slot = slot_of(position.hash, above, node);
                above += node->bits;
                node = Nodes::at(Nodes::slots(node)[slot]);
            }
            const unsigned bits = node == nullptr ? above : node->bits;
            const std::uint64_t step = bits == 0 ? 0 : std::uint64_t{1} << (Nodes::kHashBits - bits);
            position.hash += step;
            position.at_end = position.hash == 0;
            if (node != nullptr && node->used > 0) return {Nodes::entries(node), node->used};
        }
        return {};
    }

    // ---- changing

    [[nodiscard]] bool insert(K key, V value) {
        const std::uint64_t hash = hash_of(key);
        if (!alone_.get()) {
            if (find_below(Nodes::at(root_), 0, hash, key) != nullptr) return false;
        } else if (Node* const leaf = shortcut_to(hash)) {
            if (find_in(leaf, hash, key) != nullptr) return false;
            if (leaf->used < leaf->capacity) {
                append(leaf, hash, std::move(key), std::move(value));
                return true;
            }
        }
        Place place = own_path(hash);
        const Node* const leaf = leaf_at(place);
        if (alone_.get() && leaf != nullptr && find_in(leaf, hash, key) != nullptr) return false;
        add(place, hash, std::move(key), std::move(value));
        return true;
    }
    void set(K key, V value) {
        const std::uint64_t hash = hash_of(key);
        Place place = own_path(hash);
        if (const Entry* const found = find_below(leaf_at(place), 0, hash, key)) {
            own_entry_at(place, found)->value = std::move(value);
        } else {
            add(place, hash, std::move(key), std::move(value));
        }
    }
    /// The entry of a key, in blocks that are this tree's own; nullptr if the key is not there.
    [[nodiscard]] Entry* own_entry(const K& key) {
        if (find(key) == nullptr) return nullptr;
        const std::uint64_t hash = hash_of(key);
        const Place place = own_path(hash);
        return own_entry_at(place, find_in(leaf_at(place), hash, key));
    }
    [[nodiscard]] bool erase(const K& key) {
        if (find(key) == nullptr) return false;
        const std::uint64_t hash = hash_of(key);  // now, because `key` may lie in the entry that is removed
        const Place place = own_path(hash);
        Entry* const entry = own_entry_at(place, find_in(leaf_at(place), hash, key));
        Node* const leaf = leaf_at(place);
        nodes_.remove(leaf, entry);
        --size_;
        if (leaf->used * 2 <= leaf->capacity) {
            while (join(hash)) continue;
            if (size_ < shortcut_limit() / 16) drop_shortcuts();
        }
        return true;
    }

    // ---- differences

    template <class F>
    bool for_each_difference(const MapTree& other, F& visit) const {
        const Node* const a = Nodes::at(root_);
        const Node* const b = Nodes::at(other.root_);
        return shape() == other.shape() ? differ(a, b, 0, visit) : differ_as_sets(a, b, 0, visit);
    }

private:
    /// Where the leaf for a hash stands, or is to be made.
    struct Place {
        Node* parent = nullptr;  ///< nullptr where the leaf is the root
        std::size_t slot = 0;    ///< of the parent
        unsigned above = 0;      ///< the bits of the hash that the nodes above the parent have used
        Node* grandparent = nullptr;
        std::size_t parent_slot = 0;
        std::uint64_t hash = 0;
    };
    using Shortcuts = typename Memory::template Pointer<Slot>;

    [[nodiscard]] std::uint64_t hash_of(const K& key) const {
        return spread_hash(static_cast<std::uint64_t>(Hash{}(key)));
    }
    [[nodiscard]] static std::size_t slot_of(std::uint64_t hash, unsigned above, const Node* inner) noexcept {
        return static_cast<std::size_t>((hash << above) >> (Nodes::kHashBits - inner->bits));
    }
    [[nodiscard]] static const Entry* find_in(const Node* leaf, std::uint64_t hash, const K& key) {
        return Nodes::find(leaf, hash, [&](const Entry& entry) { return Equal{}(entry.key, key); });
    }
    /// The entry of a key below `node`, which may be nullptr.
    [[nodiscard]] const Entry* find_below(const Node* node, unsigned above, std::uint64_t hash, const K& key) const {
        std::uint64_t rest = above < Nodes::kHashBits ? hash << above : 0;
        for (unsigned bits = node == nullptr || node->is_leaf() ? 0 : node->bits; bits != 0;) {
            const auto slot = static_cast<std::size_t>(rest >> (Nodes::kHashBits - bits));
            rest <<= bits;
            const unsigned below = Nodes::widths(node, bits)[slot];
            node = Nodes::at(Nodes::slots(node)[slot]);
            bits = below;
        }
        return node == nullptr ? nullptr : find_in(node, hash, key);
    }

    [[nodiscard]] Node* leaf_at(const Place& place) const noexcept {
        return Nodes::at(place.parent == nullptr ? root_ : Nodes::slots(place.parent)[place.slot]);
    }
    /// Puts a leaf that has `bits` bits, or nullptr, into all slots of such a leaf.
    void put(const Place& place, unsigned bits, Node* leaf) noexcept {
        set_shortcuts(place.hash, bits, leaf);
        if (place.parent == nullptr) {
            root_ = Slot(leaf);
            return;
        }
        const std::size_t run = run_of(place, bits);
        Nodes::set_slots(place.parent, place.slot & ~(run - 1), run, leaf);
    }
    void link(Node* parent, std::size_t slot, Node* child) noexcept {
        if (parent == nullptr) {
            root_ = Slot(child);
        } else {
            Nodes::set_slots(parent, slot, 1, child);
        }
    }
    [[nodiscard]] static std::size_t run_of(const Place& place, unsigned bits) noexcept {
        return std::size_t{1} << (place.above + place.parent->bits - bits);
    }

    /// The place of a hash's leaf, after the inner nodes above it, but not the leaf, were made this tree's own.
    [[nodiscard]] Place own_path(std::uint64_t hash) {
        if (!alone_.get() && ++alone_.writes > size_ / nodes_.leaf_capacity()) {
            alone_.writes = 0;
            alone_.set(usage().shared_blocks == 0);
        }
        const bool alone = alone_.get();
        Place place{.hash = hash};
        for (Node* node = Nodes::at(root_); node != nullptr && !node->is_leaf(); node = leaf_at(place)) {
            if (!alone && !node->count.unique()) {
                Node* const copy = nodes_.copy_inner(node, node->bits);
                count_copy<kOptions>(Nodes::slot_count(node) * sizeof(Slot));
                link(place.parent, place.slot, copy);
                nodes_.drop(node);
                node = copy;
            }
            const unsigned above = place.parent == nullptr ? 0 : place.above + place.parent->bits;
            place = {node, slot_of(hash, above, node), above, place.parent, place.slot, hash};
        }
        return place;
    }
    /// The leaf at a place, made this tree's own. Pre: there is a leaf.
    Node* own_leaf(const Place& place) {
        Node* const leaf = leaf_at(place);
        if (alone_.get() || leaf->count.unique()) return leaf;
        Node* const copy = nodes_.copy_leaf(leaf);
        put(place, leaf->bits, copy);
        nodes_.drop(leaf);
        return copy;
    }
    /// `entry` of the leaf at a place, after the leaf was made this tree's own. It is found by its index: a key that
    /// lies in the old leaf may be gone then.
    Entry* own_entry_at(const Place& place, const Entry* entry) {
        const std::ptrdiff_t index = entry - Nodes::entries(leaf_at(place));
        return Nodes::entries(own_leaf(place)) + index;
    }
    void add(Place& place, std::uint64_t hash, K key, V value) {
        Node* leaf = leaf_at(place);
        while (leaf != nullptr && leaf->used == leaf->capacity) {
            make_room(place, leaf);
            leaf = leaf_at(place);
        }
        if (leaf == nullptr) {
            const unsigned bits = empty_bits(place);
            leaf = nodes_.make_leaf(bits, nodes_.leaf_capacity());
            put(place, bits, leaf);
        } else {
            leaf = own_leaf(place);
        }
        append(leaf, hash, std::move(key), std::move(value));
    }
    void append(Node* leaf, std::uint64_t hash, K&& key, V&& value) {
        nodes_.append(leaf, Nodes::tag_of(hash), std::move(key), std::move(value));
        ++size_;
    }
    /// The bits of a leaf that takes up all the empty slots around the place.
    [[nodiscard]] unsigned empty_bits(const Place& place) const noexcept {
        if (place.parent == nullptr) return 0;
        unsigned bits = place.above + place.parent->bits;
        while (bits > place.above) {
            const std::size_t run = run_of(place, bits - 1);
            const Slot* const first = Nodes::slots(place.parent) + (place.slot & ~(run - 1));
            if (!std::all_of(first, first + run, [](const Slot& slot) { return slot == nullptr; })) break;
            --bits;
        }
        return bits;
    }

    /// One step towards room in a full leaf. A leaf that cannot be split becomes longer. Else it is split, after its
    /// parent has become wider or a new parent was put between, if need be.
    void make_room(Place& place, Node* leaf) {
        if (leaf->bits == Nodes::kHashBits) {
            Node* const longer =
                nodes_.copy_leaf(leaf, leaf->bits, leaf->capacity * 2, [](std::uint32_t) { return true; });
            put(place, leaf->bits, longer);
            nodes_.drop(leaf);
            return;
        }
        if (place.parent == nullptr || leaf->bits == place.above + place.parent->bits) make_slots(place, leaf);
        split(place, leaf);
    }
    /// Makes the leaf stand in at least two slots.
    void make_slots(Place& place, Node* leaf) {
        if (place.parent != nullptr && place.parent->bits < nodes_.most_bits(place.above)) {
            Node* const narrow = place.parent;
            Node* const wide = nodes_.make_inner(narrow->bits + 1);
            for (std::size_t i = 0; i < Nodes::slot_count(wide); ++i) {
                Nodes::set_slots(wide, i, 1, Nodes::at(Nodes::slots(narrow)[i / 2]));
            }
            link(place.grandparent, place.parent_slot, wide);
            nodes_.free_inner(narrow);
            place.parent = wide;
        } else {
            Node* const inner = nodes_.make_inner(1);
            Nodes::set_slots(inner, 0, 2, leaf);
            const unsigned above = place.parent == nullptr ? 0 : place.above + place.parent->bits;
            link(place.parent, place.slot, inner);
            place = {inner, 0, above, place.parent, place.slot, place.hash};
        }
        place.slot = slot_of(place.hash, place.above, place.parent);
    }
    /// Pre: the leaf stands in at least two slots of the parent.
    void split(const Place& place, Node* leaf) {
        std::array<std::uint64_t, BlockShape::kMostLeafBytes / 64> upper{};
        for (std::uint32_t i = 0; i < leaf->used; ++i) {
            const std::uint64_t bit =
                (hash_of(Nodes::entries(leaf)[i].key) >> (Nodes::kHashBits - 1 - leaf->bits)) & 1U;
            upper[i / 64] |= bit << (i % 64);
        }
        const auto is_upper = [&](std::uint32_t i) { return ((upper[i / 64] >> (i % 64)) & 1U) != 0; };
        const std::size_t run = run_of(place, leaf->bits);
        const std::size_t first = place.slot & ~(run - 1);
        const unsigned bits = leaf->bits + 1;
        const std::uint64_t upper_half = std::uint64_t{1} << (Nodes::kHashBits - bits);
        Node* const right = copy_some(leaf, bits, is_upper);
        if (leaf->count.unique() && std::is_nothrow_move_assignable_v<Entry>) {
            for (std::uint32_t i = leaf->used; i-- > 0;) {
                if (is_upper(i)) nodes_.remove(leaf, Nodes::entries(leaf) + i);
            }
            leaf->bits = static_cast<std::uint16_t>(bits);
            if (leaf->used == 0) {
                Nodes::set_slots(place.parent, first, run / 2, nullptr);
                set_shortcuts(place.hash & ~upper_half, bits, nullptr);
                nodes_.drop(leaf);
            } else {
                set_shortcuts(place.hash & ~upper_half, bits, leaf);
            }
        } else {
            Node* left = nullptr;
            try {
                left = copy_some(leaf, bits, [&](std::uint32_t i) { return !is_upper(i); });
            } catch (...) {
                nodes_.drop(right);
                throw;
            }
            count_copy<kOptions>(leaf->used * sizeof(Entry));
            Nodes::set_slots(place.parent, first, run / 2, left);
            set_shortcuts(place.hash & ~upper_half, bits, left);
            nodes_.drop(leaf);
        }
        Nodes::set_slots(place.parent, first + run / 2, run / 2, right);
        set_shortcuts(place.hash | upper_half, bits, right);
        grow_shortcuts();
    }
    /// A leaf with copies of the entries that are `chosen`; nullptr if there are none.
    template <class Chosen>
    [[nodiscard]] Node* copy_some(const Node* leaf, unsigned bits, Chosen&& chosen) {
        std::uint32_t i = 0;
        while (i < leaf->used && !chosen(i)) ++i;
        return i == leaf->used ? nullptr : nodes_.copy_leaf(leaf, bits, leaf->capacity, chosen);
    }

    /// Joins the leaf of a hash with its neighbours, after an entry was removed. True if there may be more to join one
    /// level higher. Pre: the path to the leaf is this tree's own.
    [[nodiscard]] bool join(std::uint64_t hash) noexcept {
        const Place place = own_path(hash);  // copies nothing
        Node* leaf = leaf_at(place);
        if (leaf != nullptr && leaf->used == 0) {
            put(place, leaf->bits, nullptr);
            nodes_.drop(std::exchange(leaf, nullptr));
        }
        if (place.parent == nullptr) return false;
        Slot* const slots = Nodes::slots(place.parent);
        if (leaf == nullptr) {
            const auto is_empty = [](const Slot& slot) { return slot == nullptr; };
            if (!std::all_of(slots, slots + Nodes::slot_count(place.parent), is_empty)) return false;
            link(place.grandparent, place.parent_slot, nullptr);
        } else {
            while (leaf->bits > place.above && join_neighbour(place, leaf)) continue;
            if (leaf->bits > place.above) return false;
            link(place.grandparent, place.parent_slot, leaf);
        }
        nodes_.free_inner(place.parent);
        return true;
    }
    /// Joins the leaf with its neighbour, whose slots differ in the leaf's last bit. False if they cannot be joined.
    [[nodiscard]] bool join_neighbour(const Place& place, Node* leaf) noexcept {
        const std::size_t run = run_of(place, leaf->bits);
        Slot* const first = Nodes::slots(place.parent) + ((place.slot & ~(run - 1)) ^ run);
        Node* const other = Nodes::at(*first);
        if (other == nullptr) {
            if (!std::all_of(first, first + run, [](const Slot& slot) { return slot == nullptr; })) return false;
        } else {
            if (!other->is_leaf() || other->bits != leaf->bits || !std::is_nothrow_move_constructible_v<Entry>)
                return false;
            if ((other->used + leaf->used) * 2 > leaf->capacity || !other->count.unique()) return false;
            for (std::uint32_t i = 0; i < other->used; ++i) {
                Entry& entry = Nodes::entries(other)[i];
                nodes_.append(leaf, Nodes::tags(other)[i], std::move(entry.key), std::move(entry.value));
            }
        }
        Nodes::set_slots(place.parent, (place.slot & ~(run - 1)) ^ run, run, leaf);
        --leaf->bits;
        set_shortcuts(place.hash, leaf->bits, leaf);
        nodes_.drop(other);
        return true;
    }

    // ---- shortcuts: a table from the first bits of a hash to its leaf, where all hashes with these bits have one leaf

    [[nodiscard]] std::size_t shortcut_of(std::uint64_t hash) const noexcept {
        return static_cast<std::size_t>(hash >> (Nodes::kHashBits - shortcut_bits_));
    }
    /// The leaf of a hash; nullptr where no shortcut leads to it.
    [[nodiscard]] Node* shortcut_to(std::uint64_t hash) const noexcept {
        return shortcut_bits_ == 0 ? nullptr : Nodes::at(std::to_address(shortcuts_)[shortcut_of(hash)]);
    }
    [[nodiscard]] std::size_t shortcut_bytes() const noexcept { return sizeof(Slot) << shortcut_bits_; }
    /// The size of a map past which the shortcuts are too few.
    [[nodiscard]] std::size_t shortcut_limit() const noexcept {
        return (nodes_.leaf_capacity() + std::size_t{1}) / 2 << shortcut_bits_;
    }
    void set_shortcuts(std::uint64_t hash, unsigned bits, Node* leaf) noexcept {
        if (shortcut_bits_ == 0) return;
        const bool is_one = bits <= shortcut_bits_;
        const std::size_t run = std::size_t{1} << (is_one ? shortcut_bits_ - bits : 0);
        std::fill_n(std::to_address(shortcuts_) + (shortcut_of(hash) & ~(run - 1)), run, Slot(is_one ? leaf : nullptr));
    }
    /// Makes shortcuts for a map that is large and has its blocks alone. Shortcuts are not shared, and making them for
    /// each version would cost more than they save. Where there is no memory for them, the map has none.
    void grow_shortcuts() noexcept {
        constexpr std::size_t kFewLeaves = 256;
        if (!alone_.get() || size_ <= std::max(shortcut_limit(), kFewLeaves * nodes_.leaf_capacity())) return;
        drop_shortcuts();
        const auto bits = static_cast<std::uint8_t>(std::bit_width(size_ * 4 / nodes_.leaf_capacity()));
        try {
            auto* const all = static_cast<Slot*>(nodes_.memory().allocate(sizeof(Slot) << bits));
            std::uninitialized_fill_n(all, std::size_t{1} << bits, Slot(nullptr));
            shortcuts_ = Shortcuts(all);
            shortcut_bits_ = bits;
        } catch (...) {
            return;
        }
        add_shortcuts(Nodes::at(root_), 0, 0);
    }
    void add_shortcuts(Node* node, unsigned above, std::uint64_t hash) noexcept {
        if (node == nullptr) return;
        if (node->is_leaf()) {
            set_shortcuts(hash, node->bits, node);
            return;
        }
        for (std::size_t i = 0; i < Nodes::slot_count(node);) {
            Node* const child = Nodes::at(Nodes::slots(node)[i]);
            add_shortcuts(child, above + node->bits,
                          hash | static_cast<std::uint64_t>(i) << (Nodes::kHashBits - above - node->bits));
            i += run_at(child, node, above, node->bits);
        }
    }
    void drop_shortcuts() noexcept {
        if (shortcut_bits_ == 0) return;
        nodes_.memory().deallocate(std::to_address(shortcuts_), shortcut_bytes());
        shortcuts_ = Shortcuts(nullptr);
        shortcut_bits_ = 0;
    }

    void replace_by(MapTree& other) noexcept {
        clear();
        take(other);
    }
    /// A copy of a node and all nodes below it, in this tree's memory.
    [[nodiscard]] Node* clone(const Node* node) {
        if (node->is_leaf()) return nodes_.copy_leaf(node);
        Node* const copy = nodes_.make_inner(node->bits);
        const Node* before = nullptr;
        for (std::size_t i = 0; i < Nodes::slot_count(node); ++i) {
            const Node* const child = Nodes::at(Nodes::slots(node)[i]);
            if (child != nullptr && child == before) {
                Nodes::set_slots(copy, i, 1, Nodes::at(Nodes::slots(copy)[i - 1]));
            } else if (child != nullptr) {
                try {
                    Nodes::set_slots(copy, i, 1, clone(child));
                } catch (...) {
                    nodes_.drop(copy);
                    throw;
                }
            }
            before = child;
        }
        return copy;
    }

    /// Visits what differs below two nodes that stand at the same place.
    template <class F>
    bool differ(const Node* a, const Node* b, unsigned above, F& visit) const {
        if (a == b) return true;
        if (a == nullptr || b == nullptr || a->is_leaf() || b->is_leaf()) return differ_as_sets(a, b, above, visit);
        const unsigned bits = std::max(a->bits, b->bits);
        for (std::size_t i = 0; i < std::size_t{1} << bits;) {
            const Node* const in_a = Nodes::at(Nodes::slots(a)[i >> (bits - a->bits)]);
            const Node* const in_b = Nodes::at(Nodes::slots(b)[i >> (bits - b->bits)]);
            const std::size_t run_a = run_at(in_a, a, above, bits);
            const std::size_t run_b = run_at(in_b, b, above, bits);
            const std::size_t run = std::max(run_a, run_b);
            const bool go_on = run_a == run_b ? differ(in_a, in_b, above + bits, visit)
                                              : differ_in_slots(a, b, above, i, i + run, visit);
            if (!go_on) return false;
            i += run;
        }
        return true;
    }
    /// In how many slots a child would stand if its parent had `bits` bits.
    [[nodiscard]] static std::size_t run_at(const Node* child, const Node* parent, unsigned above,
                                            unsigned bits) noexcept {
        const bool is_leaf = child != nullptr && child->is_leaf();
        return std::size_t{1} << (is_leaf ? above + bits - child->bits : bits - parent->bits);
    }
    /// Visits what differs in the slots from `first` to `last` of the wider node, where a leaf of one node stands
    /// beside several children of the other.
    template <class F>
    bool differ_in_slots(const Node* a, const Node* b, unsigned above, std::size_t first, std::size_t last,
                         F& visit) const {
        const unsigned bits = std::max(a->bits, b->bits);
        const auto each = [&](const Node* node, auto& entries) {
            const unsigned shift = bits - node->bits;
            return Nodes::for_each_child(node, first >> shift, ((last - 1) >> shift) + 1,
                                         [&](const Node* child) { return Nodes::for_each_entry(child, entries); });
        };
        auto in_a = in_first(b, above, visit);
        auto in_b = in_second(a, above, visit);
        return each(a, in_a) && each(b, in_b);
    }
    template <class F>
    bool differ_as_sets(const Node* a, const Node* b, unsigned above, F& visit) const {
        auto in_a = in_first(b, above, visit);
        auto in_b = in_second(a, above, visit);
        return Nodes::for_each_entry(a, in_a) && Nodes::for_each_entry(b, in_b);
    }
    /// The visitor of the first map's entries: compares each with the entry of the second map.
    template <class F>
    [[nodiscard]] auto in_first(const Node* second, unsigned above, F& visit) const {
        return [this, second, above, &visit](const Entry& mine) {
            const Entry* const theirs = find_below(second, above, hash_of(mine.key), mine.key);
            if (theirs != nullptr && theirs->value == mine.value) return true;
            return static_cast<bool>(visit(mine.key, &mine.value, theirs == nullptr ? nullptr : &theirs->value));
        };
    }
    /// The visitor of the second map's entries: finds those whose key the first map does not have.
    template <class F>
    [[nodiscard]] auto in_second(const Node* first, unsigned above, F& visit) const {
        return [this, first, above, &visit](const Entry& theirs) {
            if (find_below(first, above, hash_of(theirs.key), theirs.key) != nullptr) return true;
            return static_cast<bool>(visit(theirs.key, static_cast<const V*>(nullptr), &theirs.value));
        };
    }

    void count_blocks(const Node* node, bool shared, BlockUsage& usage) const noexcept {
        shared = shared || !node->count.unique();
        ++(node->is_leaf() ? usage.leaves : usage.inner_nodes);
        usage.bytes += nodes_.allocated_bytes(node);
        usage.shared_blocks += shared ? 1 : 0;
        if (node->is_leaf()) return;
        Nodes::for_each_child(node, 0, Nodes::slot_count(node), [&](const Node* child) {
            count_blocks(child, shared, usage);
            return true;
        });
    }

    Nodes nodes_;
    Slot root_ = Slot(nullptr);
    Shortcuts shortcuts_ = Shortcuts(nullptr);
    std::size_t size_ = 0;
    std::uint8_t shortcut_bits_ = 0;  ///< 0 where there are none
    AloneFlag<kOptions.sharing> alone_;
};

}  // namespace vmcow::heap::detail
