// Random histories of pool calls over snapshots and arenas agree with deep copies, byte by byte.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "procrun/worker/zygote_client.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/sys/proc/thread_count.hpp"

namespace {

using procrun::Pool;
using vmcow::Arena;
using vmcow::kPageBytes;
using vmcow::Snapshot;

using Bytes = std::vector<std::byte>;

/// Changes each byte from `at` on by `mask`; a mask of 0 writes the byte that is there.
struct Edit {
    std::uint32_t at;
    std::uint32_t length;
    std::byte mask;
};
using Edits = std::vector<Edit>;

void edit(std::span<std::byte> bytes, const Edits& edits) {
    for (const Edit& each : edits) {
        for (std::size_t i = each.at; i < std::min<std::size_t>(each.at + each.length, bytes.size()); ++i) {
            volatile std::byte& byte = bytes[i];
            byte = byte ^ each.mask;
        }
    }
}

/// Returns what the function saw, so that it can be compared byte by byte.
Bytes see_and_edit(std::span<std::byte> bytes, const Edits& edits) {
    Bytes seen(bytes.begin(), bytes.end());
    edit(bytes, edits);
    return seen;
}
Bytes see(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

std::pair<Bytes, Bytes> see_two(std::span<std::byte> a, const Edits& edits, std::span<const std::byte> b) {
    Bytes seen(b.begin(), b.end());
    return {see_and_edit(a, edits), std::move(seen)};
}

rc::Gen<Edits> any_edits(std::size_t bytes) {
    const auto end = static_cast<std::uint32_t>(bytes);
    const auto lengths =
        rc::gen::weightedOneOf<std::uint32_t>({{6, rc::gen::inRange<std::uint32_t>(1, 16)},
                                               {2, rc::gen::inRange<std::uint32_t>(1, 3 * kPageBytes)},
                                               {1, rc::gen::inRange<std::uint32_t>(8 * kPageBytes, 20 * kPageBytes)}});
    const auto masks = rc::gen::element(std::byte{0}, std::byte{1}, std::byte{0xff});
    const auto each =
        rc::gen::map(rc::gen::tuple(rc::gen::inRange<std::uint32_t>(0, end), lengths, masks), [](const auto& parts) {
            return Edit{std::get<0>(parts), std::get<1>(parts), std::get<2>(parts)};
        });
    return rc::gen::mapcat(rc::gen::inRange<std::size_t>(0, 4),
                           [each](std::size_t count) { return rc::gen::container<Edits>(count, each); });
}

/// Snapshots and arenas, each beside a deep copy of its expected content.
class Modelled {
public:
    Modelled(Pool& pool, std::size_t pages, unsigned seed) : pool_(pool) {
        const Bytes content = tests::noise(pages * kPageBytes - 5, seed);
        snapshots_.push_back({tests::snapshot_of(content), content});
        for (unsigned i = 0; i < 2; ++i) {
            Bytes bytes = tests::noise(pages * kPageBytes / 2 + 3, seed + i + 1);
            Arena arena = tests::arena_of(bytes);
            arenas_.push_back({std::move(arena), std::move(bytes)});
        }
    }

    void step() {
        switch (
            *rc::gen::weightedElement<int>({{4, 0}, {4, 1}, {4, 2}, {2, 3}, {3, 4}, {2, 5}, {3, 6}, {2, 7}, {2, 8}})) {
            case 0:
                return call_private(any_snapshot());
            case 1:
                return apply(any_snapshot(), true);
            case 2:
                return apply(snapshots_.size() - 1, true);  // a chain
            case 3:
                return apply(any_snapshot(), false);
            case 4:
                return call_two();
            case 5:
                return write_to_arena();
            case 6:
                return lend_arena();
            case 7:
                return move_arena();
            default:
                return burst();
        }
    }

    void check() const {
        for (const auto& [snapshot, bytes] : snapshots_) RC_ASSERT(tests::same_bytes(snapshot.bytes(), bytes));
        for (const auto& [arena, bytes] : arenas_) RC_ASSERT(tests::same_bytes(arena.bytes(), bytes));
    }

    /// Freezing succeeds only when no other process can write to the arenas any more.
    void freeze() {
        for (auto& [arena, bytes] : arenas_) RC_ASSERT(tests::same_bytes(std::move(arena).freeze().bytes(), bytes));
        arenas_.clear();
    }

private:
    template <class Result>
    static void require_ok(const Result& result) {
        if (!result.ok()) RC_FAIL(result.outcome().describe());
    }

    [[nodiscard]] std::size_t any_snapshot() const { return *rc::gen::inRange<std::size_t>(0, snapshots_.size()); }
    [[nodiscard]] std::size_t any_arena() const { return *rc::gen::inRange<std::size_t>(0, arenas_.size()); }

    void call_private(std::size_t at) {
        const auto& [snapshot, bytes] = snapshots_[at];
        const auto seen = pool_.call(see_and_edit, snapshot, *any_edits(bytes.size()));
        require_ok(seen);
        RC_ASSERT(seen.value() == bytes);
        if (!*rc::gen::arbitrary<bool>()) return;
        const auto alias = pool_.call(see, snapshot);
        require_ok(alias);
        RC_ASSERT(alias.value() == bytes);
    }
    void apply(std::size_t at, bool keep) {
        const auto [snapshot, bytes] = snapshots_[at];
        const Edits edits = *any_edits(bytes.size());
        auto applied = pool_.apply(see_and_edit, snapshot, edits);
        require_ok(applied);
        auto [changed, seen] = std::move(applied).value();
        RC_ASSERT(seen == bytes);
        Bytes expected = bytes;
        edit(expected, edits);
        RC_ASSERT(tests::same_bytes(changed.bytes(), expected));
        if (!keep) return;
        if (snapshots_.size() > 6) snapshots_.erase(snapshots_.begin() + static_cast<std::ptrdiff_t>(any_snapshot()));
        snapshots_.emplace_back(std::move(changed), std::move(expected));
    }
    void call_two() {
        const auto& [a, a_bytes] = snapshots_[any_snapshot()];
        const auto& [b, b_bytes] = snapshots_[any_snapshot()];
        const auto seen = pool_.call(see_two, a, *any_edits(a_bytes.size()), b);
        require_ok(seen);
        RC_ASSERT(seen.value().first == a_bytes);
        RC_ASSERT(seen.value().second == b_bytes);
    }
    void write_to_arena() {
        auto& [arena, bytes] = arenas_[any_arena()];
        const Edits edits = *any_edits(bytes.size());
        edit(arena.bytes(), edits);
        edit(bytes, edits);
        if (*rc::gen::inRange(0, 4) != 0) return;
        const Bytes more = tests::noise(*rc::gen::inRange<std::size_t>(1, 3 * kPageBytes));
        arena.append(more);
        bytes.insert(bytes.end(), more.begin(), more.end());
    }
    void lend_arena() {
        const auto& [arena, bytes] = arenas_[any_arena()];
        const auto seen = pool_.call(see_and_edit, arena, *any_edits(bytes.size()));
        require_ok(seen);
        RC_ASSERT(seen.value() == bytes);
        const auto alias = pool_.call(see, arena);
        require_ok(alias);
        RC_ASSERT(alias.value() == bytes);
    }
    void move_arena() {
        auto& [arena, bytes] = arenas_[any_arena()];
        const Edits edits = *any_edits(bytes.size());
        auto result = pool_.apply(see_and_edit, std::move(arena), edits);
        require_ok(result);
        auto [back, seen] = std::move(result).value();
        arena = std::move(back);
        RC_ASSERT(seen == bytes);
        edit(bytes, edits);
    }
    /// Makes several calls at once, so that several workers know the images.
    void burst() {
        using Applied = std::pair<Snapshot, Bytes>;
        std::vector<procrun::CallFuture<Applied>> futures;
        std::vector<std::pair<Bytes, Bytes>> expected;
        for (int i = *rc::gen::inRange(2, 6); i > 0; --i) {
            const auto& [snapshot, bytes] = snapshots_[any_snapshot()];
            const Edits edits = *any_edits(bytes.size());
            futures.push_back(pool_.async_apply(see_and_edit, snapshot, edits));
            expected.emplace_back(bytes, bytes);
            edit(expected.back().second, edits);
        }
        for (std::size_t i = 0; i < futures.size(); ++i) {
            auto result = futures[i].get();
            require_ok(result);
            auto [changed, seen] = std::move(result).value();
            RC_ASSERT(seen == expected[i].first);
            RC_ASSERT(tests::same_bytes(changed.bytes(), expected[i].second));
            if (i == 0) snapshots_.emplace_back(std::move(changed), std::move(expected[i].second));
        }
    }

    Pool& pool_;
    std::vector<std::pair<Snapshot, Bytes>> snapshots_;
    std::vector<std::pair<Arena, Bytes>> arenas_;
};

/// Waits until the joined watcher of the last case's pool is no longer listed in /proc.
void await_last_thread() {
    RC_ASSERT(tests::eventually([] { return vmcow::sys::count_running_threads() == 1; }));
}

RC_GTEST_PROP(PoolPropertyTest, AnyHistoryOfCallsGivesTheBytesOfADeepCopy, ()) {
    await_last_thread();
    const auto budget = *rc::gen::element<std::uint64_t>(2, 16384);
    Pool pool({.workers = *rc::gen::element<std::size_t>(1, 3), .resident_budget = vmcow::PageCount{budget}});
    Modelled modelled(pool, *rc::gen::element<std::size_t>(1, 5, 40), *rc::gen::inRange(1U, 1000U));
    const int steps = *rc::gen::inRange(1, 30);
    for (int i = 0; i < steps; ++i) {
        modelled.step();
        modelled.check();
    }
    modelled.freeze();
}

}  // namespace
