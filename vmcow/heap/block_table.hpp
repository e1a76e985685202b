#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/blocks/block_index.hpp"

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
    /// Notes that the array's blocks are about to be replaced, and may be shared.
    template <class Array>
    static void changed(Array& array) noexcept {
        ++array.changes_;
        array.alone_.set(false);
    }
};

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): beside `block_array`.

/// Finds equal leaves by hash, in one array and in several, and lets all of them share one block, as file systems do
/// with deduplication.
///
///     block_table<long> table;
///     table.deduplicate(a);
///     auto b = load_again();                     // the same elements, in blocks of its own
///     table.deduplicate(b);                      // b has a's blocks now
///
/// Two leaves are equal if their bytes are: the hash only finds the leaves to compare. The table keeps a handle of each
/// leaf that it knows, so that the leaf does not change: the first write to it copies it, until `purge`. The table
/// forgets leaves that no array has any more when they are as many as the others.
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

    /// Replaces leaves of the array, except the last one, by equal leaves of the table; the table adds the array's
    /// other leaves. The elements of the array do not change. `since` may be an array that has been deduplicated
    /// already, of which this one is a later version: leaves that both have are not looked at.
    /// Throws: std::invalid_argument -- the array has another shape or another allocator than the table; what the
    ///         allocator throws: some leaves have been replaced then.
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
    /// How many different leaves the table knows.
    [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }
    /// The memory of the leaves that the table knows.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return index_.bytes(); }

private:
    /// The node that is to replace this one, with a handle for the caller; nullptr if the node may stay. `own` says
    /// that no other array has any of the nodes above.
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
    /// A copy of a node, to put `child` into.
    /// Throws: what the allocator throws; the caller's handle of `child` is gone.
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
