#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "procrun/pool.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace tests {

/// A T in memory that this process shares with all processes that it forks later. When made before the pool, both a
/// function and the test can see it; a function captures the pointer.
template <class T>
class Shared {
public:
    Shared() {
        void* const at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) vmcow::sys::throw_errno("mmap shared memory");
        value_ = new (at) T{};
    }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() { ::munmap(value_, sizeof(T)); }

    [[nodiscard]] T* get() const noexcept { return value_; }
    T& operator*() const noexcept { return *value_; }
    T* operator->() const noexcept { return value_; }

private:
    T* value_;
};

/// Options for `count` workers. The copy costs are fixed, so that refreshing or mapping anew is decided alike on every
/// machine.
[[nodiscard]] inline procrun::PoolOptions workers(std::size_t count) {
    return {.workers = count, .copy_costs = vmcow::CopyCosts{}};
}

// ---- images of long

inline constexpr std::size_t kLongsInPage = vmcow::kPageBytes / sizeof(long);

/// An arena of `pages` pages, in which each long is its own index.
[[nodiscard]] inline vmcow::Arena counting_arena(std::size_t pages) {
    vmcow::Arena arena({.name = "counting"});
    const std::span<long> values = arena.allocate_array<long>(pages * kLongsInPage);
    std::iota(values.begin(), values.end(), 0L);
    return arena;
}

[[nodiscard]] inline vmcow::Snapshot counting_snapshot(std::size_t pages) { return counting_arena(pages).freeze(); }

[[nodiscard]] inline std::span<const long> longs_in(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const long*>(bytes.data()), bytes.size() / sizeof(long)};
}
[[nodiscard]] inline std::span<const long> longs_in(const vmcow::Snapshot& snapshot) {
    return longs_in(snapshot.bytes());
}
[[nodiscard]] inline std::span<const long> longs_in(const vmcow::Arena& arena) { return longs_in(arena.bytes()); }

/// Whether each long is its own index, so that nothing was written to it.
[[nodiscard]] inline bool is_counting(std::span<const long> values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] != static_cast<long>(i)) return false;
    }
    return true;
}

// ---- functions for calls

inline int answer() { return 42; }
inline long sum(std::span<const long> values) { return std::accumulate(values.begin(), values.end(), 0L); }

/// Adds `amount` to the first long of each of the first `pages` pages.
inline void add_to_pages(std::span<long> values, std::size_t pages, long amount) {
    for (std::size_t page = 0; page < pages; ++page) values[page * kLongsInPage] += amount;
}

/// Does what `add_to_pages` does, and returns the sum of the longs as they were before.
inline long sum_and_add(std::span<long> values, std::size_t pages, long amount) {
    long before = 0;
    for (std::size_t page = 0; page < pages; ++page) before += values[page * kLongsInPage];
    add_to_pages(values, pages, amount);
    return before;
}

inline int hang() {
    while (true) ::pause();
}

}  // namespace tests
