#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_index.hpp"

namespace vmcow::heap {

namespace detail {

struct BlockAccess {
    template <class Array>
    static auto& nodes(Array& array) noexcept {
        return array.nodes_;
    }
    template <class Array>
    static auto& root(Array& array) noexcept {
        return array.root_;
    }
    /// The array's blocks are not what they were, and not its alone.
    template <class Array>
    static void changed(Array& array) noexcept {
        ++array.changes_;
        array.alone_.set(false);
    }
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): beside `block_array`.

/// Finds equal leaves by hash, in one array and in several, and lets all of them share one: what file systems call
/// deduplication.
///
///     block_table<long> table;
///     table.deduplicate(a);
///     auto b = load_again();                     // the same elements, in blocks of its own
///     table.deduplicate(b);                      // b has a's blocks now
///
/// Equal are leaves whose bytes are equal: the hash only says which to compare. The table keeps a handle of each leaf
/// that it knows, so that nothing in it changes: the first write to one copies it, until `purge`. Leaves that only the
/// table still has go by themselves once they are as many as the others.
///
/// Threads: one at a time, and as the arrays.
/// Source:  XXH3, xxhash.h; ZFS, which does so for its blocks.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class block_table {
    using Array = block_array<T, kOptions, Allocator>;
    using Nodes = detail::BlockNodes<T, kOptions, Allocator>;
    using Node = typename Nodes::Node;
    using Access = detail::BlockAccess;
    static_assert(Nodes::kPlain, "leaves are compared as bytes: their elements have to be bytes");

public:
    /// For arrays of this shape in this memory. Throws: std::invalid_argument -- see `BlockShape::checked`.
    explicit block_table(const BlockShape& shape = Array::default_shape(), const Allocator& allocator = Allocator())
        : index_(shape.checked(sizeof(T)), allocator) {}

    /// Lets the array's leaves, but for the last one, be those of the table that are equal to them; the table learns
    /// the others. What the array holds does not change. Leaves that `since` has, too, are not looked at: an array that
    /// has been deduplicated already, of which this one is a later version.
    /// Throws: std::invalid_argument -- another shape, or memory that is not the table's; what the allocator throws:
    ///         part of it has been done.
    /// Cost:   hashes each leaf that it looks at.
    Deduplicated deduplicate(Array& array, const Array* since = nullptr) {
        Nodes& nodes = index_.nodes();
        if (array.shape() != nodes.shape()) throw std::invalid_argument("an array whose blocks are of another shape");
        Deduplicated done;
        auto& root = Access::root(array);
        if (root == nullptr) return done;
        if (!(Access::nodes(array).memory() == nodes.memory())) {
            throw std::invalid_argument("an array whose blocks are in other memory");
        }
        Access::changed(array);
        const bool comparable =
            since != nullptr && since->levels() == array.levels() && since->shape() == array.shape();
        const Node* const before = comparable ? Nodes::at(Access::root(*since)) : nullptr;
        Node* const node = Nodes::at(root);
        if (Node* const other = deduplicated(node, before, array.levels(), true, done)) {
            root = typename Nodes::Child(other);
            nodes.drop(node, array.levels());
        }
        index_.purge_at_times();
        return done;
    }

    /// Forgets the leaves that no array has any more.
    void purge() noexcept { index_.purge(); }
    /// How many different leaves it knows.
    [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }
    /// And what these take.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return index_.bytes(); }

private:
    /// The node to take the place of this one, with a handle for the caller; nullptr if it may stay. `own`: nobody else
    /// has any of the nodes above.
    [[nodiscard]] Node* deduplicated(Node* node, const Node* since, unsigned level, bool own, Deduplicated& done) {
        Nodes& nodes = index_.nodes();
        if (node == since) return nullptr;
        if (level == 0) return known_leaf(node, done);
        own = own && node->count.unique();
        Node* mine = own ? node : nullptr;
        try {
            for (std::uint32_t i = 0; i < node->used; ++i) {
                Node* const child = Nodes::at(Nodes::children(node)[i]);
                const Node* const before =
                    since != nullptr && i < since->used ? Nodes::at(Nodes::children(since)[i]) : nullptr;
                Node* const other = deduplicated(child, before, level - 1, own, done);
                if (other == nullptr) continue;
                if (mine == nullptr) mine = copy_for(node, other, level);
                nodes.drop(Nodes::replace_child(mine, i, other), level - 1);
            }
        } catch (...) {
            if (mine != nullptr && !own) nodes.drop(mine, level);
            throw;
        }
        return own ? nullptr : mine;
    }
    /// A copy of a node. Throws: the child that was to be put into it has ended.
    [[nodiscard]] Node* copy_for(const Node* node, Node* child, unsigned level) {
        try {
            return index_.nodes().copy_inner(node);
        } catch (...) {
            index_.nodes().drop(child, level - 1);
            throw;
        }
    }
    [[nodiscard]] Node* known_leaf(Node* leaf, Deduplicated& done) {
        const std::size_t capacity = index_.nodes().leaf_capacity();
        const std::size_t bytes = capacity * sizeof(T);
        return index_.known(
            leaf, detail::hash_of_bytes(Nodes::elements(leaf), capacity), bytes,
            [&](const Node& other) { return std::memcmp(Nodes::elements(&other), Nodes::elements(leaf), bytes) == 0; },
            done);
    }

    detail::BlockIndex<Nodes, Allocator> index_;
};

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
