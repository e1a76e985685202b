#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "vmcow/heap/blocks/node_pool.hpp"
#include "vmcow/heap/sharing.hpp"

// What the block trees have in common: the size of their blocks, the memory of these, and how a tree ends whose
// elements are such trees themselves.

namespace vmcow::heap {

/// The size of the blocks of a tree. It is chosen when the tree is made; copies of the tree have the same shape.
struct BlockShape {
    static constexpr std::size_t kLeastLeafBytes = 8;
    static constexpr std::size_t kMostLeafBytes = 4096;
    static constexpr std::size_t kLeastFanOut = 4;
    static constexpr std::size_t kMostFanOut = 64;

    /// The bytes of elements in a leaf, a power of two. A leaf has 8 to 24 bytes besides.
    std::size_t leaf_bytes = 256;
    /// The largest number of children of an inner node, a power of two; 0 chooses one that suits `leaf_bytes`.
    std::size_t fan_out = 0;

    bool operator==(const BlockShape&) const = default;

    /// This shape with a fan-out that is not 0.
    /// Throws: std::invalid_argument -- a size is no power of two or out of range, or a leaf smaller than an element.
    [[nodiscard]] BlockShape checked(std::size_t element_bytes) const {
        if (!std::has_single_bit(leaf_bytes) || leaf_bytes < kLeastLeafBytes || leaf_bytes > kMostLeafBytes) {
            throw std::invalid_argument("a leaf has 8, 16, 32 ... 4096 bytes");
        }
        if (element_bytes > leaf_bytes) throw std::invalid_argument("an element is larger than a leaf");
        // Copying a path costs a leaf and an inner node per level: neither should be much larger than the other.
        const std::size_t chosen =
            fan_out == 0 ? std::clamp(leaf_bytes / 32, std::size_t{16}, std::size_t{64}) : fan_out;
        if (!std::has_single_bit(chosen) || chosen < kLeastFanOut || chosen > kMostFanOut) {
            throw std::invalid_argument("an inner node has 4, 8, 16, 32 or 64 children");
        }
        return {leaf_bytes, chosen};
    }
};

/// The blocks of a tree. A block that it shares with other trees, or with itself, counts as often as it is reached.
struct BlockUsage {
    std::uint64_t leaves = 0;
    std::uint64_t inner_nodes = 0;
    std::uint64_t bytes = 0;          ///< the memory of these blocks
    std::uint64_t shared_blocks = 0;  ///< leaves and inner nodes that this tree does not have alone

    bool operator==(const BlockUsage&) const = default;
};

namespace detail {

template <class T>
[[nodiscard]] constexpr T rounded_up(T value, T multiple) noexcept {
    return (value + multiple - 1) / multiple * multiple;
}

/// Blocks of bytes from an allocator of any pointer type: blocks point to each other by `Pointer`.
template <class Allocator, std::size_t kAlignment, Options kOptions>
class BlockMemory {
    struct alignas(kAlignment) Unit {
        std::byte bytes[kAlignment];
    };
    using Units = typename std::allocator_traits<Allocator>::template rebind_alloc<Unit>;
    using Traits = std::allocator_traits<Units>;

public:
    template <class B>
    using Pointer =
        typename std::pointer_traits<typename std::allocator_traits<Allocator>::void_pointer>::template rebind<B>;
    static constexpr bool kAlwaysEqual = Traits::is_always_equal::value;
    static constexpr bool kMovesAllocator = Traits::propagate_on_container_move_assignment::value;
    static constexpr bool kCopiesAllocator = Traits::propagate_on_container_copy_assignment::value;

    explicit BlockMemory(const Allocator& allocator) noexcept : units_(allocator) {}
    BlockMemory(const BlockMemory& other) noexcept = default;
    ~BlockMemory() = default;
    /// Becomes a copy of `other`, also where allocators cannot be assigned.
    BlockMemory& operator=(const BlockMemory& other) noexcept {
        if (this == &other) return *this;
        std::destroy_at(&units_);
        std::construct_at(&units_, other.units_);
        return *this;
    }

    [[nodiscard]] Allocator allocator() const noexcept { return Allocator(units_); }
    /// Whether memory that one has allocated can be given back to the other.
    [[nodiscard]] bool operator==(const BlockMemory& other) const noexcept {
        if constexpr (kAlwaysEqual) {
            return true;
        } else {
            return units_ == other.units_;
        }
    }
    /// The memory for a copy of a tree. It is this memory where the allocator chosen for a copy is equal, even if that
    /// one is still undecided.
    [[nodiscard]] BlockMemory for_copy() const noexcept {
        const BlockMemory chosen(Traits::select_on_container_copy_construction(units_), 0);
        return chosen == *this ? *this : chosen;
    }

    /// Throws: what the allocator throws.
    [[nodiscard]] void* allocate(std::size_t bytes) {
        const std::size_t count = units(bytes);
        void* const at = std::to_address(Traits::allocate(units_, count));
        count_allocation<kOptions>(count * sizeof(Unit));
        return at;
    }
    void deallocate(void* at, std::size_t bytes) noexcept {
        using UnitPointer = typename Traits::pointer;
        auto* const first = static_cast<Unit*>(at);
        Traits::deallocate(units_, std::pointer_traits<UnitPointer>::pointer_to(*first), units(bytes));
    }

    /// Allocates a node, from a pool where all allocators are equal. Throws: what the allocator throws.
    [[nodiscard]] NodePlace allocate_node(std::size_t bytes) {
        if constexpr (kPooled) {
            if (Pool::takes(bytes)) {
                const NodePlace node = Pool::allocate(units_, allocated_bytes(bytes));
                count_allocation<kOptions>(allocated_bytes(bytes));
                return node;
            }
        }
        return {allocate(bytes), 0};
    }
    void deallocate_node(NodePlace node, std::size_t bytes) noexcept {
        if constexpr (kPooled) {
            if (Pool::takes(bytes)) {
                Pool::deallocate(units_, node, allocated_bytes(bytes));
                return;
            }
        }
        deallocate(node.at, bytes);
    }
    [[nodiscard]] static constexpr std::size_t allocated_bytes(std::size_t bytes) noexcept {
        return units(bytes) * sizeof(Unit);
    }

private:
    /// One pool for all types of elements.
    using Pool = NodePool<typename std::allocator_traits<Allocator>::template rebind_alloc<std::byte>>;
    static constexpr bool kPooled = kAlwaysEqual && kAlignment <= Pool::kAlignment;

    BlockMemory(Units chosen, int) noexcept : units_(std::move(chosen)) {}
    [[nodiscard]] static constexpr std::size_t units(std::size_t bytes) noexcept {
        return (bytes + sizeof(Unit) - 1) / sizeof(Unit);
    }

    [[no_unique_address]] Units units_;
};

/// Ends blocks whose elements hold blocks of the same type, to any depth: one block after the other instead of one
/// within the other, so that the stack does not grow.
///
/// `Block` has a member `next`, which may be used once the block is about to end.
template <class Block, class Memory>
class EndingBlocks {
public:
    /// Calls `end_one(block)`: now, or, where this call is within another `end_one` of equal memory, after that one.
    template <class EndOne>
    static void end(Block* block, const Memory& memory, EndOne&& end_one) noexcept {
        EndingBlocks*& current = innermost();
        for (EndingBlocks* ending = current; ending != nullptr; ending = ending->outer_) {
            if (!(ending->memory_ == memory)) continue;
            block->next = std::exchange(ending->waiting_, block);
            return;
        }
        EndingBlocks mine(memory, current);
        current = &mine;
        end_one(block);
        while (mine.waiting_ != nullptr) {
            Block* const next = mine.waiting_;
            mine.waiting_ = next->next;
            end_one(next);
        }
        current = mine.outer_;
    }

private:
    EndingBlocks(const Memory& memory, EndingBlocks* outer) noexcept : memory_(memory), outer_(outer) {}
    static EndingBlocks*& innermost() noexcept {
        thread_local EndingBlocks* current = nullptr;
        return current;
    }

    const Memory& memory_;
    EndingBlocks* outer_;  ///< ends blocks in other memory
    Block* waiting_ = nullptr;
};

/// Set while it is known that no other tree has any of a tree's blocks: then a change need not look at their counts,
/// each of which would be a cache miss. Copying clears it, in the original as well.
template <Sharing kSharing>
class AloneFlag {
public:
    AloneFlag() = default;
    AloneFlag(const AloneFlag&) = delete;
    AloneFlag& operator=(const AloneFlag&) = delete;
    [[nodiscard]] bool get() const noexcept {
        if constexpr (kSharing == Sharing::threads) {
            return flag_.load(std::memory_order_relaxed);
        } else {
            return flag_;
        }
    }
    /// Const, because copying a tree clears its flag; several threads may copy one tree at the same time.
    void set(bool flag) const noexcept {
        if constexpr (kSharing == Sharing::threads) {
            flag_.store(flag, std::memory_order_relaxed);
        } else {
            flag_ = flag;
        }
    }

    std::size_t writes = 0;  ///< changes since all blocks were last looked at

private:
    mutable std::conditional_t<kSharing == Sharing::threads, std::atomic<bool>, bool> flag_{true};
};

}  // namespace detail
}  // namespace vmcow::heap
