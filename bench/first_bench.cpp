// What does it cost to build a 1 GiB value, to freeze it, and to pass it to a function by value? Each row of ours
// stands beside the raw system calls that one would write without it.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "bench/bench_support.hpp"
#include "procrun/fork_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"
#include "vmcow/view.hpp"

namespace {

using bench::die;
using bench::kTouched;
using bench::measure;
using bench::repeat;
using bench::seconds_of;

constexpr std::size_t kValueBytes = std::size_t{1} << 30;

std::byte* map_memory(int sharing, int fd) {
    void* const at = ::mmap(nullptr, kValueBytes, PROT_READ | PROT_WRITE, sharing | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED) die("mmap");
    return static_cast<std::byte*>(at);
}

void unmap_memory(std::byte* at) {
    if (::munmap(at, kValueBytes) != 0) die("munmap");
}

int raw_memfd() {
    const int fd = ::memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(kValueBytes)) != 0) die("memfd");
    return fd;
}

vmcow::Arena filled_arena() {
    vmcow::Arena arena({.name = "bench"});
    std::byte* const at = arena.allocate(kValueBytes);
    std::memset(at, 1, kValueBytes);
    return arena;
}

/// What a caller without the library does: fork, with the value in ordinary heap pages; the child writes a byte and
/// ends.
void raw_fork_heap(benchmark::State& state) {
    static bool warm = false;
    std::byte* const at = map_memory(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    std::memset(at, 1, kValueBytes);
    measure(state, warm, [&] {
        return seconds_of([&] {
            const pid_t child = ::fork();
            if (child < 0) die("fork");
            if (child == 0) {
                at[kTouched] = std::byte{2};
                ::_exit(static_cast<int>(at[kTouched]));
            }
            int status = 0;
            if (::waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 2) die("waitpid");
        });
    });
    unmap_memory(at);
}

void fork_call_by_value(benchmark::State& state) {
    static bool warm = false;
    const vmcow::Snapshot value = filled_arena().freeze();
    vmcow::View view = value.map_private();
    measure(state, warm, [&] {
        return seconds_of([&] {
            const auto result = procrun::fork_call([&] {
                view.bytes()[kTouched] = std::byte{2};
                return static_cast<int>(view.bytes()[kTouched]);
            });
            if (!result.ok() || result.value() != 2 || result.cost().copied != vmcow::PageCount{1}) die("fork_call");
        });
    });
    if (view.bytes()[kTouched] != std::byte{1}) die("by value");
}

/// A memfd filled through an ordinary mapping, made immutable: remapped private and sealed.
void raw_freeze_small(benchmark::State& state) {
    static bool warm = false;
    measure(state, warm, [] {
        const int fd = raw_memfd();
        std::byte* const at = map_memory(MAP_SHARED, fd);
        std::memset(at, 1, kValueBytes);
        const double seconds = seconds_of([&] {
            if (::mmap(at, kValueBytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) die("mmap");
            if (::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) die("seal");
        });
        unmap_memory(at);
        ::close(fd);
        return seconds;
    });
}

void snapshot_freeze(benchmark::State& state) {
    static bool warm = false;
    measure(state, warm, [] {
        vmcow::Arena arena = filled_arena();
        std::optional<vmcow::Snapshot> frozen;
        const double seconds = seconds_of([&] { frozen = std::move(arena).freeze(); });
        if (frozen->extent_bytes() != kValueBytes) die("freeze");
        return seconds;
    });
}

void raw_fill_small(benchmark::State& state) {
    static bool warm = false;
    measure(state, warm, [] {
        int fd = -1;
        std::byte* at = nullptr;
        const double seconds = seconds_of([&] {
            fd = raw_memfd();
            at = map_memory(MAP_SHARED, fd);
            std::memset(at, 1, kValueBytes);
        });
        unmap_memory(at);
        ::close(fd);
        return seconds;
    });
}

void arena_fill(benchmark::State& state) {
    static bool warm = false;
    measure(state, warm, [] {
        std::optional<vmcow::Arena> arena;
        const double seconds = seconds_of([&] { arena = filled_arena(); });
        if (arena->bytes()[kTouched] != std::byte{1}) die("fill");
        return seconds;
    });
}

BENCHMARK(raw_fork_heap)->Name("raw/fork_heap")->Apply([](auto* row) { repeat(row, 9); });
BENCHMARK(fork_call_by_value)->Name("fork_call/by_value")->Apply([](auto* row) { repeat(row, 51); });
BENCHMARK(raw_freeze_small)->Name("raw/freeze_small")->Apply([](auto* row) { repeat(row, 5); });
BENCHMARK(snapshot_freeze)->Name("snapshot/freeze")->Apply([](auto* row) { repeat(row, 9); });
BENCHMARK(raw_fill_small)->Name("raw/fill_small")->Apply([](auto* row) { repeat(row, 5); });
BENCHMARK(arena_fill)->Name("arena/fill")->Apply([](auto* row) { repeat(row, 9); });

}  // namespace

BENCHMARK_MAIN();
