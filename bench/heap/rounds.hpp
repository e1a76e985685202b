#pragma once

#include <time.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench_support.hpp"

namespace bench {

/// The processor time that this thread takes for `work`. Elapsed time would not do: a longer round is interrupted more
/// often, and other processes decide for how long.
template <class Work>
double processor_seconds_of(Work&& work) {
    const auto now = [] {
        struct timespec at = {};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
        return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
    };
    const double started = now();
    work();
    return now() - started;
}

/// Rows whose ratios count. They are measured in turn, a few rounds each, again and again, so that what else the
/// machine does for a while hits all of them. Running the first row measures all of them.
class RoundsInTurn {
public:
    using Round = std::function<double()>;  ///< returns the seconds that count

    RoundsInTurn(const BenchSizes& sizes, int repetitions)
        : sizes_(sizes), repetitions_(repetitions), entries_(std::make_shared<std::vector<Entry>>()) {}

    /// Adds a row. `prepare` returns its round, which owns what it needs. If either throws, only this row fails.
    void add(const std::string& name, std::function<Round()> prepare) {
        const std::size_t which = entries_->size();
        entries_->push_back({std::move(prepare), {}, {}});
        const int repetitions = std::min(repetitions_, sizes_.most_repetitions);
        add_row(name, sizes_, repetitions,
                [entries = entries_, which, repetitions, reported = std::size_t{0}](auto& state, bool&) mutable {
                    if (entries->front().seconds.empty() && !entries->front().error) run(*entries, repetitions);
                    const Entry& mine = entries->at(which);
                    if (mine.error) std::rethrow_exception(mine.error);
                    for (auto _ : state) state.SetIterationTime(mine.seconds.at(reported));
                    ++reported;
                });
    }

private:
    struct Entry {
        std::function<Round()> prepare;
        std::vector<double> seconds;
        std::exception_ptr error;
    };

    /// The mean of as many rounds as fit into a turn. A first round does not count: it brings back into the caches what
    /// the turns of other rows have driven out. Turns are about equally long for all rows: other processes take the
    /// caches more often from a row that works longer without a pause.
    [[nodiscard]] static double mean_of_turn(const Round& round) {
        constexpr double kTurnSeconds = 0.02;
        double seconds = 0;
        const double lasts = std::max(processor_seconds_of([&] { static_cast<void>(round()); }), 1e-5);
        const int rounds = static_cast<int>(std::clamp(kTurnSeconds / lasts, 1.0, 1000.0));
        for (int i = 0; i < rounds; ++i) seconds += round();
        return seconds / rounds;
    }
    static void run(std::vector<Entry>& entries, int repetitions) {
        constexpr int kWarm = 2;  // turns that do not count: memory that was not touched lately costs many times more
        std::vector<Round> rounds(entries.size());
        for (int i = -kWarm; i < repetitions; ++i) {
            for (std::size_t which = 0; which < entries.size(); ++which) {
                Entry& entry = entries[which];
                if (entry.error) continue;
                try {
                    if (!rounds[which]) rounds[which] = entry.prepare();
                    const double seconds = mean_of_turn(rounds[which]);
                    if (i >= 0) entry.seconds.push_back(seconds);
                } catch (...) {
                    entry.error = std::current_exception();
                }
            }
        }
    }

    BenchSizes sizes_;
    int repetitions_;
    std::shared_ptr<std::vector<Entry>> entries_;
};

/// The groups of rows that are compared with each other.
struct HeapRounds {
    explicit HeapRounds(const BenchSizes& sizes)
        : get(sizes, kShortRepetitions),
          set(sizes, kShortRepetitions),
          iterate(sizes, kShortRepetitions),
          build(sizes, kRepetitions),
          insert_key(sizes, kRepetitions),
          find_key(sizes, kRepetitions),
          copy(sizes, kShortRepetitions) {}

    static constexpr int kRepetitions = 15;
    static constexpr int kShortRepetitions = 25;  ///< more, because others take memory bandwidth in bursts
    RoundsInTurn get, set, iterate, build, insert_key, find_key, copy;
};

}  // namespace bench
