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
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "vmcow/meter/model/random.hpp"
#include "vmcow/units.hpp"

namespace bench {

/// How much a benchmark does. Figures count only for the default sizes; small sizes show that every row still runs.
struct BenchSizes {
    static constexpr std::size_t kSmallestValue = std::size_t{4} << 20;  ///< a smaller one may lie in no file

    std::size_t value_bytes = std::size_t{1} << 30;  ///< at least `kSmallestValue`
    int most_repetitions = std::numeric_limits<int>::max();
};

/// The byte that a value is filled with before any write.
inline constexpr unsigned char kFilled = 1;
/// The offset of the byte that rows touch if they touch a single byte: neither in the first page nor at a page's start.
inline constexpr std::size_t kTouched = 7 * vmcow::kPageBytes + 64;

/// What a row checks of what it has done.
inline void expect(bool condition, const char* what) {
    if (!condition) throw std::runtime_error(what);
}

[[noreturn]] inline void die(const char* what) {
    std::perror(what);
    std::exit(1);
}

/// Runs `round` once for each repetition; it returns the seconds that count. Memory that a virtual machine has not
/// touched lately costs many times more, so a row runs three rounds that do not count before its first repetition.
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

/// The mean seconds of `rounds` calls of `work`, if a single call is too short to be timed.
template <class Work>
double seconds_of_each(int rounds, Work&& work) {
    const double seconds = seconds_of([&] {
        for (int i = 0; i < rounds; ++i) work();
    });
    return seconds / rounds;
}

/// Sets a row to one round a repetition. The median of the repetitions counts.
inline void repeat(benchmark::internal::Benchmark* row, int repetitions) {
    row->Iterations(1)->Repetitions(repetitions)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

/// True once a row has failed. Google Benchmark itself exits with 0 even then.
inline bool& a_row_failed() {
    static bool failed = false;
    return failed;
}

/// Adds a row that `run(state, warm)` measures. If `run` throws, this row alone fails, after releasing what it owns.
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

/// Labels a row whose image did not get huge pages, for which the figures are meant. `collapse_error` is 0 or the errno
/// of MADV_COLLAPSE.
inline void report_pages(benchmark::State& state, int collapse_error) {
    if (collapse_error != 0) {
        state.SetLabel("4 KiB pages, MADV_COLLAPSE was refused: " + std::generic_category().message(collapse_error));
    }
}

/// The offsets at which a function writes 8 bytes each to `count` pages of a value, or to all if it has fewer. The
/// pages are scattered over the value in random order, each once, and are the same in every run.
inline std::vector<std::size_t> scattered_offsets(std::size_t value_bytes, std::size_t count) {
    constexpr std::uint64_t kSeed = 20240501;
    constexpr std::size_t kInPage = 64;
    std::vector<std::size_t> pages(value_bytes / vmcow::kPageBytes);
    std::iota(pages.begin(), pages.end(), std::size_t{0});
    count = std::min(count, pages.size());
    vmcow::meter::RandomEngine engine(kSeed);
    for (std::size_t i = 0; i < count; ++i) {
        std::swap(pages[i], pages[i + vmcow::meter::bounded(engine, pages.size() - i)]);
        pages[i] = pages[i] * vmcow::kPageBytes + kInPage;
    }
    return {pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(count)};  // without the room of the rest
}

}  // namespace bench
