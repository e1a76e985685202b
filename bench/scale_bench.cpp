// What do values cost where there are very many of them?
//
//     scale_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
//
// There are as many values as fit into SIZE where each takes 1 KiB, at the most as many as a row's name says.
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/bench_main.hpp"
#include "bench/scale/process_counts.hpp"
#include "bench/scale/versions.hpp"
#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"

namespace {

using bench::expect;
using benchmark::State;
using vmcow::Value;
using Numbers = std::array<double, 3>;
using Container = vmcow::vector<double>;

std::size_t as_many(const bench::BenchSizes& sizes, std::size_t most) {
    return std::clamp<std::size_t>(sizes.value_bytes >> 10, 16, most);
}

// ---- small values

constexpr int kMade = 100'000;

template <class Made>
void make_and_drop(State& state, bool& warm) {
    bench::measure(state, warm, [] {
        return bench::seconds_of_each(kMade, [] {
            Made made{1.0, 2.0, 3.0};
            benchmark::DoNotOptimize(made);
        });
    });
}

/// A value of three numbers that lie in it.
struct SmallValue {
    SmallValue(double x, double y, double z) : value(Numbers{x, y, z}) {}
    Value<Numbers> value;
};

void keep_small(State& state, bool& warm, std::size_t count) {
    bench::measure(state, warm, [&] {
        std::vector<Value<Numbers>> all;
        all.reserve(count);
        ::malloc_trim(0);  // what was freed before would be used again, and not be counted
        const bench::Taken taken;
        const double seconds = bench::seconds_of([&] {
            for (std::size_t i = 0; i < count; ++i) all.emplace_back(Numbers{static_cast<double>(i), 1, 2});
        });
        taken.report(state, count);
        for (std::size_t i = 0; i < count; ++i) {
            expect((*all[i])[0] == static_cast<double>(i), "a small value is not what it was made");
        }
        return seconds / static_cast<double>(count);
    });
    expect(state.counters["descriptors"] < 1, "small values have taken a descriptor");
}

// ---- values of 64 KiB

void keep_middle(State& state, bool& warm, std::size_t count) {
    constexpr std::size_t kNumbers = (std::size_t{64} << 10) / sizeof(double);
    bench::measure(state, warm, [&] {
        std::vector<Value<double[]>> all;
        all.reserve(count);
        const bench::Taken taken;
        const double seconds = bench::seconds_of([&] {
            for (std::size_t i = 0; i < count; ++i) {
                all.emplace_back(kNumbers);
                all.back().edit([&](std::span<double> numbers) { numbers[i % kNumbers] = static_cast<double>(i); });
            }
            for (std::size_t i = 0; i < count; ++i) {
                expect(all[i][i % kNumbers] == static_cast<double>(i), "a value is not what was written to it");
            }
            taken.report(state, count);
            all.clear();
        });
        return seconds / static_cast<double>(count);
    });
    expect(state.counters["mappings"] < 1000, "values of 64 KiB take too many mappings");
    expect(state.counters["descriptors"] < 100, "values of 64 KiB take too many descriptors");
}

// ---- beside calls

/// Values of every kind that is no file: small ones, pages of the store, edited and frozen, and containers.
struct Crowd {
    explicit Crowd(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            if (i % 4 == 0) small.emplace_back(Numbers{1, 2, 3});
            if (i % 4 == 1) arrays.emplace_back(std::size_t{2048});
            if (i % 4 == 2) frozen.push_back(Value<double[]>(2048).snapshot());
            if (i % 4 == 3) containers.emplace_back(Container{1, 2, 3});
        }
    }
    std::vector<Value<Numbers>> small;
    std::vector<Value<double[]>> arrays;
    std::vector<vmcow::Snapshot> frozen;
    std::vector<Value<Container>> containers;
};

void fork_beside(State& state, bool& warm, std::size_t count) {
    ::malloc_trim(0);  // what rows before this one have left in the heap would be copied, too
    const Crowd crowd(count);
    bench::measure(state, warm, [&] {
        return bench::seconds_of_each(20, [&] {
            const auto result = procrun::fork_call([] { return 1; });
            expect(result.ok() && result.value() == 1, "a function process did not return");
        });
    });
}

double first(std::span<const double> numbers) { return numbers[0]; }

/// Made before the values are: its workers have none of them.
std::unique_ptr<procrun::Pool>& pool() {
    static std::unique_ptr<procrun::Pool> one;
    return one;
}

void call_over(State& state, bool& warm, std::size_t count) {
    constexpr std::size_t kNumbers = 2048;  // 16 KiB: more than is sent with a call
    if (!pool()) pool() = std::make_unique<procrun::Pool>(procrun::PoolOptions{.workers = 1});
    std::vector<Value<double[]>> values;
    for (std::size_t i = 0; i < count; ++i) {
        values.emplace_back(kNumbers);
        values.back().edit([&](std::span<double> numbers) { numbers[0] = static_cast<double>(i); });
    }
    const auto call_each = [&] {
        for (std::size_t i = 0; i < count; ++i) {
            const auto result = pool()->call(first, values[i]);
            expect(result.ok() && result.value() == static_cast<double>(i), "a call did not see its value");
        }
    };
    call_each();  // the first round, in which the worker gets to know the values
    const int rounds = count == 1 ? 5000 : 1;
    bench::measure(state, warm, [&] { return bench::seconds_of_each(rounds, call_each) / static_cast<double>(count); });
}

// ---- calls within calls

/// Changes a page of the block and passes it on, `levels` times one within the other. Returns how many pages the last
/// function process finds changed.
long pass_on(std::span<long> block, long levels) {
    constexpr std::size_t kEach = vmcow::kPageBytes / sizeof(long);
    block[static_cast<std::size_t>(levels) * kEach] = levels;
    if (levels > 1) {
        return procrun::fork_call([block, levels] { return pass_on(block, levels - 1); }).value();
    }
    long changed = 0;
    for (std::size_t page = 1; page * kEach < block.size() && block[page * kEach] != 0; ++page) ++changed;
    return changed;
}

void call_within_calls(State& state, bool& warm, std::size_t bytes, long levels) {
    ::malloc_trim(0);
    vmcow::Arena arena({.name = "block", .reserve_bytes = bytes});
    const std::span<long> block = arena.allocate_array<long>(bytes / sizeof(long));
    bench::measure(state, warm, [&] {
        return bench::seconds_of_each(10, [&] {
            const auto result = procrun::fork_call([block, levels] { return pass_on(block, levels); });
            expect(result.ok() && result.value() == levels, "a level did not see the changes above it");
        });
    });
    expect(block[vmcow::kPageBytes / sizeof(long)] == 0, "a function process has changed its caller's block");
}

/// What the kernel takes for processes within one another.
void fork_within_forks(long levels) {
    const pid_t child = ::fork();
    if (child < 0) bench::die("fork");
    if (child == 0) {
        if (levels > 1) fork_within_forks(levels - 1);
        ::_exit(0);
    }
    if (::waitpid(child, nullptr, 0) != child) bench::die("waitpid");
}

int run(int argc, char** argv) {
    bench::BenchProgram program;
    program.name = "scale_bench";
    program.question = "What values cost where there are very many of them.";
    program.add_rows = [](const bench::BenchSizes& sizes) {
        // Forks come first: they copy the page tables of whatever rows before them leave in the heap.
        for (const std::size_t count : {std::size_t{0}, std::size_t{10'000}}) {
            const std::size_t n = count == 0 ? 0 : as_many(sizes, count);
            bench::add_row("scale/fork_call/" + std::to_string(count), sizes, 9,
                           [n](State& state, bool& warm) { fork_beside(state, warm, n); });
        }
        for (const long levels : {1L, 10L}) {
            bench::add_row("raw/nested_fork/" + std::to_string(levels), sizes, 9, [levels](State& state, bool& warm) {
                ::malloc_trim(0);
                bench::measure(state, warm,
                               [&] { return bench::seconds_of_each(10, [&] { fork_within_forks(levels); }); });
            });
            bench::add_row("scale/nested/" + std::to_string(levels), sizes, 9,
                           [n = sizes.value_bytes, levels](State& state, bool& warm) {
                               call_within_calls(state, warm, n, levels);
                           });
        }
        bench::add_row("raw/vector_of_3", sizes, 9, make_and_drop<std::vector<double>>);
        bench::add_row("scale/small", sizes, 9, make_and_drop<SmallValue>);
        bench::add_row("scale/small_container", sizes, 9, make_and_drop<Value<Container>>);
        bench::add_row("scale/small/1000000", sizes, 1,
                       [n = as_many(sizes, 1'000'000)](State& state, bool& warm) { keep_small(state, warm, n); });
        bench::add_row("scale/64KiB/100000", sizes, 1,
                       [n = as_many(sizes, 100'000)](State& state, bool& warm) { keep_middle(state, warm, n); });
        for (const std::size_t count : {std::size_t{1}, std::size_t{10'000}}) {
            const std::size_t n = count == 1 ? 1 : as_many(sizes, count);
            bench::add_row("scale/pool_call/" + std::to_string(count), sizes, 9,
                           [n](State& state, bool& warm) { call_over(state, warm, n); });
        }
        bench::add_version_rows(sizes);
    };
    program.end = [] {
        pool().reset();
        bench::end_version_rows();
    };
    return bench::run_benchmark(argc, argv, program);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "scale_bench: %s\n", error.what()));
        return 1;
    }
}
