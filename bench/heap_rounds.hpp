#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench_support.hpp"

namespace bench {

/// Rows whose ratios count. They are measured in turn: a round of each, and then the next one of each, so that whatever
/// else the machine does for a while hits all of them. The first row that is run has all of them measured.
class RoundsInTurn {
public:
    using Round = std::function<double()>;  ///< returns the seconds that count

    RoundsInTurn(const BenchSizes& sizes, int repetitions)
        : sizes_(sizes), repetitions_(repetitions), entries_(std::make_shared<std::vector<Entry>>()) {}

    /// Adds a row. `prepare` returns its round, which owns what it needs; both may throw, which fails this row alone.
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

    static void run(std::vector<Entry>& entries, int repetitions) {
        constexpr int kWarm = 3;  // memory that has not been touched lately costs many times more
        std::vector<Round> rounds(entries.size());
        for (int i = -kWarm; i < repetitions; ++i) {
            for (std::size_t which = 0; which < entries.size(); ++which) {
                Entry& entry = entries[which];
                if (entry.error) continue;
                try {
                    if (!rounds[which]) rounds[which] = entry.prepare();
                    // The first brings back into the caches what the rounds of the others have driven out.
                    static_cast<void>(rounds[which]());
                    const double seconds = rounds[which]();
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
        : get(sizes, kRepetitions),
          set(sizes, kRepetitions),
          iterate(sizes, kRepetitions),
          build(sizes, kRepetitions),
          insert_key(sizes, kRepetitions),
          find_key(sizes, kRepetitions),
          copy(sizes, kCopies) {}

    static constexpr int kRepetitions = 15;
    static constexpr int kCopies = 101;  ///< short, and what else takes bandwidth comes in bursts
    RoundsInTurn get, set, iterate, build, insert_key, find_key, copy;
};

}  // namespace bench
