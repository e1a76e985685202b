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

#include "vmcow/heap/node_pool.hpp"
#include "vmcow/heap/sharing.hpp"

// What the block trees of this folder have in common: the size of their blocks, where those come from, and how one ends
// whose elements are such trees themselves.

namespace vmcow::heap {

/// How large the blocks of a tree are. It is chosen when the tree is made, and its copies have it, too.
struct BlockShape {
    static constexpr std::size_t kLeastLeafBytes = 8;
    static constexpr std::size_t kMostLeafBytes = 4096;
    static constexpr std::size_t kLeastFanOut = 4;
    static constexpr std::size_t kMostFanOut = 64;

    /// What a leaf holds in elements, besides 8 to 24 bytes of its own: a power of two.
    std::size_t leaf_bytes = 256;
    /// How many children an inner node has: a power of two; 0 is what suits the leaf.
    std::size_t fan_out = 0;

    bool operator==(const BlockShape&) const = default;

    /// The same with a fan-out. Throws: std::invalid_argument -- a size that is no power of two or out of range, or
    /// less than `element_bytes`.
    [[nodiscard]] BlockShape checked(std::size_t element_bytes) const {
        if (!std::has_single_bit(leaf_bytes) || leaf_bytes < kLeastLeafBytes || leaf_bytes > kMostLeafBytes) {
            throw std::invalid_argument("a leaf has 8, 16, 32 ... 4096 bytes");
        }
        if (element_bytes > leaf_bytes) throw std::invalid_argument("an element is larger than a leaf");
        // A path that is copied costs a leaf and an inner node per level: neither is to be much larger than the other.
        const std::size_t chosen =
            fan_out == 0 ? std::clamp(leaf_bytes / 32, std::size_t{16}, std::size_t{64}) : fan_out;
        if (!std::has_single_bit(chosen) || chosen < kLeastFanOut || chosen > kMostFanOut) {
            throw std::invalid_argument("an inner node has 4, 8, 16, 32 or 64 children");
        }
        return {leaf_bytes, chosen};
    }
};

/// What a tree consists of. Blocks that it shares with other trees, or with itself, count as often as they are reached.
struct BlockUsage {
    std::uint64_t leaves = 0;
    std::uint64_t inner_nodes = 0;
    std::uint64_t bytes = 0;          ///< of memory for these
    std::uint64_t shared_blocks = 0;  ///< leaves and inner nodes that have another handle than this tree's

    bool operator==(const BlockUsage&) const = default;
};

namespace detail {

template <class T>
[[nodiscard]] constexpr T rounded_up(T value, T multiple) noexcept {
    return (value + multiple - 1) / multiple * multiple;
}

/// Blocks of bytes from an allocator, whatever its pointers are: blocks point to each other by `Pointer`.
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
    /// Becomes a copy of the other one, also where allocators cannot be assigned.
    BlockMemory& operator=(const BlockMemory& other) noexcept {
        if (this == &other) return *this;
        std::destroy_at(&units_);
        std::construct_at(&units_, other.units_);
        return *this;
    }

    [[nodiscard]] Allocator allocator() const noexcept { return Allocator(units_); }
    /// What one takes gives back to the other.
    [[nodiscard]] bool operator==(const BlockMemory& other) const noexcept {
        if constexpr (kAlwaysEqual) {
            return true;
        } else {
            return units_ == other.units_;
        }
    }
    /// For a copy: of the same memory where a container's copy is to have it, too, even if it has asked for none yet.
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

    /// The same for a node, which comes from a pool where all allocators are equal.
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
    /// One for all types of elements.
    using Pool = NodePool<typename std::allocator_traits<Allocator>::template rebind_alloc<std::byte>>;
    static constexpr bool kPooled = kAlwaysEqual && kAlignment <= Pool::kAlignment;

    BlockMemory(Units chosen, int) noexcept : units_(std::move(chosen)) {}
    [[nodiscard]] static constexpr std::size_t units(std::size_t bytes) noexcept {
        return (bytes + sizeof(Unit) - 1) / sizeof(Unit);
    }

    [[no_unique_address]] Units units_;
};

/// Ends blocks one after the other whose elements hold blocks of the same type, however deep that goes, instead of one
/// within the other: the stack stays as it is.
///
/// `Block` has a member `next`, which is free to use once the block is about to end.
template <class Block, class Memory>
class EndingBlocks {
public:
    /// Calls `end_one(block)`, now or, where that is called within another one, after it.
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
    EndingBlocks* outer_;  ///< of blocks in other memory
    Block* waiting_ = nullptr;
};

/// Set while it is known that nobody else has any of an object's blocks: then a change need not look at their counts,
/// which would be a miss of the cache each. Copying clears it, in the original as well.
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
    /// Of a const object, too: several threads may copy one at the same time.
    void set(bool flag) const noexcept {
        if constexpr (kSharing == Sharing::threads) {
            flag_.store(flag, std::memory_order_relaxed);
        } else {
            flag_ = flag;
        }
    }

    std::size_t writes = 0;  ///< that found nothing to copy, or did, since the blocks were looked at

private:
    mutable std::conditional_t<kSharing == Sharing::threads, std::atomic<bool>, bool> flag_{true};
};

}  // namespace detail
}  // namespace vmcow::heap
