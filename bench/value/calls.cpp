#include "bench/value/calls.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>

#include "bench/value/chain.hpp"
#include "bench/value/memory.hpp"
#include "pipes/pipe.hpp"
#include "procrun/pool.hpp"
#include "procrun/program.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace bench {
namespace {

using procrun::Pool;

constexpr std::string_view kFlag = "--apply-chain";

std::unique_ptr<Pool> pool;

std::vector<Bytes> chain_of(const Bytes& base) {
    std::vector<Bytes> values;
    values.reserve(ChainSteps::kSteps + 1);
    values.push_back(base);
    return values;
}

void apply_chain(benchmark::State& state, bool& warm, const Bytes& base) {
    std::vector<Bytes> values;
    measure(state, warm, [&] {
        values = chain_of(base);
        return seconds_of([&] { run_apply_chain(*pool, values); });
    });
    verify_chain(values);
}

void fork_chain(benchmark::State& state, bool& warm, std::size_t bytes) {
    std::vector<std::byte> heap = filled_heap(bytes);
    warm = true;  // no warm-up: each step is like the steps before, and a chain takes seconds
    measure(state, warm, [&] { return run_fork_chain(heap); });
    const auto is_filled = [](std::byte byte) { return byte == std::byte{kFilled}; };
    expect(std::all_of(heap.begin(), heap.end(), is_filled), "the heap is not as it was");
}

// ---- memory

/// The pool's processes and this one. Waits until every worker is idle, because a result is known a moment before that.
std::vector<pid_t> processes_of(Pool& of) {
    procrun::PoolStatus status = of.status();
    for (int i = 0; i < 500 && status.idle < status.workers; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        status = of.status();
    }
    expect(status.workers > 0 && status.idle == status.workers, "not all workers are there");
    std::vector<pid_t> processes = status.idle_pids;
    processes.insert(processes.end(), {::getpid(), status.zygote_pid, status.keeper_pid});
    std::erase_if(processes, [](pid_t pid) { return pid <= 0; });
    return processes;
}

std::uint64_t measure_chain(std::size_t value_bytes) {
    expect(value_bytes >= BenchSizes::kSmallestValue, "no such value");
    set_chain_steps(value_bytes);
    Pool own({.idle_time = std::chrono::minutes(10)});
    std::vector<Bytes> values = chain_of(filled_value(value_bytes));
    run_apply_chain(own, values);
    const std::uint64_t bytes = held_memory_bytes(processes_of(own));
    verify_chain(values);
    return bytes;
}

/// Starts this program again, and returns the number that it prints.
std::uint64_t ask_program(std::size_t value_bytes) {
    pipes::Pipe answer = pipes::Pipe::open();
    auto program = procrun::Program({"/proc/self/exe", std::string(kFlag), std::to_string(value_bytes)})
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

void chain_memory(benchmark::State& state, std::size_t value_bytes) {
    constexpr double kMost = 1.1;
    // A smaller value is less than what a few processes take in any case, so its ratio means nothing.
    constexpr std::size_t kJudged = std::size_t{1} << 28;
    std::uint64_t held = 0;
    for (auto _ : state) state.SetIterationTime(seconds_of([&] { held = ask_program(value_bytes); }));
    const std::uint64_t needed = value_bytes + chain_steps().changed_pages() * vmcow::kPageBytes;
    const double ratio = static_cast<double>(held) / static_cast<double>(needed);
    state.counters["held_bytes"] = static_cast<double>(held);
    state.counters["needed_bytes"] = static_cast<double>(needed);
    const std::string label = std::to_string(held >> 20) + " MiB held, " + std::to_string(needed >> 20) + " needed";
    state.SetLabel(label);
    if (value_bytes >= kJudged && ratio > kMost) throw std::runtime_error("more than 1.1 times: " + label);
}

// ---- parts

constexpr std::size_t kMostParted = std::size_t{16} << 20;
constexpr std::size_t kPageWords = vmcow::kPageBytes / sizeof(std::uint64_t);
using Words = vmcow::Value<std::uint64_t[]>;

/// Spends about 50 µs of arithmetic on all words of each page, and writes the result to the page. Source: splitmix64.
std::uint64_t hash_pages(std::span<std::uint64_t> words) {
    constexpr int kRounds = 64;
    std::uint64_t sum = 0;
    for (std::size_t page = 0; page < words.size(); page += kPageWords) {
        std::uint64_t hash = 0;
        for (int round = 0; round < kRounds; ++round) {
            for (const std::uint64_t word : words.subspan(page, kPageWords)) {
                hash += word + 0x9e37'79b9'7f4a'7c15;
                hash = (hash ^ (hash >> 30)) * 0xbf58'476d'1ce4'e5b9;
                hash = (hash ^ (hash >> 27)) * 0x94d0'49bb'1331'11eb;
            }
        }
        words[page] = hash;
        sum += hash;
    }
    return sum;
}

std::size_t usable_processors() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) vmcow::sys::throw_errno("sched_getaffinity");
    return static_cast<std::size_t>(CPU_COUNT(&allowed));
}

void map_parts(benchmark::State& state, bool& warm, std::size_t bytes, std::size_t processes) {
    const Words value(std::vector<std::uint64_t>(bytes / sizeof(std::uint64_t), kFilled));
    std::vector<std::uint64_t> expected(value.size(), kFilled);
    const std::uint64_t expected_sum = hash_pages(expected);
    measure(state, warm, [&] {
        std::uint64_t sum = 0;
        const double seconds = seconds_of([&] {
            auto result = pool->map_parts(hash_pages, value, processes);
            if (!result.ok()) throw std::runtime_error(result.outcome().describe());
            const auto [changed, sums] = std::move(result).value();
            for (const std::uint64_t part : sums) sum += part;
            benchmark::DoNotOptimize(changed[0]);
        });
        expect(sum == expected_sum, "another result");
        return seconds;
    });
}

void function_in_place(benchmark::State& state, bool& warm, std::size_t bytes) {
    std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
    measure(state, warm, [&] {
        std::fill(words.begin(), words.end(), kFilled);
        std::uint64_t sum = 0;
        const double seconds = seconds_of([&] { sum = hash_pages(words); });
        benchmark::DoNotOptimize(sum);
        return seconds;
    });
}

void add_parts_rows(const BenchSizes& sizes) {
    using benchmark::State;
    const std::size_t bytes = vmcow::round_down(std::min(sizes.value_bytes, kMostParted), vmcow::kPageBytes);
    const std::size_t processors = usable_processors();
    add_row("map_parts/one", sizes, 9, [=](State& state, bool& warm) { map_parts(state, warm, bytes, 1); });
    add_row("map_parts/all", sizes, 9, [=](State& state, bool& warm) {
        map_parts(state, warm, bytes, processors);
        state.SetLabel(std::to_string(processors) + " processors");
    });
    add_row("raw/function_in_place", sizes, 5,
            [=](State& state, bool& warm) { function_in_place(state, warm, bytes); });
}

}  // namespace

void register_call_rows(const BenchSizes& sizes, const BaseValue& base) {
    using benchmark::State;
    set_chain_steps(sizes.value_bytes);
    pool = std::make_unique<Pool>(procrun::PoolOptions{.idle_time = std::chrono::minutes(10)});
    add_row("value/apply_chain", sizes, 7, [=](State& state, bool& warm) { apply_chain(state, warm, base()); });
    add_row("raw/fork_chain", sizes, 3, [=](State& state, bool& warm) { fork_chain(state, warm, sizes.value_bytes); });
    add_row("memory/apply_chain", sizes, 1, [=](State& state, bool&) { chain_memory(state, base.bytes()); });
    add_parts_rows(sizes);
}

void end_value_pool() { pool.reset(); }

std::optional<int> run_as_chain(int argc, const char* const* argv) noexcept {
    if (argc != 3 || argv[1] != kFlag) return std::nullopt;
    try {
        const std::uint64_t bytes = measure_chain(std::strtoull(argv[2], nullptr, 10));
        std::printf("%llu\n", static_cast<unsigned long long>(bytes));
        return std::fflush(stdout) == 0 ? 0 : 1;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s: %s\n", argv[0], error.what()));
        return 1;
    }
}

}  // namespace bench
