#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <unordered_map>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "vmcow/heap/block_array.hpp"

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

/// What `block_table::deduplicate` did.
struct Deduplicated {
    std::uint64_t blocks = 0;         ///< leaves looked at
    std::uint64_t shared_blocks = 0;  ///< of these, replaced by an equal one that the table had
    std::uint64_t shared_bytes = 0;   ///< of elements in these

    bool operator==(const Deduplicated&) const = default;
};

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
/// that it knows, so the first write to one copies it, until `purge`; leaves that only the table still has go by
/// themselves once they are as many as the others.
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
    static_assert(Nodes::Memory::kAlwaysEqual, "a table shares blocks between arrays whose memory is the same");

public:
    /// For arrays of this shape. Throws: std::invalid_argument -- see `BlockShape::checked`.
    explicit block_table(const BlockShape& shape = Array::default_shape(), const Allocator& allocator = Allocator())
        : nodes_(shape.checked(sizeof(T)), typename Nodes::Memory(allocator)) {}
    block_table(const block_table&) = delete;
    block_table& operator=(const block_table&) = delete;
    ~block_table() {
        for (const auto& [hash, leaf] : leaves_) nodes_.drop(leaf, 0);
    }

    /// Lets the array's leaves, but for the last one, be those of the table that are equal to them; the table learns
    /// the others. What the array holds does not change. Leaves that `since` has, too, are not looked at: an array that
    /// has been deduplicated already, of which this one is a later version. Throws: std::invalid_argument -- another
    /// shape; std::bad_alloc: part of it has been done. Cost:   hashes each leaf that it looks at.
    Deduplicated deduplicate(Array& array, const Array* since = nullptr) {
        if (array.shape() != nodes_.shape()) throw std::invalid_argument("an array whose blocks are of another shape");
        Deduplicated done;
        auto& root = Access::root(array);
        if (root == nullptr) return done;
        Access::changed(array);
        const bool comparable =
            since != nullptr && since->levels() == array.levels() && since->shape() == array.shape();
        const Node* const before = comparable ? Nodes::at(Access::root(*since)) : nullptr;
        Node* const node = Nodes::at(root);
        if (Node* const other = deduplicated(node, before, array.levels(), true, done)) {
            root = typename Nodes::Child(other);
            nodes_.drop(node, array.levels());
        }
        if (leaves_.size() > 2 * kept_ + kFew) purge();
        return done;
    }

    /// Forgets the leaves that no array has any more.
    void purge() noexcept {
        std::erase_if(leaves_, [this](const auto& known) {
            if (!known.second->count.unique()) return false;
            nodes_.drop(known.second, 0);
            return true;
        });
        kept_ = leaves_.size();
    }
    /// How many different leaves it knows.
    [[nodiscard]] std::size_t size() const noexcept { return leaves_.size(); }
    /// And what these take.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return leaves_.size() * nodes_.allocated_bytes(0); }

private:
    static constexpr std::size_t kFew = 1024;

    /// The node to take the place of this one, with a handle for the caller; nullptr if it may stay. `own`: nobody else
    /// has any of the nodes above.
    [[nodiscard]] Node* deduplicated(Node* node, const Node* since, unsigned level, bool own, Deduplicated& done) {
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
                nodes_.drop(Nodes::replace_child(mine, i, other), level - 1);
            }
        } catch (...) {
            if (mine != nullptr && !own) nodes_.drop(mine, level);
            throw;
        }
        return own ? nullptr : mine;
    }
    /// A copy of a node. Throws: the child that was to be put into it has ended.
    [[nodiscard]] Node* copy_for(const Node* node, Node* child, unsigned level) {
        try {
            return nodes_.copy_inner(node);
        } catch (...) {
            nodes_.drop(child, level - 1);
            throw;
        }
    }
    [[nodiscard]] Node* known_leaf(Node* leaf, Deduplicated& done) {
        ++done.blocks;
        const std::size_t bytes = nodes_.leaf_capacity() * sizeof(T);
        const std::uint64_t hash = XXH3_64bits(Nodes::elements(leaf), bytes);
        const auto [first, last] = leaves_.equal_range(hash);
        for (auto known = first; known != last; ++known) {
            if (known->second == leaf) return nullptr;
            if (std::memcmp(Nodes::elements(known->second), Nodes::elements(leaf), bytes) != 0) continue;
            known->second->count.add();
            ++done.shared_blocks;
            done.shared_bytes += bytes;
            return known->second;
        }
        leaves_.emplace(hash, leaf);
        leaf->count.add();
        return nullptr;
    }

    Nodes nodes_;
    std::unordered_multimap<std::uint64_t, Node*> leaves_;
    std::size_t kept_ = 0;
};

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
