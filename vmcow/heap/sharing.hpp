#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

// What all structures of this folder have in common: how a block counts the handles that share it, and what is counted
// of the copies that writing to shared blocks costs.

namespace vmcow::heap {

/// Who may hold handles of one block at the same time.
enum class Sharing : std::uint8_t {
    one_thread,  ///< handles of a block stay in one thread: counting is a plain increment
    threads,     ///< any thread: counting is atomic; each single handle is still for one thread at a time
};

/// The options of a type, as in `list<int, Options{.counted = true}>`.
struct Options {
    Sharing sharing = Sharing::one_thread;
    /// Copies and allocations are counted in `counters()`; costs an increment each, and nothing where it is off.
    bool counted = false;
};

/// What structures with `Options::counted` did in this thread. Only copies that copy-on-write makes count: not an
/// element that is put in, nor one that moves when a unique buffer grows.
struct Counters {
    std::uint64_t copies = 0;           ///< blocks or buffers copied because somebody else shares them
    std::uint64_t copied_bytes = 0;     ///< bytes of elements in these, and of pointers in a tree's inner nodes
    std::uint64_t allocations = 0;      ///< blocks and buffers allocated, copies among them
    std::uint64_t allocated_bytes = 0;  ///< what was asked of the allocator for these

    bool operator==(const Counters&) const = default;
};

/// Of the calling thread; assign `{}` to begin anew.
[[nodiscard]] inline Counters& counters() noexcept {
    thread_local Counters counted;
    return counted;
}

/// How many handles share a block; starts with one.
///
/// Threads: with Sharing::threads, `add` and `drop` from any thread that has a handle. Whoever drops the last one, or
///          finds itself unique, sees all that the others have done with the block.
template <Sharing kSharing>
class HandleCount {
public:
    void add() noexcept {
        if constexpr (kSharing == Sharing::threads) {
            count_.fetch_add(1, std::memory_order_relaxed);
        } else {
            ++count_;
        }
    }
    /// True when that was the last one.
    [[nodiscard]] bool drop() noexcept {
        if constexpr (kSharing == Sharing::threads) {
            // The only handle: nobody can add another one meanwhile, and an atomic decrement costs ten times a load.
            if (count_.load(std::memory_order_acquire) == 1) return true;
            return count_.fetch_sub(1, std::memory_order_acq_rel) == 1;
        } else {
            return --count_ == 0;
        }
    }
    [[nodiscard]] bool unique() const noexcept {
        if constexpr (kSharing == Sharing::threads) {
            return count_.load(std::memory_order_acquire) == 1;
        } else {
            return count_ == 1;
        }
    }

private:
    using Count = std::conditional_t<kSharing == Sharing::threads, std::atomic<std::uint32_t>, std::uint32_t>;
    Count count_{1};
};

/// Counts an allocation, and a copy, where the options ask for it.
template <Options kOptions>
void count_allocation(std::uint64_t bytes) noexcept {
    if constexpr (kOptions.counted) {
        ++counters().allocations;
        counters().allocated_bytes += bytes;
    }
}
template <Options kOptions>
void count_copy(std::uint64_t bytes) noexcept {
    if constexpr (kOptions.counted) {
        ++counters().copies;
        counters().copied_bytes += bytes;
    }
}

}  // namespace vmcow::heap
