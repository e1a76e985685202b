#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <numeric>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "vmcow/measure/random.hpp"
#include "vmcow/units.hpp"

namespace bench {

/// How much a benchmark does. The figures count for the sizes it starts with; small ones show that every row still
/// runs.
struct BenchSizes {
    static constexpr std::size_t kSmallestValue = std::size_t{64} << 10;

    std::size_t value_bytes = std::size_t{1} << 30;  ///< at least `kSmallestValue`
    int most_repetitions = std::numeric_limits<int>::max();
};

/// What every byte of a value is before anyone writes to it.
inline constexpr unsigned char kFilled = 1;
/// Where rows that touch a single byte do so: neither the first page nor the start of one.
inline constexpr std::size_t kTouched = 7 * vmcow::kPageBytes + 64;

[[noreturn]] inline void die(const char* what) {
    std::perror(what);
    std::exit(1);
}

/// Runs `round`, which returns the seconds that count, once for each repetition. Memory that a virtual machine has not
/// touched lately costs many times more, so before the first a row takes what it needs a few times without counting.
template <class Round>
void measure(benchmark::State& state, bool& warm, Round&& round) {
    for (int i = 0; !warm && i < 3; ++i) round();
    warm = true;
    for (auto _ : state) state.SetIterationTime(round());
}

template <class Work>
double seconds_of(Work&& work) {
    const auto started = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

/// The same for what is too short to be timed alone: `work` again and again, and the mean of it.
template <class Work>
double seconds_of_each(int rounds, Work&& work) {
    const double seconds = seconds_of([&] {
        for (int i = 0; i < rounds; ++i) work();
    });
    return seconds / rounds;
}

/// One round a repetition: what counts is their median.
inline void repeat(benchmark::internal::Benchmark* row, int repetitions) {
    row->Iterations(1)->Repetitions(repetitions)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

/// True once a row has failed. Google Benchmark itself ends with 0 then.
inline bool& a_row_failed() {
    static bool failed = false;
    return failed;
}

/// Adds a row that `run(state, warm)` measures. What it throws fails this row alone, after all that the row owns has
/// been given back.
template <class Run>
void add_row(const std::string& name, const BenchSizes& sizes, int repetitions, Run run) {
    const auto guarded = [run = std::move(run), warm = false](benchmark::State& state) mutable {
        try {
            run(state, warm);
        } catch (const std::exception& error) {
            a_row_failed() = true;
            state.SkipWithError(error.what());
        }
    };
    repeat(benchmark::RegisterBenchmark(name.c_str(), guarded), std::min(repetitions, sizes.most_repetitions));
}

/// Says beside the row that its image did not get huge pages, for which its figures are meant. `collapse_error` is 0 or
/// the errno that the kernel gave.
inline void report_pages(benchmark::State& state, int collapse_error) {
    if (collapse_error != 0) {
        state.SetLabel("4 KiB pages, MADV_COLLAPSE was refused: " + std::generic_category().message(collapse_error));
    }
}

/// Where a function writes 8 bytes each to `count` pages of a value: pages all over it in no order, each once, the same
/// in every run. All its pages when it has no more than that.
inline std::vector<std::size_t> scattered_offsets(std::size_t value_bytes, std::size_t count) {
    constexpr std::uint64_t kSeed = 20240501;
    constexpr std::size_t kInPage = 64;
    std::vector<std::size_t> pages(value_bytes / vmcow::kPageBytes);
    std::iota(pages.begin(), pages.end(), std::size_t{0});
    count = std::min(count, pages.size());
    vmcow::measure::Engine engine(kSeed);
    for (std::size_t i = 0; i < count; ++i) {
        std::swap(pages[i], pages[i + vmcow::measure::bounded(engine, pages.size() - i)]);
        pages[i] = pages[i] * vmcow::kPageBytes + kInPage;
    }
    return {pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count)};  // without the room of the rest
}

}  // namespace bench
