#include "bench/call/worker_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/pool.hpp"
#include "procrun/program.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/units.hpp"

namespace bench {
namespace {

constexpr std::string_view kFlag = "--pool-of-workers";
constexpr std::size_t kWorkers = 64;
constexpr std::size_t kPages = 256;
constexpr std::size_t kNear = std::size_t{64} << 20;
constexpr std::uint64_t kMostEach = (std::uint64_t{1} << 20) + (std::uint64_t{512} << 10);

std::vector<std::size_t> offsets;  // made before the pool, so that the workers inherit it

std::atomic<std::size_t>* arrived = nullptr;  // in memory that all processes share

/// Writes, and keeps the worker busy until all others have arrived, so that there are as many workers as calls.
void write_and_stay(std::span<std::byte> value) {
    for (const std::size_t offset : offsets) value[offset] = std::byte{7};
    arrived->fetch_add(1);
    for (int i = 0; i < 3000 && *arrived < kWorkers; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

std::uint64_t private_bytes(pid_t pid) {
    const std::string folder = "/proc/" + std::to_string(pid);
    const auto anonymous = vmcow::sys::read_proc_bytes(folder + "/smaps_rollup", "Anonymous");
    const auto tables = vmcow::sys::read_proc_bytes(folder + "/status", "VmPTE");
    if (!anonymous || !tables) throw std::runtime_error("the memory of a worker cannot be read");
    return *anonymous + *tables;
}

/// The bytes that are private to all workers together.
std::uint64_t measure_workers(std::size_t value_bytes, std::size_t written_bytes) {
    offsets = scattered_offsets(std::min(value_bytes, written_bytes), kPages);
    void* const shared = ::mmap(nullptr, vmcow::kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) throw std::runtime_error("no memory to share");
    arrived = new (shared) std::atomic<std::size_t>(0);
    procrun::Pool pool({.workers = kWorkers});
    vmcow::Arena arena({.name = "bench"});
    std::memset(arena.allocate(value_bytes), kFilled, value_bytes);
    const vmcow::Snapshot value = std::move(arena).freeze();
    std::vector<procrun::CallFuture<void>> calls;
    for (std::size_t i = 0; i < kWorkers; ++i) calls.push_back(pool.async(write_and_stay, value));
    for (auto& call : calls) {
        const auto result = call.get();
        if (!result.ok()) throw std::runtime_error(result.outcome().describe());
    }
    procrun::PoolStatus status = pool.status();
    // A result is known a moment before the worker is idle.
    for (int i = 0; i < 500 && status.idle_pids.size() < kWorkers; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        status = pool.status();
    }
    if (status.idle_pids.size() != kWorkers) throw std::runtime_error("not all workers are there");
    std::uint64_t bytes = 0;
    for (const pid_t pid : status.idle_pids) bytes += private_bytes(pid);
    return bytes;
}

/// Starts this program again, and returns the number that it prints.
std::uint64_t ask_program(std::size_t value_bytes, std::size_t written_bytes) {
    pipes::Pipe answer = pipes::Pipe::open();
    auto program = procrun::Program({"/proc/self/exe", std::string(kFlag), std::to_string(value_bytes),
                                     std::to_string(written_bytes)})
                       .descriptor(1, answer.write_end().get())
                       .die_with_parent()
                       .start();
    answer.take_write_end().reset();
    if (const auto* const refused = std::get_if<procrun::Outcome>(&program)) {
        throw std::runtime_error(refused->describe());
    }
    std::string text(64, '\0');
    text.resize(vmcow::sys::read_full(answer.read_end().get(), std::as_writable_bytes(std::span(text)), "the answer"));
    const auto ended = std::get<procrun::Process>(program).wait();
    if (!ended.outcome.ok()) throw std::runtime_error(ended.outcome.describe());
    return std::stoull(text);
}

void memory_row(benchmark::State& state, std::size_t value_bytes, std::size_t written_bytes, bool bounded) {
    std::uint64_t bytes = 0;
    for (auto _ : state) {
        state.SetIterationTime(seconds_of([&] { bytes = ask_program(value_bytes, written_bytes); }));
    }
    const std::uint64_t each = bytes / kWorkers;
    std::string label = std::to_string(each / 1024) + " KiB for each worker";
    if (bounded) label += " of at most " + std::to_string(kMostEach / 1024);
    state.SetLabel(label);
    if (bounded && each > kMostEach) throw std::runtime_error("too much memory: " + label);
}

}  // namespace

void register_memory_rows(const BenchSizes& sizes) {
    const std::size_t value = sizes.value_bytes;
    add_row("memory/64_workers", sizes, 1, [=](auto& state, bool&) { memory_row(state, value, kNear, true); });
    add_row("memory/64_workers_scattered", sizes, 1,
            [=](auto& state, bool&) { memory_row(state, value, value, false); });
}

std::optional<int> run_as_pool_of_workers(int argc, const char* const* argv) noexcept {
    if (argc != 4 || argv[1] != kFlag) return std::nullopt;
    try {
        std::printf("%llu\n", static_cast<unsigned long long>(measure_workers(std::strtoull(argv[2], nullptr, 10),
                                                                              std::strtoull(argv[3], nullptr, 10))));
        return std::fflush(stdout) == 0 ? 0 : 1;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s: %s\n", argv[0], error.what()));
        return 1;
    }
}

}  // namespace bench
