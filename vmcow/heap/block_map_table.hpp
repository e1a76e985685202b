#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>

#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/blocks/block_index.hpp"

namespace vmcow::heap {

namespace detail {

struct MapAccess {
    template <class Map>
    static auto& tree(Map& map) noexcept {
        return map.tree_;
    }
    template <class Tree>
    static auto& root(Tree& tree) noexcept {
        return tree.root_;
    }
    template <class Node, class Tree>
    [[nodiscard]] static std::size_t run_of(const Tree&, const Node* child, const Node* parent,
                                            unsigned above) noexcept {
        return Tree::run_at(child, parent, above, parent->bits);
    }
    /// Notes that the map's blocks are about to be replaced, and may be shared.
    template <class Map>
    static void changed(Map& map) noexcept {
        ++map.changes_;
        map.tree_.alone_.set(false);
    }
    /// Makes the shortcuts lead to the leaves that the tree has now.
    template <class Tree>
    static void renew_shortcuts(Tree& tree) noexcept {
        if (tree.shortcut_bits_ != 0) tree.add_shortcuts(Tree::Nodes::at(tree.root_), 0, 0);
    }
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): beside `block_map`.

/// Finds equal leaves of several maps by hash, and lets all of them share one, as `block_table` does for arrays.
///
///     block_map_table<long, long> table;
///     table.deduplicate(a);
///     auto b = load_again();                     // the same entries, in blocks of its own
///     table.deduplicate(b);                      // b has a's blocks now
///
/// Two leaves are equal if they have the same entries, byte for byte and in any order, for the same first bits of their
/// keys' hashes. So two leaves of one map are never equal, and leaves of two maps are equal only where the maps have
/// split alike: equal maps that shrank differently share less. The table keeps a handle of each leaf that it knows, so
/// that the leaf does not change: the first write to it copies it, until `purge`. The table forgets leaves that no map
/// has any more when they are as many as the others.
///
/// Threads: one at a time, and as the maps.
template <class K, class V, Options kOptions = Options{}, class Hash = std::hash<K>, class Equal = std::equal_to<K>,
          class Allocator = std::allocator<MapEntry<K, V>>>
class block_map_table {
    using Map = block_map<K, V, kOptions, Hash, Equal, Allocator>;
    using Nodes = detail::MapNodes<K, V, kOptions, Allocator>;
    using Node = typename Nodes::Node;
    using Entry = typename Nodes::Entry;
    using Access = detail::MapAccess;
    static_assert(Nodes::kPlain, "entries are compared as bytes: keys and values have to be bytes");

public:
    /// For maps of this shape in this memory. Throws: std::invalid_argument -- see `BlockShape::checked`.
    explicit block_map_table(const BlockShape& shape = Map::default_shape(), const Allocator& allocator = Allocator())
        : index_(Map::checked_shape(shape), allocator) {}

    /// Replaces leaves of the map by equal leaves of the table; the table adds the map's other leaves. The entries of
    /// the map do not change, but its iterators are those of a changed map. `since` may be a map that has been
    /// deduplicated already, of which this one is a later version: leaves that both have are not looked at.
    /// Throws: std::invalid_argument -- the map has another shape or another allocator than the table; what the
    ///         allocator throws: some leaves have been replaced then.
    /// Cost:   hashes each entry of the leaves that it looks at.
    Deduplicated deduplicate(Map& map, const Map* since = nullptr) {
        auto& tree = Access::tree(map);
        if (map.shape() != index_.nodes().shape())
            throw std::invalid_argument("a map whose blocks are of another shape");
        Deduplicated done;
        auto& root = Access::root(tree);
        if (root == nullptr) return done;
        if (!(tree.memory() == index_.nodes().memory())) {
            throw std::invalid_argument("a map whose blocks are in other memory");
        }
        Access::changed(map);
        const Node* const before =
            since == nullptr || since->shape() != map.shape() ? nullptr : Nodes::at(Access::root(Access::tree(*since)));
        Node* const node = Nodes::at(root);
        try {
            if (Node* const other = deduplicated(node, before, {.tree = tree}, done)) {
                root = typename Nodes::Slot(other);
                index_.nodes().drop(node);
            }
        } catch (...) {
            Access::renew_shortcuts(tree);
            throw;
        }
        if (done.shared_blocks > 0) Access::renew_shortcuts(tree);
        index_.purge_at_times();
        return done;
    }

    /// Forgets the leaves that no map has any more.
    void purge() noexcept { index_.purge(); }
    /// How many different leaves the table knows.
    [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }
    /// The memory of the leaves that the table knows.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return index_.bytes(); }

private:
    using Tree = std::remove_reference_t<decltype(Access::tree(std::declval<Map&>()))>;
    /// Where in a tree a node stands.
    struct Way {
        const Tree& tree;
        unsigned above = 0;  ///< the bits of the hash that the nodes above have used
        bool own = true;     ///< no other map has any of the nodes above
    };

    /// The node that is to replace this one, with a handle for the caller; nullptr if the node may stay.
    [[nodiscard]] Node* deduplicated(Node* node, const Node* since, const Way& way, Deduplicated& done) {
        if (node == nullptr || node == since) return nullptr;
        if (node->is_leaf()) return known_leaf(node, done);
        const bool own = way.own && node->count.unique();
        const bool comparable = since != nullptr && !since->is_leaf() && since->bits == node->bits;
        Node* mine = own ? node : nullptr;
        try {
            for (std::size_t i = 0; i < Nodes::slot_count(node);) {
                Node* const child = Nodes::at(Nodes::slots(node)[i]);
                const Node* const before = comparable ? Nodes::at(Nodes::slots(since)[i]) : nullptr;
                const std::size_t run = Access::run_of(way.tree, child, node, way.above);
                if (Node* const other = deduplicated(child, before, {way.tree, way.above + node->bits, own}, done)) {
                    if (mine == nullptr) mine = copy_for(node, other);
                    Nodes::set_slots(mine, i, run, other);
                    index_.nodes().drop(child);
                }
                i += run;
            }
        } catch (...) {
            if (mine != nullptr && !own) index_.nodes().drop(mine);
            throw;
        }
        return own ? nullptr : mine;
    }
    /// A copy of a node, to put `child` into.
    /// Throws: what the allocator throws; the caller's handle of `child` is gone.
    [[nodiscard]] Node* copy_for(const Node* node, Node* child) {
        try {
            Node* const copy = index_.nodes().copy_inner(node, node->bits);
            count_copy<kOptions>(Nodes::slot_count(node) * sizeof(typename Nodes::Slot));
            return copy;
        } catch (...) {
            index_.nodes().drop(child);
            throw;
        }
    }

    [[nodiscard]] Node* known_leaf(Node* leaf, Deduplicated& done) {
        // A sum, so that the order does not matter. Key and value are hashed apart: padding between them is undefined.
        std::uint64_t hash = 0;
        const Entry* const entries = Nodes::entries(leaf);
        for (std::uint32_t i = 0; i < leaf->used; ++i) {
            hash += detail::hash_of_bytes(&entries[i].value, 1, detail::hash_of_bytes(&entries[i].key, 1));
        }
        return index_.known(
            leaf, hash, leaf->used * sizeof(Entry), [&](const Node& other) { return same_entries(leaf, &other); },
            done);
    }
    [[nodiscard]] static bool same_entries(const Node* a, const Node* b) noexcept {
        if (a->used != b->used || a->bits != b->bits || a->capacity != b->capacity) return false;
        for (std::uint32_t i = 0; i < a->used; ++i) {
            const Entry& mine = Nodes::entries(a)[i];
            const auto is_same = [&](const Entry& theirs) {
                return std::memcmp(&mine.key, &theirs.key, sizeof(K)) == 0 &&
                       std::memcmp(&mine.value, &theirs.value, sizeof(V)) == 0;
            };
            if (Nodes::find(b, Nodes::tags(a)[i], is_same) == nullptr) return false;
        }
        return true;
    }

    detail::BlockIndex<Nodes, Allocator> index_;
};

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
