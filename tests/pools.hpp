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
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace tests {

/// A T that this process shares with all that it forks later: made before the pool, it is what a function and the test
/// can both see. A function captures the pointer.
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

/// As many workers, which decide between refreshing and mapping anew by the same costs everywhere.
[[nodiscard]] inline procrun::PoolOptions workers(std::size_t count) {
    return {.workers = count, .copy_costs = vmcow::CopyCosts{}};
}

inline void sleep_ms(int ms) {
    timespec left{.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1'000'000L};
    while (::nanosleep(&left, &left) != 0) continue;
}

/// Waits until `is_so()`, for as long as only a broken program would need.
template <class Predicate>
[[nodiscard]] bool eventually(Predicate&& is_so) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!is_so()) {
        if (std::chrono::steady_clock::now() > give_up) return false;
        sleep_ms(1);
    }
    return true;
}

/// Whether there is a process of this number that still runs: a zombie does not.
[[nodiscard]] inline bool is_running(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string stat;
    if (!std::getline(file, stat)) return false;
    const std::size_t name_end = stat.rfind(')');
    return name_end != std::string::npos && stat.size() > name_end + 2 && stat[name_end + 2] != 'Z' &&
           stat[name_end + 2] != 'X';
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

/// Each long is its own index: nobody has written to it.
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

/// The same, with the sum of those longs as they were.
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
