// Tests values, which are copied in O(1), changed in place when they are not shared, and copied page by page otherwise.
#include "vmcow/value.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value_merge.hpp"

namespace {

using vmcow::Snapshot;
using vmcow::Value;
using Numbers = vmcow::vector<long>;

// NOLINTNEXTLINE(bugprone-exception-escape): containers of two heaps are assigned by copying, which may throw
struct Doc {
    vmcow::string title;
    vmcow::vector<int> words;
    vmcow::map<vmcow::string, vmcow::vector<int>> index;
};

const std::string kLong(100, 'x');

// ---- the README

TEST(ValueTest, ReadsLikeTheReadme) {
    Value<Doc> a;
    a.edit([](Doc& doc) {
        doc.title = "first";
        doc.words.push_back(1);
    });
    Value<Doc> b = a;
    b.edit([](Doc& doc) { doc.words.push_back(2); });
    EXPECT_EQ(a->words.size(), 1U);
    EXPECT_EQ(b->words.size(), 2U);
    EXPECT_EQ(b->title, "first");
}

// ---- copying

TEST(ValueTest, ACopyCopiesNoPage) {
    const Value<Numbers> a{1, 2, 3};
    const Value<Numbers> b = a;
    EXPECT_EQ(*a, (Numbers{1, 2, 3}));
    EXPECT_EQ(*b, (Numbers{1, 2, 3}));
    EXPECT_EQ(&a.read(), &b.read());
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{});
}

TEST(ValueTest, AUniqueValueIsChangedInPlace) {
    Value<Numbers> a{1, 2, 3};
    const Numbers* const before = &a.read();
    a.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(&a.read(), before);
    EXPECT_EQ(*a, (Numbers{1, 2, 3, 4}));
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{});
}

TEST(ValueTest, OneIsUniqueAgainWhenTheOtherHasEnded) {
    Value<Numbers> a{1, 2, 3};
    const Numbers* const before = &a.read();
    { const Value<Numbers> b = a; }
    a.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(&a.read(), before);
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{});
}

TEST(ValueTest, ASharedValueIsCopiedOnce) {
    const Value<Numbers> a{1, 2, 3};
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(*a, (Numbers{1, 2, 3}));
    EXPECT_EQ(*b, (Numbers{1, 2, 3, 4}));
    EXPECT_EQ(b.changes().copied, vmcow::PageCount{1});
}

TEST(ValueTest, AppendingOneToAnotherLeavesTheOtherAsItWas) {
    Value<Numbers> a{1, 2};
    const Value<Numbers> b{3};
    a.edit([&](Numbers& numbers) { numbers.insert(numbers.end(), b->begin(), b->end()); });
    EXPECT_EQ(*a, (Numbers{1, 2, 3}));
    EXPECT_EQ(*b, (Numbers{3}));
}

TEST(ValueTest, AHundredPushesOnAUniqueValueCopyNothing) {
    Value<Numbers> a{1, 2, 3};
    for (long i = 0; i < 100; ++i) a.edit([&](Numbers& numbers) { numbers.push_back(i); });
    EXPECT_EQ(a->size(), 103U);
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{});
}

TEST(ValueTest, OfAHundredPushesOnASharedValueTheFirstCopiesOnce) {
    Value<Numbers> a{1, 2, 3};
    a.edit([](Numbers& numbers) { numbers.reserve(256); });
    const Value<Numbers> b = a;
    a.edit([&](Numbers& numbers) { numbers.push_back(0); });
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{1});
    for (long i = 1; i < 100; ++i) a.edit([&](Numbers& numbers) { numbers.push_back(i); });
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{1});
    EXPECT_EQ(a->size(), 103U);
    EXPECT_EQ(b->size(), 3U);
}

TEST(ValueTest, OnlyThePagesOfAChangedItemAreCopied) {
    Value<long[]> a(std::size_t{1} << 20);
    const Value<long[]> b = a;
    a.edit([](std::span<long> longs) { longs[77'777] = 1; });
    EXPECT_EQ(a.changes().copied, vmcow::PageCount{1});
    EXPECT_EQ(a[77'777], 1);
    EXPECT_EQ(b[77'777], 0);
}

TEST(ValueTest, WhatWasReadStaysReadableWhileAnotherHandleMakesItselfPrivate) {
    const Value<Numbers> a{1, 2, 3};
    const Numbers& read = *a;
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.front() = 9; });
    EXPECT_EQ(read.front(), 1);
    EXPECT_EQ(&*a, &read);
}

TEST(ValueTest, AChainOfCopiesKeepsEveryState) {
    Value<Numbers> now{0};
    std::vector<Value<Numbers>> kept;
    for (long i = 1; i <= 20; ++i) {
        kept.push_back(now);
        now.edit([&](Numbers& numbers) { numbers.push_back(i); });
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
        ASSERT_EQ(kept[i]->size(), i + 1);
        EXPECT_EQ(kept[i]->back(), static_cast<long>(i));
    }
}

TEST(ValueDeathTest, ACopyWhileItIsEditedIsABug) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<int> a(std::in_place, 1);
    EXPECT_DEATH(a.edit([&](int&) { const Value<int> b = a; }), "while it is being edited");
}

TEST(ValueTest, AnExceptionLeavesWhatWasWritten) {
    Value<Numbers> a{1};
    const Value<Numbers> b = a;
    EXPECT_THROW(a.edit([](Numbers& numbers) {
        numbers.push_back(2);
        throw std::runtime_error("enough");
    }),
                 std::runtime_error);
    EXPECT_EQ(*a, (Numbers{1, 2}));
    EXPECT_EQ(*b, (Numbers{1}));
    const Value<Numbers> c = a;
    EXPECT_EQ(*c, (Numbers{1, 2}));
}

// ---- growing

TEST(ValueTest, GrowsPastItsFirstExtentWithoutMoving) {
    Value<Numbers> a;
    const std::uint64_t before = a.extent_bytes();
    const Numbers* const at = &a.read();
    a.edit([](Numbers& numbers) { numbers.resize(1'000'000, 7); });
    EXPECT_GT(a.extent_bytes(), before);
    EXPECT_EQ(&a.read(), at);
    EXPECT_EQ(std::accumulate(a->begin(), a->end(), 0L), 7'000'000);
}

TEST(ValueTest, GrowsPastTheImageThatItShares) {
    const Value<Numbers> a{1, 2, 3};
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.resize(1'000'000, 7); });
    const Value<Numbers> c = b;
    b.edit([](Numbers& numbers) { numbers.resize(2'000'000, 8); });
    EXPECT_EQ(*a, (Numbers{1, 2, 3}));
    EXPECT_EQ(c->size(), 1'000'000U);
    EXPECT_EQ(c->back(), 7);
    EXPECT_EQ(b->back(), 8);
    EXPECT_EQ(b->at(999'999), 7);
    EXPECT_EQ(Value<Numbers>::from_snapshot(b.snapshot())->size(), 2'000'000U);
}

TEST(ValueTest, PastItsReserveItIsFull) {
    Value<Numbers> a(vmcow::ValueOptions{.reserve_bytes = std::size_t{4} << 20});
    EXPECT_THROW(a.edit([](Numbers& numbers) { numbers.resize(1'000'000); }), std::bad_alloc);
    EXPECT_TRUE(a->empty());
    a.edit([](Numbers& numbers) { numbers.resize(100'000, 1); });
    EXPECT_EQ(a->size(), 100'000U);
}

TEST(ValueTest, AnArrayIsAppendedTo) {
    Value<int[]> a{1, 2};
    Value<int[]> b = a;
    a.append(3);
    b.append(std::vector<int>(100'000, 4));
    b.append(b.read().subspan(0, 2));
    EXPECT_TRUE(std::ranges::equal(a.read(), std::vector{1, 2, 3}));
    EXPECT_EQ(b.size(), 100'004U);
    EXPECT_EQ(b[100'003], 2);
}

TEST(ValueTest, AnEmptyArrayIsAValueToo) {
    Value<int[]> a;
    Value<int[]> b = a;
    b.append(1);
    EXPECT_EQ(a.size(), 0U);
    EXPECT_EQ(b.size(), 1U);
    EXPECT_EQ(Value<int[]>::from_snapshot(a.snapshot()).size(), 0U);
}

// ---- containers

TEST(ValueTest, NestedContainersLieInTheImage) {
    using Nested = vmcow::unordered_map<vmcow::string, vmcow::vector<Doc>>;
    Value<Nested> a;
    vmcow::string outside(kLong.c_str());
    const vmcow::vector<int> words{1, 2, 3};
    a.edit([&](Nested& nested) {
        Doc doc;
        doc.title = outside;
        doc.words = words;
        doc.index["k"].push_back(4);
        nested["one"].push_back(std::move(doc));
        nested[outside].resize(3);
        nested[outside][1].index["deep"].assign(1000, 5);
    });
    // At another address, every pointer still leads to its object.
    const auto b = Value<Nested>::from_snapshot(Snapshot(a.snapshot()).flatten());
    const Value<Nested> c = b;
    Value<Nested> d = c;
    d.edit([&](Nested& nested) { nested.erase("one"); });
    EXPECT_NE(&*d, &*a);
    EXPECT_EQ(a->at("one")[0].title, outside);
    EXPECT_EQ(d->count("one"), 0U);
    EXPECT_EQ(d->at(outside)[1].index.at("deep").size(), 1000U);
    EXPECT_EQ(a->at("one")[0].index.at("k")[0], 4);
}

TEST(ValueTest, AnElementThatIsMovedInIsCopiedIntoTheImage) {
    Value<vmcow::vector<vmcow::string>> a;
    vmcow::string outside(kLong.c_str());
    a.edit([&](auto& strings) { strings.push_back(std::move(outside)); });
    const auto at = reinterpret_cast<std::uintptr_t>(a->front().data());
    const auto image = reinterpret_cast<std::uintptr_t>(&*a);
    EXPECT_LT(at - image, a.extent_bytes());
    EXPECT_EQ(a->front(), kLong.c_str());
}

TEST(ValueTest, WhatIsCopiedOutLivesByItself) {
    Doc copy;
    {
        Value<Doc> a;
        a.edit([](Doc& doc) { doc.title = kLong.c_str(); });
        copy = *a;
    }
    EXPECT_EQ(copy.title, kLong.c_str());
}

TEST(ValueDeathTest, AStructMovedInWithMemoryFromElsewhereIsABugThatIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<vmcow::vector<Doc>> a;
    Doc outside;
    outside.title = kLong.c_str();
    EXPECT_DEATH(a.edit([&](auto& docs) { docs.push_back(std::move(outside)); }), "was moved into a value");
}

TEST(ValueDeathTest, AContainerThatOutlivesItsEditIsABugThatIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<Numbers> a;
    const auto keep = [&] {
        Numbers kept;
        a.edit([&](Numbers&) { kept.push_back(1); });
        kept.resize(1000);
    };
    EXPECT_DEATH(keep(), "outside of edit");
}

TEST(ValueTest, TwoValuesCanBeEditedAtOnce) {
    Value<vmcow::vector<Doc>> a;
    Value<vmcow::vector<Doc>> b;
    a.edit([&](vmcow::vector<Doc>& in_a) {
        b.edit([&](vmcow::vector<Doc>& in_b) {
            in_b.emplace_back().title = kLong.c_str();
            in_a.push_back(in_b.front());
            in_a.front().words.assign(100'000, 3);
        });
    });
    EXPECT_EQ(a->front().title, kLong.c_str());
    EXPECT_GT(a.extent_bytes(), b.extent_bytes());
    EXPECT_EQ(b->front().words.size(), 0U);
}

// ---- images that do not come from a value of this type

TEST(ValueTest, AnImageOfAnotherTypeIsRefused) {
    const Value<Numbers> a{1};
    const Value<int[]> array{1, 2, 3};
    EXPECT_THROW(static_cast<void>(Value<Doc>::from_snapshot(a.snapshot())), std::system_error);
    EXPECT_THROW(static_cast<void>(Value<Doc>::from_snapshot(array.snapshot())), std::system_error);
    EXPECT_THROW(static_cast<void>(Value<long[]>::from_snapshot(array.snapshot())), std::system_error);
    EXPECT_THROW(static_cast<void>(Value<double>::from_snapshot(array.snapshot())), std::system_error);
    EXPECT_EQ(Value<Numbers>::from_snapshot(a.snapshot())->front(), 1);
}

// ---- threads

TEST(ValueTest, HandlesInSeveralThreadsShareWithoutSeeingEachOther) {
    Value<Numbers> shared;
    shared.edit([](Numbers& numbers) { numbers.assign(50'000, 1); });
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (long id = 2; id < 6; ++id) {
        threads.emplace_back([&, mine = shared, id]() mutable {
            for (long round = 0; round < 20; ++round) {
                const Value<Numbers> before = mine;
                mine.edit([&](Numbers& numbers) { numbers[static_cast<std::size_t>(id * 5000 + round)] = id; });
                const long sum = std::accumulate(mine->begin(), mine->end(), 0L);
                if (sum != 50'000 + (id - 1) * (round + 1)) ++wrong;
                if (std::accumulate(before->begin(), before->end(), 0L) != sum - (id - 1)) ++wrong;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0);
    EXPECT_EQ(std::accumulate(shared->begin(), shared->end(), 0L), 50'000);
}

TEST(ValueTest, ReadersGoOnWhileTheImageIsFrozen) {
    for (int round = 0; round < 50; ++round) {
        Value<Numbers> a;
        a.edit([](Numbers& numbers) { numbers.assign(10'000, 3); });
        Value<Numbers> b = a;
        std::atomic<bool> stop{false};
        std::atomic<long> wrong{0};
        std::thread reader([&, mine = a] {
            while (!stop.load()) {
                if (std::accumulate(mine->begin(), mine->end(), 0L) != 30'000) ++wrong;
            }
        });
        b.edit([](Numbers& numbers) { numbers[0] = 1; });
        stop.store(true);
        reader.join();
        EXPECT_EQ(wrong.load(), 0);
    }
}

// ---- parts, differences, merges, files

TEST(ValueTest, SidesAreMergedAndAConflictNamesItsPlace) {
    struct Counters {
        long sum = 10;
        long most = 10;
        long last = 10;
        long own = 10;
    };
    const Value<Counters> base;
    Value<Counters> a = base;
    Value<Counters> b = base;
    a.edit([](Counters& counters) { counters = {12, 30, 1, 11}; });
    b.edit([](Counters& counters) { counters = {13, 20, 2, 10}; });
    const vmcow::MergeRules rules({vmcow::merge_rule(base.part(&Counters::sum), vmcow::MergeBy::sum),
                                   vmcow::merge_rule(base.part(&Counters::most), vmcow::MergeBy::max),
                                   vmcow::merge_rule(base.part(&Counters::last), vmcow::MergeBy::last_wins)});
    const auto merged = vmcow::merge(base, {a, b}, {.rules = rules});
    ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
    EXPECT_EQ(merged.value()->sum, 15);
    EXPECT_EQ(merged.value()->most, 30);
    EXPECT_EQ(merged.value()->last, 2);
    EXPECT_EQ(merged.value()->own, 11);
    const auto conflict = vmcow::merge(base, {a, b}, {.rules = {}, .side_names = {"left", "right"}});
    ASSERT_FALSE(conflict.ok());
    EXPECT_EQ(conflict.conflict().offset, offsetof(Counters, sum));
    EXPECT_NE(conflict.conflict().describe().find("'left'"), std::string::npos) << conflict.conflict().describe();
    EXPECT_EQ(vmcow::diff(base, b).changed_bytes, 3U);
}

TEST(ValueTest, IsSavedAndLoaded) {
    const tests::TemporaryDirectory folder;
    Value<Doc> a;
    a.edit([](Doc& doc) { doc.index["k"].assign(100'000, 1); });
    a.save(folder.path() / "whole");
    Value<Doc> b = Value<Doc>::load(folder.path() / "whole");
    EXPECT_EQ(b->index.at("k").size(), 100'000U);
    b.edit([](Doc& doc) { doc.index["k"][7] = 2; });
    EXPECT_EQ(b.changes().copied, vmcow::PageCount{1});
    const auto report = b.save(folder.path() / "delta", {.relative_to = folder.path() / "whole"});
    EXPECT_EQ(report.stored, vmcow::PageCount{1});
    EXPECT_EQ(Value<Doc>::load(folder.path() / "delta")->index.at("k")[7], 2);
    EXPECT_EQ(a->index.at("k")[7], 1);
    EXPECT_THROW(static_cast<void>(Value<Numbers>::load(folder.path() / "whole")), std::system_error);
}

}  // namespace
