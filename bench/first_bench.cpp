// What does it cost to build a 1 GiB value, to freeze it, and to pass it to a function by value? Each row of ours
// stands beside the raw system calls that one would write without the library.
//
//     first_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "bench/bench_main.hpp"
#include "bench/bench_support.hpp"
#include "procrun/fork_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"
#include "vmcow/view.hpp"

namespace {

using bench::BenchSizes;
using bench::die;
using bench::kTouched;
using bench::measure;
using bench::seconds_of;
using benchmark::State;

std::byte* map_memory(std::size_t bytes, int sharing, int fd) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, sharing | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED) die("mmap");
    return static_cast<std::byte*>(at);
}

void unmap_memory(std::byte* at, std::size_t bytes) {
    if (::munmap(at, bytes) != 0) die("munmap");
}

int raw_memfd(std::size_t bytes) {
    const int fd = ::memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) die("memfd");
    return fd;
}

vmcow::Arena filled_arena(std::size_t bytes) {
    vmcow::Arena arena({.name = "bench"});
    std::byte* const at = arena.allocate(bytes);
    std::memset(at, 1, bytes);
    return arena;
}

/// A caller without the library forks, with the value in ordinary heap pages. The child writes a byte and exits.
void raw_fork_heap(State& state, bool& warm, std::size_t bytes) {
    std::byte* const at = map_memory(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    std::memset(at, 1, bytes);
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
    unmap_memory(at, bytes);
}

void fork_call_by_value(State& state, bool& warm, std::size_t bytes) {
    const vmcow::Snapshot value = filled_arena(bytes).freeze();
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

/// Makes a memfd immutable that was filled through an ordinary mapping: remaps it private and seals it.
void raw_freeze_small(State& state, bool& warm, std::size_t bytes) {
    measure(state, warm, [=] {
        const int fd = raw_memfd(bytes);
        std::byte* const at = map_memory(bytes, MAP_SHARED, fd);
        std::memset(at, 1, bytes);
        const double seconds = seconds_of([&] {
            if (::mmap(at, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) die("mmap");
            if (::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) die("seal");
        });
        unmap_memory(at, bytes);
        ::close(fd);
        return seconds;
    });
}

void snapshot_freeze(State& state, bool& warm, std::size_t bytes) {
    measure(state, warm, [=] {
        vmcow::Arena arena = filled_arena(bytes);
        std::optional<vmcow::Snapshot> frozen;
        const double seconds = seconds_of([&] { frozen = std::move(arena).freeze(); });
        if (frozen->extent_bytes() != bytes) die("freeze");
        return seconds;
    });
}

void raw_fill_small(State& state, bool& warm, std::size_t bytes) {
    measure(state, warm, [=] {
        int fd = -1;
        std::byte* at = nullptr;
        const double seconds = seconds_of([&] {
            fd = raw_memfd(bytes);
            at = map_memory(bytes, MAP_SHARED, fd);
            std::memset(at, 1, bytes);
        });
        unmap_memory(at, bytes);
        ::close(fd);
        return seconds;
    });
}

void arena_fill(State& state, bool& warm, std::size_t bytes) {
    measure(state, warm, [=] {
        std::optional<vmcow::Arena> arena;
        const double seconds = seconds_of([&] { arena = filled_arena(bytes); });
        if (arena->bytes()[kTouched] != std::byte{1}) die("fill");
        return seconds;
    });
}

void add_rows(const BenchSizes& sizes) {
    const auto add = [&](const char* name, int repetitions, void (*run)(State&, bool&, std::size_t)) {
        bench::add_row(name, sizes, repetitions,
                       [run, bytes = sizes.value_bytes](State& state, bool& warm) { run(state, warm, bytes); });
    };
    add("raw/fork_heap", 9, raw_fork_heap);
    add("fork_call/by_value", 51, fork_call_by_value);
    add("raw/freeze_small", 5, raw_freeze_small);
    add("snapshot/freeze", 9, snapshot_freeze);
    add("raw/fill_small", 5, raw_fill_small);
    add("arena/fill", 9, arena_fill);
}

}  // namespace

int main(int argc, char** argv) {
    return bench::run_benchmark(
        argc, argv,
        {.name = "first_bench",
         .question = "What filling, freezing and a call by value cost, beside the system calls they consist of.",
         .add_rows = add_rows,
         .end = [] {}});
}
