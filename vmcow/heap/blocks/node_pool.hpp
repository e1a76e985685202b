#pragma once

#include <pthread.h>
#include <sys/single_threaded.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <type_traits>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

// The memory for nodes of trees whose allocators are all equal.

namespace vmcow::heap::detail {

/// Memory for a node.
struct NodePlace {
    void* at = nullptr;
    std::uint16_t place = 0;  ///< the number of the node in its chunk, which is needed to give it back
};

/// Hands out nodes from chunks of 32 KiB, each with nodes of one size. malloc takes 8 bytes before each block and
/// rounds the block up, which is an eighth of a small leaf; a node from here takes what was asked for.
///
///     chunk | header | node 0 | node 1 | node 2 …            a node remembers its number, and so finds the chunk
///
/// Chunks come from an allocator type whose objects are all equal. A chunk is given back when none of its nodes is in
/// use, except for one chunk of each size, which is kept for later nodes.
///
/// Threads:    any. Each thread takes nodes from a shard of its own, as long as there are no more threads than shards,
///             and gives a node back to the shard that it came from.
/// After fork: works, since fork(2) waits until no other thread is in the pool.
template <class Allocator>
class NodePool {
public:
    static constexpr std::size_t kChunkBytes = std::size_t{32} << 10;
    static constexpr std::size_t kMostNodeBytes = 1024;
    static constexpr std::size_t kAlignment = alignof(std::max_align_t);

    /// Larger nodes come from the allocator, whose overhead is small for them.
    [[nodiscard]] static constexpr bool takes(std::size_t node_bytes) noexcept { return node_bytes <= kMostNodeBytes; }

    /// Pre: `node_bytes` is a multiple of 8. Throws: what the allocator throws.
    [[nodiscard]] static NodePlace allocate(const Allocator& allocator, std::size_t node_bytes) {
        static_cast<void>(kHeldAtFork);
        Shard& shard = shard_of_this_thread();
        Chunk*& roomy = shard.roomy[node_bytes / kStep];
        {
            const Lock lock(shard.mutex);
            if (roomy != nullptr) [[likely]]
                return take_first(roomy, node_bytes);
        }
        Chunk* const made = make_chunk(allocator, shard, node_bytes);
        const Lock lock(shard.mutex);
        put_first(roomy, made);
        return take_first(roomy, node_bytes);
    }
    static void deallocate(const Allocator& allocator, NodePlace node, std::size_t node_bytes) noexcept {
        Chunk* const chunk = chunk_of(node, node_bytes);
        Shard& shard = *chunk->shard;
        Chunk*& roomy = shard.roomy[node_bytes / kStep];
        {
            const Lock lock(shard.mutex);
            if (chunk->used == chunk->capacity) put_first(roomy, chunk);
            if (--chunk->used > 0) {
                put_back(*chunk, node, node_bytes);
                return;
            }
            if (roomy == chunk && chunk->next == nullptr) {
                forget_nodes(*chunk);
                return;
            }
            take_out(roomy, chunk);
        }
        end_chunk(allocator, chunk);
    }

private:
    static constexpr std::size_t kStep = 8;
#ifdef __SANITIZE_THREAD__
    // The sanitizer can track 64 locks that are held at once, and a fork holds the locks of all pools.
    static constexpr std::size_t kShards = 1;
#else
    static constexpr std::size_t kShards = 16;
#endif
    static constexpr std::uint16_t kNone = 0xffff;

    struct Shard;
    struct alignas(kAlignment) Chunk {
        Shard* shard = nullptr;
        Chunk* next = nullptr;  ///< the next chunk with room for nodes of this size
        Chunk* before = nullptr;
        std::uint16_t capacity = 0;
        std::uint16_t used = 0;
        std::uint16_t touched = 0;         ///< nodes from this number on were not used since the chunk was empty
        std::uint16_t first_free = kNone;  ///< a free node below `touched`; it begins with the number of the next one
    };
    struct alignas(kAlignment) Unit {
        std::byte bytes[kAlignment];
    };
    using Units = typename std::allocator_traits<Allocator>::template rebind_alloc<Unit>;
    using Traits = std::allocator_traits<Units>;
    using UnitPointer = typename Traits::pointer;
    // The allocator's own header has to fit into the 32 KiB, too.
    static constexpr std::size_t kUnits = (kChunkBytes - kAlignment) / sizeof(Unit);

    /// The chunks of some of the threads. Each shard has at least a cache line to itself.
    struct alignas(64) Shard {
        std::mutex mutex;
        std::array<Chunk*, kMostNodeBytes / kStep + 1> roomy{};  ///< by size: the chunks that have room
    };
    static_assert(std::is_trivially_destructible_v<Shard>, "structures may end after all static objects have ended");

    /// Locks a mutex in a process with several threads; with one thread there is nothing to wait for.
    class Lock {
    public:
        explicit Lock(std::mutex& mutex) : mutex_(__libc_single_threaded != 0 ? nullptr : &mutex) {
            if (mutex_ != nullptr) mutex_->lock();
        }
        Lock(const Lock&) = delete;
        Lock& operator=(const Lock&) = delete;
        ~Lock() {
            if (mutex_ != nullptr) mutex_->unlock();
        }

    private:
        std::mutex* mutex_;
    };

    [[nodiscard]] static std::byte* node_at(Chunk& chunk, std::size_t place, std::size_t node_bytes) noexcept {
        return reinterpret_cast<std::byte*>(&chunk) + sizeof(Chunk) + place * node_bytes;
    }
    [[nodiscard]] static Chunk* chunk_of(const NodePlace& node, std::size_t node_bytes) noexcept {
        return reinterpret_cast<Chunk*>(static_cast<std::byte*>(node.at) - node.place * node_bytes - sizeof(Chunk));
    }

    /// Takes a node from the first chunk with room.
    [[nodiscard]] static NodePlace take_first(Chunk*& roomy, std::size_t node_bytes) noexcept {
        Chunk* const chunk = roomy;
        const NodePlace taken = take(*chunk, node_bytes);
        if (++chunk->used == chunk->capacity) take_out(roomy, chunk);
        return taken;
    }
    [[nodiscard]] static NodePlace take(Chunk& chunk, std::size_t node_bytes) noexcept {
        const bool fresh = chunk.first_free == kNone;
        const std::uint16_t place = fresh ? chunk.touched++ : chunk.first_free;
        std::byte* const node = node_at(chunk, place, node_bytes);
        may_be_used(node, node_bytes);
        if (!fresh) chunk.first_free = *reinterpret_cast<std::uint16_t*>(node);
        return {node, place};
    }
    static void put_back(Chunk& chunk, const NodePlace& node, std::size_t node_bytes) noexcept {
        new (node.at) std::uint16_t(chunk.first_free);
        chunk.first_free = node.place;
        may_not_be_used(static_cast<std::byte*>(node.at), node_bytes);
    }
    /// Makes an empty chunk hand its nodes out in order again.
    static void forget_nodes(Chunk& chunk) noexcept {
        may_be_used(reinterpret_cast<std::byte*>(&chunk), kUnits * sizeof(Unit));
        chunk.touched = 0;
        chunk.first_free = kNone;
    }

    static void put_first(Chunk*& list, Chunk* chunk) noexcept {
        chunk->before = nullptr;
        chunk->next = list;
        if (list != nullptr) list->before = chunk;
        list = chunk;
    }
    static void take_out(Chunk*& list, Chunk* chunk) noexcept {
        (chunk->before == nullptr ? list : chunk->before->next) = chunk->next;
        if (chunk->next != nullptr) chunk->next->before = chunk->before;
    }

    [[nodiscard]] static Chunk* make_chunk(const Allocator& allocator, Shard& shard, std::size_t node_bytes) {
        Units units(allocator);
        auto* const chunk = new (static_cast<void*>(std::to_address(Traits::allocate(units, kUnits)))) Chunk;
        chunk->shard = &shard;
        chunk->capacity = static_cast<std::uint16_t>((kUnits * sizeof(Unit) - sizeof(Chunk)) / node_bytes);
        return chunk;
    }
    static void end_chunk(const Allocator& allocator, Chunk* chunk) noexcept {
        forget_nodes(*chunk);
        Units units(allocator);
        auto* const first = static_cast<Unit*>(static_cast<void*>(chunk));
        Traits::deallocate(units, std::pointer_traits<UnitPointer>::pointer_to(*first), kUnits);
    }

    [[nodiscard]] static Shard& shard_of_this_thread() noexcept {
        constinit static std::atomic<unsigned> threads = 0;
        constinit thread_local unsigned mine = 0;  // 0: not yet known
        if (mine == 0) mine = threads.fetch_add(1, std::memory_order_relaxed) % kShards + 1;
        return shards[mine - 1];
    }
    static void lock_all() noexcept {
        for (Shard& shard : shards) shard.mutex.lock();
    }
    static void unlock_all() noexcept {
        for (Shard& shard : shards) shard.mutex.unlock();
    }

    /// Makes the address sanitizer report a use of a node that was given back.
    static void may_not_be_used([[maybe_unused]] std::byte* node, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef __SANITIZE_ADDRESS__
        __asan_poison_memory_region(node, bytes);
#endif
    }
    static void may_be_used([[maybe_unused]] std::byte* node, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(node, bytes);
#endif
    }

    constinit inline static std::array<Shard, kShards> shards{};
    /// Registers the fork handlers before there are threads: a fork between the first lock and a later registration
    /// would leave the lock held in the child.
    inline static const int kHeldAtFork = ::pthread_atfork(lock_all, unlock_all, unlock_all);
};

}  // namespace vmcow::heap::detail
