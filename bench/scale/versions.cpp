#include "bench/scale/versions.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/scale/process_counts.hpp"
#include "procrun/pool.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"

namespace bench {
namespace {

using vmcow::kPageBytes;
using Words = vmcow::Value<std::uint64_t[]>;

constexpr std::size_t kWordsInPage = kPageBytes / sizeof(std::uint64_t);
/// How many versions a row measures.
constexpr std::size_t kMeasured = 1000;
constexpr std::size_t kBefore = 100;
constexpr std::size_t kFirst = 10;

/// How the pages that versions change follow one another: the next one, or scattered over the value.
constexpr std::uint64_t kInTurn = 1;
constexpr std::uint64_t kScattered = 2'654'435'761;

/// The page that version `number` changes.
std::size_t page_of(std::size_t number, std::uint64_t step, std::size_t pages) { return number * step % pages; }

void change(std::span<std::uint64_t> words, std::uint64_t number, std::uint64_t step) {
    words[page_of(number, step, words.size() / kWordsInPage) * kWordsInPage + 3] = number;
}

std::unique_ptr<procrun::Pool>& pool() {
    static std::unique_ptr<procrun::Pool> one;
    return one;
}

using Next = void (*)(Words&, std::uint64_t number, std::uint64_t step);

void edit_version(Words& newest, std::uint64_t number, std::uint64_t step) {
    newest.edit([&](std::span<std::uint64_t> words) { change(words, number, step); });
}

void apply_version(Words& newest, std::uint64_t number, std::uint64_t step) {
    auto result = pool()->apply(change, newest, number, step);
    expect(result.ok(), "a call of a version did not return");
    newest = std::move(result).value();
}

/// Whether a version shows what was written to it and to those before it, and nothing that came later.
void check(const Words& version, std::size_t number, std::size_t versions, std::uint64_t step) {
    const vmcow::Snapshot snapshot = version.snapshot();
    const std::size_t pages = version.size() / kWordsInPage;
    const std::size_t last = std::min(versions, number + pages);  // until a page is written again
    for (std::size_t i = number > 500 ? number - 500 : 1; i < std::min(last, number + 500); ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, snapshot.page({page_of(i, step, pages)}) + 3 * sizeof(word), sizeof(word));
        const std::uint64_t expected = i <= number ? i : i > pages ? i - pages : 0;
        expect(word == expected, "a version does not show what was written to it");
    }
}

/// What a program holds: pages of the store, and its heap.
double held_bytes() {
    return static_cast<double>(vmcow::PageStore::used_bytes()) + static_cast<double>(::mallinfo2().uordblks);
}

/// Makes `count` versions and keeps all. Returns the time that the last `kMeasured` took, each.
double keep_versions(benchmark::State& state, std::size_t bytes, std::size_t count, Next next, std::uint64_t step) {
    Words newest(bytes / sizeof(std::uint64_t));
    std::vector<Words> kept;
    kept.reserve(count);
    const auto make = [&](std::size_t to) {
        while (kept.size() < to) {
            kept.push_back(newest);
            next(newest, kept.size(), step);
        }
    };
    make(kFirst);  // with which the value becomes a snapshot
    ::malloc_trim(0);
    const Taken taken;
    const double held = held_bytes();
    make(count - std::min(count - 1, kMeasured));
    const std::size_t measured = count - kept.size();
    const double seconds = seconds_of([&] { make(count); });
    // The newest version has pages of its own beside those that are kept, at the most all of the value.
    taken.report(state, count - kFirst, "resident_each");
    state.counters["bytes_each"] = (held_bytes() - held) / static_cast<double>(count - kFirst);
    for (std::size_t number = 0; number < count; number += std::max<std::size_t>(count / 97, 1)) {
        check(kept[number], number, count, step);
    }
    expect(state.counters["mappings"] < 1000, "versions that nobody reads take mappings");
    expect(state.counters["bytes_each"] < kPageBytes + 1024, "a version takes more than its page and 1 KiB");
    return seconds / static_cast<double>(measured);
}

}  // namespace

void add_version_rows(const BenchSizes& sizes) {
    const std::size_t most = std::clamp<std::size_t>(sizes.value_bytes >> 12, 64, 100'000);
    const auto add = [&](const std::string& name, std::size_t count, Next next, std::uint64_t step) {
        add_row("scale/" + name, sizes, 1, [=, bytes = sizes.value_bytes](benchmark::State& state, bool& warm) {
            if (next == apply_version && !pool()) {
                pool() = std::make_unique<procrun::Pool>(procrun::PoolOptions{.workers = 1});
            }
            warm = true;  // a round makes so many versions that the first ones do not count
            measure(state, warm, [&] { return keep_versions(state, bytes, count, next, step); });
        });
    };
    for (const bool few : {true, false}) {
        const std::size_t count = few ? std::min(most, kBefore + kMeasured) : most;
        const std::string suffix = few ? "/1100" : "/100000";
        add("edit_in_turn" + suffix, count, edit_version, kInTurn);
        add("edit_scattered" + suffix, count, edit_version, kScattered);
        add("apply_in_turn" + suffix, count, apply_version, kInTurn);
        add("apply_scattered" + suffix, count, apply_version, kScattered);
    }
}

void end_version_rows() { pool().reset(); }

}  // namespace bench
