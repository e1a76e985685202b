#pragma once

#include <boost/unordered_map.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "vmcow/heap/blocks/block_memory.hpp"

// What the tables of arrays and of maps have in common: finding equal blocks by hash.

namespace vmcow::heap {

/// What a call of `deduplicate` did.
struct Deduplicated {
    std::uint64_t blocks = 0;         ///< leaves looked at
    std::uint64_t shared_blocks = 0;  ///< leaves that were replaced by an equal one of the table
    std::uint64_t shared_bytes = 0;   ///< bytes of the elements in these leaves

    bool operator==(const Deduplicated&) const = default;
};

namespace detail {

template <class T>
[[nodiscard]] std::uint64_t hash_of_bytes(const T* objects, std::size_t count, std::uint64_t seed = 0) noexcept {
    return XXH3_64bits_withSeed(objects, count * sizeof(T), seed);
}

/// The different leaves that a table knows, by the hash of their content. The index has a handle of each leaf, and
/// takes its memory from the allocator of the leaves.
template <class Nodes, class Allocator>
class BlockIndex {
    using Node = typename Nodes::Node;
    using Pointer = typename Nodes::Memory::template Pointer<Node>;
    struct AsItIs {
        std::size_t operator()(std::uint64_t hash) const noexcept { return static_cast<std::size_t>(hash); }
    };
    using Entry = std::pair<const std::uint64_t, Pointer>;
    using Leaves = boost::unordered_multimap<std::uint64_t, Pointer, AsItIs, std::equal_to<>,
                                             typename std::allocator_traits<Allocator>::template rebind_alloc<Entry>>;

public:
    BlockIndex(const BlockShape& checked, const Allocator& allocator)
        : nodes_(checked, typename Nodes::Memory(allocator)), leaves_(typename Leaves::allocator_type(allocator)) {}
    BlockIndex(const BlockIndex&) = delete;
    BlockIndex& operator=(const BlockIndex&) = delete;
    ~BlockIndex() {
        for (const auto& [hash, leaf] : leaves_) nodes_.drop_leaf(Nodes::at(leaf));
    }

    [[nodiscard]] Nodes& nodes() noexcept { return nodes_; }
    [[nodiscard]] const Nodes& nodes() const noexcept { return nodes_; }
    [[nodiscard]] std::size_t size() const noexcept { return leaves_.size(); }
    /// The memory of the leaves.
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        std::uint64_t all = 0;
        for (const auto& [hash, leaf] : leaves_) all += nodes_.allocated_leaf_bytes(Nodes::at(leaf));
        return all;
    }

    /// The leaf that is to replace `leaf`, with a handle for the caller: a known leaf of this hash for which
    /// `is_equal(other)`. nullptr if `leaf` may stay; it is a known leaf then. `bytes` is the size of its elements.
    /// Throws: what the allocator throws; nothing has changed.
    template <class IsEqual>
    [[nodiscard]] Node* known(Node* leaf, std::uint64_t hash, std::uint64_t bytes, const IsEqual& is_equal,
                              Deduplicated& done) {
        ++done.blocks;
        const auto [first, last] = leaves_.equal_range(hash);
        for (auto each = first; each != last; ++each) {
            Node* const other = Nodes::at(each->second);
            if (other == leaf) return nullptr;
            if (!is_equal(*other)) continue;
            other->count.add();
            ++done.shared_blocks;
            done.shared_bytes += bytes;
            return other;
        }
        leaves_.emplace(hash, Pointer(leaf));
        leaf->count.add();
        return nullptr;
    }

    /// Forgets the leaves of which the index has the only handle.
    void purge() noexcept {
        for (auto at = leaves_.begin(); at != leaves_.end();) {
            Node* const leaf = Nodes::at(at->second);
            if (leaf->count.unique()) {
                at = leaves_.erase(at);
                nodes_.drop_leaf(leaf);
            } else {
                ++at;
            }
        }
        kept_ = leaves_.size();
    }
    /// Does `purge` if the leaves to forget may be as many as the others.
    void purge_at_times() noexcept {
        if (leaves_.size() > 2 * kept_ + kFew) purge();
    }

private:
    static constexpr std::size_t kFew = 1024;

    Nodes nodes_;
    Leaves leaves_;
    std::size_t kept_ = 0;  ///< the leaves that were left after the last purge
};

}  // namespace detail
}  // namespace vmcow::heap
