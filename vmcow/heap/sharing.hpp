#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <utility>

// What all structures of this folder have in common: the count of the handles that share a block, and the counters of
// the copies that writing to shared blocks costs.

namespace vmcow::heap {

namespace detail {

/// Checks the trees of blocks in tests (tests/vmcow/heap/check_tree.hpp).
class TreeCheck;

}  // namespace detail

/// Which threads may hold handles of one block at the same time.
enum class Sharing : std::uint8_t {
    one_thread,  ///< only one thread: counting is a plain increment
    threads,     ///< any threads: counting is atomic; a single handle is still for one thread at a time
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
    std::uint64_t copies = 0;           ///< blocks or buffers copied because another handle shares them
    std::uint64_t copied_bytes = 0;     ///< bytes of elements in the copies, and of pointers in a tree's inner nodes
    std::uint64_t allocations = 0;      ///< blocks and buffers allocated, copies among them
    std::uint64_t allocated_bytes = 0;  ///< bytes asked of the allocator for these blocks and buffers

    bool operator==(const Counters&) const = default;
};

/// The counters of the calling thread; assign `{}` to begin anew.
[[nodiscard]] inline Counters& counters() noexcept {
    thread_local Counters counted;
    return counted;
}

/// How many handles share a block; starts with one.
///
/// Threads: with Sharing::threads, `add` and `drop` from any thread that has a handle. A thread that drops the last
///          handle, or finds its handle unique, sees all that other threads have done with the block.
template <Sharing kSharing>
class HandleCount {
    friend class detail::TreeCheck;

public:
    void add() noexcept {
        if constexpr (kSharing == Sharing::threads) {
            count_.fetch_add(1, std::memory_order_relaxed);
        } else {
            ++count_;
        }
    }
    /// True when that was the last handle.
    [[nodiscard]] bool drop() noexcept {
        if constexpr (kSharing == Sharing::threads) {
            // No thread can add a handle to an only handle, and an atomic decrement costs ten times a load.
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

// The warnings for an operation whose result is dropped: on an lvalue, where only the result is changed, and on an
// rvalue.
#define VMCOW_RETURNS_CHANGED_COPY(operation)                                          \
    nodiscard("returns the changed x, and x itself is as before: write `x." #operation \
              "_in_place(...)`, or `x = "                                              \
              "std::move(x)." #operation "(...)`")
#define VMCOW_RETURNS_ITSELF(operation)                                                 \
    nodiscard("returns the changed x, and x itself is left empty: write `x." #operation \
              "_in_place(...)`, or `x = "                                               \
              "std::move(x)." #operation "(...)`")

namespace detail {

/// Fails to compile: the result would point into a temporary structure that is gone when the result is used.
template <class Structure>
constexpr void refuse_view_of_temporary() {
    static_assert(!std::is_object_v<Structure>,
                  "what this points to goes with the temporary that it is asked of: give that a name first");
}

/// Swaps two structures. Where moves have to copy, both copies are made first: if one of them fails, neither structure
/// has lost anything.
template <class Structure>
void swap_by_moves(Structure& a, Structure& b, bool moves_copy_nothing) {
    if (moves_copy_nothing) {
        Structure other = std::move(a);
        a = std::move(b);
        b = std::move(other);
    } else {
        Structure for_b(std::as_const(a), b.get_allocator());
        Structure for_a(std::as_const(b), a.get_allocator());
        a = std::move(for_a);
        b = std::move(for_b);
    }
}

/// Refuses an update whose function has copied or changed the structure whose element it was given: a copy would see
/// what the function writes after the copy was made.
/// Throws: std::logic_error -- unless the structure is `as_before`.
inline void check_only_element_changed(bool as_before) {
    if (!as_before) [[unlikely]]
        throw std::logic_error("update: the function has copied or changed what holds its element");
}

}  // namespace detail

/// Counts an allocation, where the options ask for it.
template <Options kOptions>
void count_allocation(std::uint64_t bytes) noexcept {
    if constexpr (kOptions.counted) {
        ++counters().allocations;
        counters().allocated_bytes += bytes;
    }
}
/// Counts a copy that copy-on-write made, where the options ask for it.
template <Options kOptions>
void count_copy(std::uint64_t bytes) noexcept {
    if constexpr (kOptions.counted) {
        ++counters().copies;
        counters().copied_bytes += bytes;
    }
}

}  // namespace vmcow::heap
