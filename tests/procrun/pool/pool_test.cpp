// Pool calls over images: read-only, private, lent and moved ones, Pool::apply, and what a call costs.
#include "procrun/pool.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/view.hpp"

namespace {

using procrun::CallOptions;
using procrun::CallPath;
using procrun::OutcomeKind;
using procrun::PathReason;
using procrun::Pool;
using procrun::PoolOptions;
using tests::counting_arena;
using tests::counting_snapshot;
using tests::is_counting;
using tests::kLongsInPage;
using tests::longs_in;
using tests::same_bytes;
using tests::sum_and_add;
using tests::workers;
using vmcow::Arena;
using vmcow::Snapshot;

/// Three pages and a bit, so that the object ends before the image does.
struct Table {
    std::array<long, 1600> rows;
};

/// The sum of the first longs of the first `pages` pages of a counting image.
long sum_of_firsts(std::size_t pages) {
    long sum = 0;
    for (std::size_t page = 0; page < pages; ++page) sum += static_cast<long>(page * kLongsInPage);
    return sum;
}

// ---- read-only images

TEST(PoolTest, ConstParameterSeesTheImage) {
    Pool pool;
    const Snapshot image = counting_snapshot(4);
    EXPECT_EQ(pool.call(tests::sum, image).value(), tests::sum(longs_in(image)));
    const auto by_reference = [](const Table& table) { return table.rows[1599]; };
    const auto result = pool.call(by_reference, image);
    EXPECT_EQ(result.value(), 1599);
    ASSERT_EQ(result.cost().images().size(), 1U);
    EXPECT_EQ(result.cost().images()[0].path, CallPath::alias);
    EXPECT_EQ(result.cost().images()[0].reason, PathReason::read_only_parameter);
    EXPECT_EQ(result.cost().copied->value, 0U);
}

// A function that casts const away must not be able to write, neither to a snapshot nor to a lent arena.
TEST(PoolTest, WriteThroughConstReferenceEndsTheCallAndNothingElse) {
    Pool pool(workers(1));
    const auto cheat = [](const Table& table) {
        tests::set_action(SIGSEGV, SIG_DFL);
        const_cast<Table&>(table).rows[3] = -1;
    };
    const Snapshot image = counting_snapshot(4);
    Arena arena = counting_arena(4);
    for (int round = 0; round < 2; ++round) {
        const auto of_snapshot = pool.call(cheat, image);
        EXPECT_EQ(of_snapshot.outcome().kind, OutcomeKind::signaled);
        EXPECT_EQ(of_snapshot.outcome().code, SIGSEGV);
        EXPECT_EQ(of_snapshot.outcome().text, "in the function");
        const auto of_arena = pool.call(cheat, arena);
        EXPECT_EQ(of_arena.outcome().kind, OutcomeKind::signaled);
        EXPECT_EQ(of_arena.outcome().code, SIGSEGV);
    }
    EXPECT_TRUE(is_counting(longs_in(image)));
    EXPECT_TRUE(is_counting(longs_in(arena)));
    EXPECT_EQ(pool.call(tests::sum, image).value(), tests::sum(longs_in(image)));
}

// The padding of the last page and the slot of the next image are no part of an alias.
TEST(PoolTest, SpanIsAsLongAsTheImage) {
    Pool pool;
    const Snapshot image = tests::snapshot_of(tests::noise(3 * vmcow::kPageBytes + 17));
    const auto size = [](std::span<const std::byte> bytes) { return bytes.size(); };
    const auto private_size = [](std::span<std::byte> bytes) { return bytes.size(); };
    EXPECT_EQ(pool.call(size, image).value(), image.extent_bytes());
    EXPECT_EQ(pool.call(private_size, image).value(), image.extent_bytes());
}

TEST(PoolTest, ImageSmallerThanTheParameterIsLengthError) {
    Pool pool;
    const Snapshot image = counting_snapshot(1);
    const auto read = [](const Table& table) { return table.rows[0]; };
    const auto write = [](Table& table) { table.rows[0] = 1; };
    EXPECT_THROW(static_cast<void>(pool.call(read, image)), std::length_error);
    EXPECT_THROW(static_cast<void>(pool.apply(write, image)), std::length_error);
    EXPECT_THROW(static_cast<void>(pool.async(read, image)), std::length_error);
    EXPECT_EQ(pool.call(tests::answer).value(), 42);
}

// ---- private images

TEST(PoolTest, WhatTheFunctionWritesStaysInTheCall) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(8);
    const auto by_reference = [](Table& table) { return table.rows[1000] *= 2; };
    const auto by_value = [](Table table) {
        for (long& row : table.rows) row += 1;
        return table.rows[1000];
    };
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(pool.call(by_reference, image).value(), 2000);
        EXPECT_EQ(pool.call(by_value, image).value(), 1001);
        EXPECT_EQ(pool.call(sum_and_add, image, std::size_t{8}, 5L).value(), sum_of_firsts(8));
        EXPECT_TRUE(is_counting(longs_in(image)));
    }
}

TEST(PoolTest, PrivateImageLiesAtTheCallersAddress) {
    Pool pool;
    const Snapshot image = counting_snapshot(4);
    Arena arena = counting_arena(4);
    const auto place = [](std::span<long> values) { return reinterpret_cast<std::uintptr_t>(values.data()); };
    EXPECT_EQ(pool.call(place, image).value(), reinterpret_cast<std::uintptr_t>(image.bytes().data()));
    EXPECT_EQ(pool.call(place, arena).value(), reinterpret_cast<std::uintptr_t>(arena.bytes().data()));
}

// The next call over the image must not see what a function wrote to it privately, not even after an exception.
TEST(PoolTest, ExceptionLeavesNoTraceInTheImage) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(4);
    const auto fail = [](std::span<long> values) {
        values[0] = 77;
        throw std::runtime_error("half done");
    };
    EXPECT_EQ(pool.call(fail, image).outcome().text, "half done");
    EXPECT_EQ(pool.apply(fail, image).outcome().kind, OutcomeKind::threw);
    EXPECT_EQ(pool.call(tests::sum, image).value(), tests::sum(longs_in(image)));
    EXPECT_EQ(pool.call(sum_and_add, image, std::size_t{4}, 0L).value(), sum_of_firsts(4));
}

// ---- several images

TEST(PoolTest, SameImageTwiceIsTwoPrivateCopiesAndOneAlias) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(4);
    const auto compare = [](std::span<long> a, std::span<const long> alias, std::span<long> b) {
        a[0] = 100;
        b[0] = 200;
        return std::array<long, 3>{a[0], alias[0], b[0]};
    };
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(pool.call(compare, image, image, image).value(), (std::array<long, 3>{100, 0, 200}));
    }
    EXPECT_TRUE(is_counting(longs_in(image)));
}

TEST(PoolTest, RelativesOfOneBaseAreToldApartInOneCall) {
    Pool pool(workers(1));
    const Snapshot first = counting_snapshot(6);
    const Snapshot second = pool.apply(tests::add_to_pages, first, std::size_t{2}, 1000L).value();
    const Snapshot third = pool.apply(tests::add_to_pages, second, std::size_t{4}, 1000L).value();
    const auto first_longs = [](std::span<const long> a, std::span<long> b, std::span<const long> c,
                                std::span<long> d) {
        return std::array<long, 4>{a[0], b[0], c[0], d[0]};
    };
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(pool.call(first_longs, first, second, third, first).value(), (std::array<long, 4>{0, 1000, 2000, 0}));
        EXPECT_EQ(pool.call(first_longs, third, third, second, second).value(),
                  (std::array<long, 4>{2000, 2000, 1000, 1000}));
        EXPECT_EQ(pool.call(first_longs, second, first, first, third).value(), (std::array<long, 4>{1000, 0, 0, 2000}));
    }
}

TEST(PoolTest, EightImagesGoIntoOneCallAndMoreThanAWorkerKeepsIntoMany) {
    Pool pool(workers(1));
    std::vector<Snapshot> images;
    for (std::size_t i = 0; i < 40; ++i) {
        images.push_back(tests::snapshot_of(tests::noise(vmcow::kPageBytes, static_cast<unsigned>(i + 1))));
    }
    using Bytes = std::span<std::byte>;
    const auto firsts = [](Bytes a, Bytes b, Bytes c, Bytes d, Bytes e, Bytes f, Bytes g, Bytes h) {
        const std::array<std::byte, 8> found{a[0], b[0], c[0], d[0], e[0], f[0], g[0], h[0]};
        for (const Bytes& each : {a, b, c, d, e, f, g, h}) std::memset(each.data(), 0, each.size());
        return found;
    };
    for (std::size_t i = 0; i + 7 < images.size(); i += 3) {
        const auto result = pool.call(firsts, images[i], images[i + 1], images[i + 2], images[i + 3], images[i + 4],
                                      images[i + 5], images[i + 6], images[i + 7]);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        for (std::size_t k = 0; k < 8; ++k) EXPECT_EQ(result.value()[k], images[i + k].bytes()[0]) << i << " " << k;
        EXPECT_EQ(result.cost().images().size(), 8U);
    }
}

// ---- lent arenas

TEST(PoolTest, LentArenaIsSeenAsItIsAtEachCall) {
    Pool pool(workers(1));
    Arena arena = counting_arena(8);
    for (long round = 1; round < 6; ++round) {
        for (std::size_t page = 0; page < 8; ++page) reinterpret_cast<long*>(arena.bytes().data())[page * 512] = round;
        EXPECT_EQ(pool.call(sum_and_add, arena, std::size_t{8}, 50L).value(), 8 * round);
        EXPECT_EQ(pool.call(tests::sum, arena).value(), tests::sum(longs_in(arena)));
        EXPECT_EQ(longs_in(arena)[0], round) << "the call has written to the caller's arena";
    }
}

TEST(PoolTest, LentArenaMayGrowBetweenCalls) {
    Pool pool(workers(1));
    Arena arena = counting_arena(2);
    for (int round = 0; round < 8; ++round) {
        const std::span<long> more = arena.allocate_array<long>(std::size_t{1} << (8 + round));
        for (long& value : more) value = round;
        EXPECT_EQ(pool.call(tests::sum, arena).value(), tests::sum(longs_in(arena)));
        EXPECT_EQ(pool.call(sum_and_add, arena, std::size_t{2}, 1L).value(), sum_of_firsts(2));
    }
    EXPECT_TRUE(is_counting(longs_in(arena).first(2 * kLongsInPage)));
    // No mapping in the worker may keep the owner from sealing the arena that it has lent.
    const Snapshot frozen = std::move(arena).freeze();
    EXPECT_EQ(pool.call(tests::sum, frozen).value(), tests::sum(longs_in(frozen)));
}

TEST(PoolTest, EmptyArenaIsLengthError) {
    Pool pool;
    Arena arena;
    EXPECT_THROW(static_cast<void>(pool.call(tests::sum, arena)), std::length_error);
    EXPECT_EQ(pool.call(tests::answer).value(), 42);
}

// ---- moved arenas

TEST(PoolTest, MovedArenaIsChangedInPlace) {
    Pool pool(workers(1));
    Arena arena = counting_arena(8);
    const std::byte* const at = arena.bytes().data();
    for (long round = 1; round <= 5; ++round) {
        auto result = pool.apply(sum_and_add, std::move(arena), std::size_t{8}, 1L);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        ASSERT_EQ(result.cost().images().size(), 1U);
        EXPECT_EQ(result.cost().images()[0].path, CallPath::moved);
        EXPECT_EQ(result.cost().images()[0].reason, PathReason::last_use);
        EXPECT_EQ(result.cost().copied->value, 0U);
        long before = 0;
        std::tie(arena, before) = std::move(result).value();
        EXPECT_EQ(before, sum_of_firsts(8) + 8 * (round - 1));
        EXPECT_EQ(arena.bytes().data(), at);
        EXPECT_EQ(longs_in(arena)[0], round);
        reinterpret_cast<long*>(arena.bytes().data())[1] = -round;  // the owner may write again
        EXPECT_EQ(pool.call(tests::sum, arena).value(), tests::sum(longs_in(arena)));
    }
}

// Sealing fails as long as any other process has the arena mapped writable.
TEST(PoolTest, MovedArenaCanBeFrozenAfterwards) {
    Pool pool(workers(2));
    for (int round = 0; round < 4; ++round) {
        Arena arena = counting_arena(4);
        arena = pool.apply(tests::add_to_pages, std::move(arena), std::size_t{4}, 1L).value();
        Arena other = counting_arena(2);
        other = pool.apply(tests::add_to_pages, std::move(other), std::size_t{2}, 2L).value();
        const Snapshot frozen = std::move(arena).freeze();
        const Snapshot other_frozen = std::move(other).freeze();
        EXPECT_EQ(longs_in(frozen)[0], 1);
        EXPECT_EQ(longs_in(other_frozen)[0], 2);
        EXPECT_EQ(pool.call(tests::sum, frozen).value(), tests::sum(longs_in(frozen)));
    }
}

TEST(PoolTest, MovedArenaGoesFromOneWorkerToAnother) {
    tests::Shared<std::atomic<bool>> go_on;
    Pool pool(workers(2));
    const auto busy = procrun::by_bytes([flag = go_on.get()] {
        while (!flag->load()) tests::sleep_ms(1);
        return ::getpid();
    });
    const auto work = [](std::span<long> values) {
        values[0] += 1;
        return ::getpid();
    };
    Arena arena = counting_arena(4);
    auto [back, first] = pool.apply(work, std::move(arena)).value();
    go_on->store(false);
    auto other_work = pool.async(busy);  // takes the worker that was used last
    auto [again, second] = pool.apply(work, std::move(back)).value();
    go_on->store(true);
    EXPECT_EQ(other_work.get().value(), first);
    EXPECT_NE(first, second);
    EXPECT_EQ(longs_in(again)[0], 2);
    const Snapshot frozen = std::move(again).freeze();
    EXPECT_EQ(longs_in(frozen)[0], 2);
}

TEST(PoolTest, MovedArenaOutlivesThePool) {
    Arena arena = counting_arena(4);
    {
        Pool pool(workers(1));
        arena = pool.apply(tests::add_to_pages, std::move(arena), std::size_t{1}, 9L).value();
    }
    EXPECT_EQ(longs_in(arena)[0], 9);
    EXPECT_EQ(longs_in(std::move(arena).freeze())[0], 9);
}

TEST(PoolTest, MovedArenaIsGoneWhenTheFunctionThrows) {
    Pool pool(workers(1));
    Arena arena = counting_arena(4);
    const auto fail = [](std::span<long> values) {
        values[0] = 1;
        throw std::runtime_error("no");
    };
    const auto result = pool.apply(fail, std::move(arena));
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_EQ(result.outcome().text, "no; the moved value is gone");
}

TEST(PoolTest, ArenaBesideAMovedOneIsReadAsItIs) {
    Pool pool(workers(1));
    Arena target = counting_arena(2);
    Arena lent = counting_arena(2);
    const auto copy = [](std::span<long> to, std::span<const long> from) { to[0] = from[1] + 7; };
    target = pool.apply(copy, std::move(target), lent).value();
    EXPECT_EQ(longs_in(target)[0], 8);
    EXPECT_TRUE(is_counting(longs_in(lent)));
}

// ---- apply

TEST(PoolTest, ApplyReturnsANewValueThatSharesWhatIsTheSame) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(100);
    const Snapshot changed = pool.apply(tests::add_to_pages, image, std::size_t{3}, 10L).value();
    EXPECT_TRUE(is_counting(longs_in(image)));
    EXPECT_EQ(changed.delta_pages().value, 3U);
    EXPECT_EQ(changed.page(vmcow::PageIndex{50}), image.page(vmcow::PageIndex{50}));
    std::vector<std::byte> expected = tests::copy_of(image.bytes());
    tests::add_to_pages({reinterpret_cast<long*>(expected.data()), expected.size() / sizeof(long)}, 3, 10);
    EXPECT_TRUE(same_bytes(changed.bytes(), expected));
}

TEST(PoolTest, ApplyThatChangesNothingReturnsTheSameSnapshot) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(10);
    const auto nothing = [](std::span<long> values) { return values[5]; };
    const auto same = [](std::span<long> values) {
        for (long& value : values) *static_cast<volatile long*>(&value) = value;
    };
    EXPECT_EQ(pool.apply(nothing, image).value().first.layers(), image.layers());
    const auto touched = pool.apply(same, image);
    EXPECT_EQ(touched.value().layers(), image.layers());
    EXPECT_EQ(touched.cost().copied->value, 10U);
    EXPECT_EQ(touched.cost().changed->value, 0U);
}

TEST(PoolTest, ChainOfAppliesIsAsDeepAsOneLikes) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(40);
    std::vector<std::byte> expected = tests::copy_of(image.bytes());
    Snapshot chain = image;
    for (std::size_t step = 1; step <= 20; ++step) {
        const Snapshot before = chain;
        chain = pool.apply(tests::add_to_pages, chain, step, 1L).value();
        EXPECT_TRUE(same_bytes(before.bytes(), expected));
        tests::add_to_pages({reinterpret_cast<long*>(expected.data()), expected.size() / sizeof(long)}, step, 1);
        ASSERT_TRUE(same_bytes(chain.bytes(), expected)) << "step " << step;
        EXPECT_LE(chain.delta_count(), vmcow::Layers::kMaxDeltas);
        EXPECT_EQ(pool.call(tests::sum, chain).value(), tests::sum(longs_in(chain)));
    }
    EXPECT_TRUE(is_counting(longs_in(image)));
    EXPECT_EQ(pool.call(sum_and_add, image, std::size_t{40}, 3L).value(), sum_of_firsts(40));
}

// More changed pages than the channel holds come back in a file.
TEST(PoolTest, ApplyMayChangeMorePagesThanTheChannelHolds) {
    Pool pool(workers(1));
    const std::size_t pages = procrun::detail::kOutboxPages.value + 100;
    const Snapshot image = counting_snapshot(pages);
    for (const std::size_t changed : {pages - 100, pages}) {
        const Snapshot result = pool.apply(tests::add_to_pages, image, changed, 1L).value();
        EXPECT_EQ(result.delta_pages().value, changed);
        EXPECT_EQ(pool.call(sum_and_add, result, pages, 0L).value(), sum_of_firsts(pages) + static_cast<long>(changed));
    }
    EXPECT_TRUE(is_counting(longs_in(image)));
}

// ---- what a call costs

TEST(PoolTest, PagesAreCopiedOnceAndRefreshedAfterwards) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(64);
    const CallOptions counting{.count_bytes = true};
    const auto first = pool.call(counting, sum_and_add, image, std::size_t{3}, 1L);
    ASSERT_EQ(first.cost().images().size(), 1U);
    EXPECT_EQ(first.cost().images()[0].path, CallPath::mapped);
    EXPECT_EQ(first.cost().images()[0].reason, PathReason::first_use);
    EXPECT_EQ(first.cost().copied->value, 3U);
    EXPECT_EQ(first.cost().refreshed->value, 0U);
    EXPECT_EQ(first.cost().changed->value, 3U);
    // 0, 512 and 1024 differ from their successors in the lowest byte alone.
    EXPECT_EQ(first.cost().changed_bytes, 3U);
    for (int round = 0; round < 3; ++round) {
        const auto again = pool.call(counting, sum_and_add, image, std::size_t{3}, 1L);
        EXPECT_EQ(again.cost().images()[0].path, CallPath::resident);
        EXPECT_EQ(again.cost().images()[0].reason, PathReason::refreshed);
        EXPECT_EQ(again.cost().copied->value, 0U);
        EXPECT_EQ(again.cost().refreshed->value, 3U);
        EXPECT_EQ(again.cost().changed->value, 3U);
        EXPECT_EQ(again.cost().changed_bytes, 3U);
        EXPECT_EQ(again.cost().images()[0].resident.value, 3U);
        EXPECT_EQ(again.value(), sum_of_firsts(3));
    }
}

TEST(PoolTest, ChainOfAppliesFindsWhatTheLastOneHasLeft) {
    Pool pool(workers(1));
    Snapshot chain = pool.apply(tests::add_to_pages, counting_snapshot(64), std::size_t{3}, 1L).value();
    for (int round = 0; round < 6; ++round) {
        auto result = pool.apply(tests::add_to_pages, chain, std::size_t{3}, 1L);
        EXPECT_EQ(result.cost().images()[0].path, CallPath::resident);
        EXPECT_EQ(result.cost().images()[0].reason, PathReason::same_as_left);
        EXPECT_EQ(result.cost().copied->value, 0U);
        EXPECT_EQ(result.cost().changed->value, 3U);
        chain = std::move(result).value();
    }
    EXPECT_EQ(longs_in(chain)[0], 7);
}

TEST(PoolTest, IdenticalPagesAreCountedApartFromChangedOnes) {
    Pool pool(workers(1));
    const Snapshot image = counting_snapshot(16);
    const auto write = [](std::span<long> values) {
        for (std::size_t page = 0; page < 6; ++page) {
            *static_cast<volatile long*>(&values[page * kLongsInPage]) = page < 4 ? -1 : values[page * kLongsInPage];
        }
    };
    const auto result = pool.call(CallOptions{.count_bytes = true}, write, image);
    EXPECT_EQ(result.cost().copied->value, 6U);
    EXPECT_EQ(result.cost().changed->value, 4U);
    // 0, 512, 1024 and 1536 are each replaced by eight bytes of 0xff.
    EXPECT_EQ(result.cost().changed_bytes, 32U);
}

TEST(PoolTest, MorePagesThanTheBudgetAreMappedAnew) {
    Pool pool({.workers = 1, .resident_budget = vmcow::PageCount{4}});
    const Snapshot image = counting_snapshot(64);
    EXPECT_EQ(pool.call(sum_and_add, image, std::size_t{20}, 1L).value(), sum_of_firsts(20));
    const auto again = pool.call(sum_and_add, image, std::size_t{20}, 1L);
    EXPECT_EQ(again.value(), sum_of_firsts(20));
    EXPECT_EQ(again.cost().copied->value, 20U);
    EXPECT_EQ(again.cost().refreshed->value, 0U);
}

TEST(PoolTest, BudgetIsTheWorkersAndTheImageUsedLongestAgoGivesWay) {
    PoolOptions options = workers(1);
    options.resident_budget = vmcow::PageCount{30};
    Pool pool(options);
    const Snapshot older = counting_snapshot(64);
    const Snapshot newer = counting_snapshot(64);
    EXPECT_EQ(pool.call(sum_and_add, older, std::size_t{20}, 1L).cost().worker_resident, vmcow::PageCount{20});
    EXPECT_EQ(pool.call(sum_and_add, newer, std::size_t{20}, 1L).cost().worker_resident, vmcow::PageCount{40});
    const auto kept = pool.call(sum_and_add, newer, std::size_t{20}, 1L);
    EXPECT_EQ(kept.cost().images()[0].path, CallPath::resident);
    EXPECT_EQ(kept.cost().worker_resident, vmcow::PageCount{20}) << "the older one's pages are gone";
    const auto again = pool.call(sum_and_add, older, std::size_t{20}, 1L);
    EXPECT_EQ(again.value(), sum_of_firsts(20));
    EXPECT_EQ(again.cost().images()[0].path, CallPath::mapped);
    EXPECT_EQ(again.cost().images()[0].reason, procrun::PathReason::first_use);
    EXPECT_EQ(again.cost().copied, vmcow::PageCount{20});
}

TEST(PoolTest, TimesOfACallAddUpToNoMoreThanTheWhole) {
    Pool pool(workers(1));
    const auto cost = pool.call(tests::sum, counting_snapshot(4)).cost();
    EXPECT_GT(cost.seconds, 0);
    EXPECT_GT(cost.running_seconds, 0);
    EXPECT_LE(cost.queue_seconds + cost.mapping_seconds + cost.running_seconds + cost.returning_seconds,
              cost.seconds + 1e-9);
}

}  // namespace
