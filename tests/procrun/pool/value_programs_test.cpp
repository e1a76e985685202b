// Programs with known answers: what they print, and which pages are copied for them.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/values_in_files.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value_merge.hpp"

namespace {

using procrun::CallPath;
using procrun::Pool;
using vmcow::PageCount;
using vmcow::Value;
using List = vmcow::vector<long>;

constexpr PageCount kNothing{0};
constexpr PageCount kOnePage{1};

std::string print(const List& list) {
    std::ostringstream out;
    out << '[';
    for (std::size_t i = 0; i < list.size(); ++i) out << (i == 0 ? "" : ", ") << list[i];
    return out.str() + "]";
}
std::string print(const Value<List>& value) { return print(*value); }

void append(Value<List>& to, const Value<List>& more) {
    to.edit([&](List& list) { list.insert(list.end(), more->begin(), more->end()); });
}
void append(Value<List>& to, long number) {
    to.edit([&](List& list) { list.push_back(number); });
}

void push(List& list, long number) { list.push_back(number); }
void double_first(List& list) { list.front() *= 2; }

PageCount pages_between(const Value<List>& a, const Value<List>& b) { return vmcow::diff(a, b).pages_changed; }

// ---- 1: a = [1, 2, 3]; b = a

TEST(ValueProgramsTest, ACopyPrintsTheSameAndCopiesNoPage) {
    const Value<List> a{1, 2, 3};
    const Value<List> b = a;
    EXPECT_EQ(print(a), "[1, 2, 3]");
    EXPECT_EQ(print(b), "[1, 2, 3]");
    EXPECT_EQ(a.changes().copied, kNothing);
    EXPECT_EQ(b.changes().copied, kNothing);
    EXPECT_EQ(&*a, &*b);
}

// a = a..[4]
TEST(ValueProgramsTest, AppendingToAValueOfOnesOwnIsDoneInPlace) {
    Value<List> a{1, 2, 3};
    const List* const at = &*a;
    append(a, 4);
    EXPECT_EQ(print(a), "[1, 2, 3, 4]");
    EXPECT_EQ(&*a, at);
    EXPECT_EQ(a.changes().copied, kNothing);
}

// b = a..[4], and a is used later
TEST(ValueProgramsTest, AppendingToACopyThatIsStillNeededCopiesOnce) {
    const Value<List> a{1, 2, 3};
    Value<List> b = a;
    append(b, 4);
    EXPECT_EQ(print(a), "[1, 2, 3]");
    EXPECT_EQ(print(b), "[1, 2, 3, 4]");
    EXPECT_EQ(b.changes().copied, kOnePage);
    EXPECT_EQ(pages_between(a, b), kOnePage);
}

// b = a..[4], and a is not used later
TEST(ValueProgramsTest, AppendingToWhatNobodyNeedsAnyMoreCopiesNothing) {
    Value<List> a{1, 2, 3};
    const List* const at = &*a;
    Value<List> b = std::move(a);
    append(b, 4);
    EXPECT_EQ(print(b), "[1, 2, 3, 4]");
    EXPECT_EQ(&*b, at);
    EXPECT_EQ(b.changes().copied, kNothing);
}

// a = a..b
TEST(ValueProgramsTest, WhatIsAppendedNeverChanges) {
    Value<List> a{1, 2};
    const Value<List> b{3, 4};
    const List* const at = &*b;
    append(a, b);
    append(a, b);
    append(a, a);
    EXPECT_EQ(print(a), "[1, 2, 3, 4, 3, 4, 1, 2, 3, 4, 3, 4]");
    EXPECT_EQ(print(b), "[3, 4]");
    EXPECT_EQ(&*b, at);
    EXPECT_EQ(a.changes().copied, kNothing);
}

// ---- 1 and 2: the same in another process

class ValueProgramsInPoolTest : public testing::Test {
protected:
    Pool pool_{tests::workers(2)};
};

// a = foo(a)
TEST_F(ValueProgramsInPoolTest, AssignedBackItIsChangedInPlaceInAnotherProcess) {
    Value<List> a = tests::in_file({1, 2, 3});
    const List* const at = &*a;
    auto result = pool_.apply(push, std::move(a), 4L);
    EXPECT_EQ(result.cost().images()[0].path, CallPath::moved);
    EXPECT_EQ(result.cost().copied, kNothing);
    a = std::move(result).value();
    EXPECT_EQ(print(a), "[1, 2, 3, 4]");
    EXPECT_EQ(&*a, at);
    EXPECT_EQ(a.changes().copied, kNothing);
}

// b = foo(a)
TEST_F(ValueProgramsInPoolTest, AssignedToAnotherOneItIsCopied) {
    const Value<List> a = tests::in_file({1, 2, 3});
    auto result = pool_.apply(push, a, 4L);
    EXPECT_EQ(result.cost().copied, kOnePage);
    const Value<List> b = std::move(result).value();
    EXPECT_EQ(print(a), "[1, 2, 3]");
    EXPECT_EQ(print(b), "[1, 2, 3, 4]");
    EXPECT_EQ(b.snapshot().delta_pages(), kOnePage);
    EXPECT_EQ(b.snapshot().layers()->shared_base(), a.snapshot().layers()->shared_base());
}

// a = foo(bar(a))
TEST_F(ValueProgramsInPoolTest, ThroughTwoCallsItIsChangedInPlaceTwice) {
    Value<List> a = tests::in_file({1, 2, 3});
    const List* const at = &*a;
    auto inner = pool_.apply(double_first, std::move(a));
    EXPECT_EQ(inner.cost().images()[0].path, CallPath::moved);
    auto outer = pool_.apply(push, std::move(inner).value(), 4L);
    EXPECT_EQ(outer.cost().images()[0].path, CallPath::moved);
    EXPECT_EQ(outer.cost().copied, kNothing);
    a = std::move(outer).value();
    EXPECT_EQ(print(a), "[2, 2, 3, 4]");
    EXPECT_EQ(&*a, at);
}

// b = foo(bar(a))
TEST_F(ValueProgramsInPoolTest, ThroughTwoCallsTheOriginalStaysAsItWas) {
    const Value<List> a = tests::in_file({1, 2, 3});
    auto inner = pool_.apply(double_first, a);
    EXPECT_EQ(inner.cost().copied, kOnePage);
    const Value<List> b = pool_.apply(push, std::move(inner).value(), 4L).value();
    EXPECT_EQ(print(a), "[1, 2, 3]");
    EXPECT_EQ(print(b), "[2, 2, 3, 4]");
    EXPECT_EQ(pages_between(a, b), kOnePage);
}

// A forked function forks another one; both see the caller's values.
TEST(ValueProgramsTest, AForkedFunctionMayForkAnother) {
    Value<List> a = tests::in_file({1, 2, 3});
    const auto foo = [](Value<List>& value) {
        return procrun::fork_call([&] {
                   append(value, 4);
                   return value;
               })
            .value();
    };
    const auto outer = procrun::fork_call([&] {
        Value<List> changed = foo(a);
        append(changed, 5);
        return std::pair(print(a), changed);
    });
    ASSERT_TRUE(outer.ok()) << outer.outcome().describe();
    EXPECT_EQ(outer.value().first, "[1, 2, 3]");
    EXPECT_EQ(print(outer.value().second), "[1, 2, 3, 4, 5]");
    EXPECT_EQ(print(a), "[1, 2, 3]");
}

TEST(ValueProgramsTest, AForkedFunctionCopiesThePageThatItAppendsTo) {
    Value<List> a = tests::in_file({1, 2, 3});
    const auto result = procrun::fork_call([&] {
        append(a, 4);
        return print(a);
    });
    EXPECT_EQ(result.value(), "[1, 2, 3, 4]");
    EXPECT_EQ(result.cost().copied, kOnePage);
    EXPECT_EQ(print(a), "[1, 2, 3]");
}

// ---- 3: async print(a); a[0] = 10; print(a)

/// Memory of the function and its caller in which the two wait for each other.
struct Gate {
    std::atomic<int> printed{0};
    std::atomic<int> changed{0};
};

class ValueAsyncProgramsTest : public testing::Test {
protected:
    tests::Shared<Gate> gate_;  // before the pool, so that the pool's processes share it
    Pool pool_{tests::workers(2)};

    static void change_first(Value<List>& a) {
        a.edit([](List& list) { list[0] = 10; });
    }
};

TEST_F(ValueAsyncProgramsTest, PrintedAfterTheChangeItIsStillTheValueOfBefore) {
    Value<List> a{1, 2, 3};
    const auto print_late = procrun::by_bytes([gate = gate_.get()](const List& list) {
        while (gate->changed.load() == 0) tests::sleep_ms(1);
        return print(list);
    });
    auto printed = pool_.async(print_late, a);
    change_first(a);
    gate_->changed.store(1);
    EXPECT_EQ(print(a), "[10, 2, 3]");
    EXPECT_EQ(printed.get().value(), "[1, 2, 3]");
    EXPECT_EQ(a.changes().copied, kOnePage);
}

TEST_F(ValueAsyncProgramsTest, PrintedBeforeTheChangeItIsTheSame) {
    Value<List> a{1, 2, 3};
    const auto print_and_say = procrun::by_bytes([gate = gate_.get()](const List& list) {
        std::string text = print(list);
        gate->printed.store(1);
        return text;
    });
    auto printed = pool_.async(print_and_say, a);
    ASSERT_TRUE(tests::eventually([&] { return gate_->printed.load() == 1; }));
    change_first(a);
    EXPECT_EQ(print(a), "[10, 2, 3]");
    EXPECT_EQ(printed.get().value(), "[1, 2, 3]");
}

TEST_F(ValueAsyncProgramsTest, EveryInterleavingPrintsTheSame) {
    const auto delay = [](int turns) {
        std::atomic<int> spins{0};
        while (spins.fetch_add(1) < turns * 500) continue;
    };
    const auto print_slowly = procrun::by_bytes([delay](const List& list, int turns) {
        delay(turns);
        std::string text = print(list);
        delay(turns);
        return text + print(list);
    });
    for (int round = 0; round < 300; ++round) {
        Value<List> a{1, 2, 3};
        auto printed = pool_.async(print_slowly, a, round * 7 % 40);
        auto again = pool_.async(print_slowly, a, round * 3 % 20);
        delay(round * 11 % 50);
        change_first(a);
        ASSERT_EQ(print(a), "[10, 2, 3]");
        auto last = pool_.async(print_slowly, std::move(a), 0);
        ASSERT_EQ(printed.get().value(), "[1, 2, 3][1, 2, 3]");
        ASSERT_EQ(again.get().value(), "[1, 2, 3][1, 2, 3]");
        ASSERT_EQ(last.get().value(), "[10, 2, 3][10, 2, 3]");
    }
}

// ---- 4: only a field or an item is changed

using Field = std::array<long, 4 * vmcow::kPageBytes / sizeof(long)>;
struct Record {
    Field first{};
    Field second{};
    Field third{};
};

TEST_F(ValueProgramsInPoolTest, WhoeverChangesAFieldCopiesThePagesOfThatField) {
    const Value<Record> a;
    const auto fill = [](Field& field) { field.fill(7); };
    const auto fill_second = [](Record& record) { record.second.fill(7); };
    auto of_whole = pool_.apply(fill_second, a);
    EXPECT_EQ(of_whole.cost().copied, PageCount{4});
    auto of_part = pool_.apply(fill, a.part(&Record::second));
    EXPECT_EQ(of_part.cost().changed, PageCount{4});
    for (const Value<Record>& b : {std::move(of_whole).value(), std::move(of_part).value()}) {
        EXPECT_EQ(b.snapshot().delta_pages(), PageCount{4});
        EXPECT_EQ(b->second[5], 7);
        EXPECT_EQ(b->third[5], 0);
        EXPECT_EQ(vmcow::diff(a, b).pages, (std::vector<vmcow::PageRun>{{{4}, {4}}}));
    }
    EXPECT_EQ(a->second[5], 0);
}

TEST_F(ValueProgramsInPoolTest, WhoeverChangesAnItemCopiesItsPage) {
    Value<vmcow::vector<List>> a;
    a.edit([](auto& lists) {
        lists.resize(8);
        for (List& list : lists) list.assign(4096, 1);
    });
    const auto change = [](vmcow::vector<List>& lists) { lists[5][1000] = 2; };
    auto result = pool_.apply(change, a);
    EXPECT_EQ(result.cost().copied, kOnePage);
    const auto b = std::move(result).value();
    EXPECT_EQ(b.snapshot().delta_pages(), kOnePage);
    const auto part = a.part([](const vmcow::vector<List>& lists) -> const List& { return lists[5]; });
    const auto change_item = [](std::span<long> list) { list[1000] = 2; };
    const auto c = pool_.apply(change_item, part).value();
    EXPECT_EQ(c.snapshot().delta_pages(), kOnePage);
    EXPECT_TRUE(vmcow::diff(b, c).empty());
    EXPECT_EQ(a->at(5)[1000], 1);
    Value<vmcow::vector<List>> d = a;
    d.edit([](auto& lists) { lists[5][1000] = 2; });
    EXPECT_EQ(d.changes().copied, kOnePage);
}

// ---- 6: a chain of pushes

TEST_F(ValueProgramsInPoolTest, AChainOfPushesOnAUniqueValueCopiesNothing) {
    Value<List> a = tests::in_file({1, 2, 3});
    Value<List> b = tests::in_file({1, 2, 3});
    for (long i = 0; i < 100; ++i) {
        append(a, i);
        auto result = pool_.apply(push, std::move(b), i);
        ASSERT_EQ(result.cost().copied, kNothing) << "push " << i;
        b = std::move(result).value();
    }
    EXPECT_EQ(a->size(), 103U);
    EXPECT_EQ(print(a), print(b));
    EXPECT_EQ(a.changes().copied, kNothing);
    EXPECT_EQ(b.changes().copied, kNothing);
}

// ---- the same with values that are so small that they are sent

TEST_F(ValueProgramsInPoolTest, ASmallValueIsSentThereAndBack) {
    Value<List> a{1, 2, 3};
    auto last_use = pool_.apply(push, std::move(a), 4L);
    EXPECT_EQ(last_use.cost().images()[0].path, CallPath::sent);
    EXPECT_EQ(last_use.cost().copied, kNothing);
    EXPECT_EQ(last_use.cost().changed, kOnePage);
    a = std::move(last_use).value();
    EXPECT_EQ(print(a), "[1, 2, 3, 4]");
    const Value<List> b = pool_.apply(double_first, a).value();
    EXPECT_EQ(print(a), "[1, 2, 3, 4]");
    EXPECT_EQ(print(b), "[2, 2, 3, 4]");
    const auto read = pool_.call([](const List& list) { return list.size(); }, b);
    EXPECT_EQ(read.value(), 4U);
    EXPECT_EQ(read.cost().images()[0].path, CallPath::sent);
    const auto by_value = pool_.call([](List list) { return list.push_back(5), list.back(); }, b);
    EXPECT_EQ(by_value.value(), 5);
    EXPECT_EQ(print(b), "[2, 2, 3, 4]");
}

TEST_F(ValueProgramsInPoolTest, ASmallValueThatNothingHasChangedIsTheSame) {
    const Value<List> a{1, 2, 3};
    const Value<List> b = pool_.apply([](List&) {}, a).value();
    EXPECT_EQ(&*a, &*b);
    const auto nothing = pool_.apply([](std::span<long>) {}, Value<long[]>());
    EXPECT_EQ(nothing.value().size(), 0U);
}

TEST_F(ValueProgramsInPoolTest, ASmallValueGrowsInACallPastAllThatIsSent) {
    for (const long count : {100L, 1'000L, 5'000L, 300'000L}) {
        Value<List> a{0};
        const auto grow = [](List& list, long to) {
            for (long i = 1; i < to; ++i) list.push_back(i);
        };
        a = pool_.apply(grow, std::move(a), count).value();
        ASSERT_EQ(a->size(), static_cast<std::size_t>(count));
        EXPECT_EQ(a->back(), count - 1);
        append(a, -1);
        EXPECT_EQ(a->back(), -1);
        EXPECT_EQ(pool_.call([](const List& list) { return list.back(); }, a).value(), -1);
    }
}

TEST_F(ValueProgramsInPoolTest, ManySmallValuesGoWithOneCallAsFarAsThereIsRoom) {
    const Value<long[]> a(std::size_t{1000});
    const auto sum = [](std::span<long> two, std::span<const long> one, std::span<const long> three,
                        std::span<long> four, std::span<const long> five) {
        two[0] = 2;
        four[0] = 4;
        return one[0] + two[0] + three[0] + four[0] + five[0];
    };
    auto result = pool_.apply(sum, a, a, a, a, a);
    const auto [two, four, total] = std::move(result).value();
    EXPECT_EQ(total, 6);
    EXPECT_EQ(two[0], 2);
    EXPECT_EQ(four[0], 4);
    EXPECT_EQ(a[0], 0);
}

TEST(ValueProgramsTest, OfAChainOfPushesOnAValueWithTwoHandlesTheFirstCopiesOnce) {
    Value<List> a{1, 2, 3};
    a.edit([](List& list) { list.reserve(300); });  // leaves room for all pushes on one page
    const Value<List> b = a;
    for (long i = 0; i < 100; ++i) {
        append(a, i);
        ASSERT_EQ(a.changes().copied, kOnePage) << "push " << i;
    }
    EXPECT_EQ(a->size(), 103U);
    EXPECT_EQ(print(b), "[1, 2, 3]");
}

// ---- 7: a recursion where every level writes every page

constexpr PageCount kAllPages{2048};

struct Deepest {
    std::uint64_t copied_pages = 0;
    std::uint64_t resident_bytes = 0;
};

std::uint64_t resident_bytes() { return vmcow::sys::read_smaps(0, std::size_t{1} << 47).resident_bytes; }

void write_every_page(std::span<long> longs, long level) {
    for (std::size_t i = 0; i < longs.size(); i += tests::kLongsInPage) longs[i] += level;
}

void recurse(Value<long[]> mine, long level, long levels, Deepest& deepest) {
    const long before = mine[0];
    mine.edit([&](std::span<long> longs) { write_every_page(longs, level); });
    deepest.copied_pages += mine.changes().copied.value;
    if (level < levels) {
        recurse(mine, level + 1, levels, deepest);
    } else {
        deepest.resident_bytes = resident_bytes();
    }
    EXPECT_EQ(mine[0], before + level);
    EXPECT_EQ(mine[(kAllPages.value - 1) * tests::kLongsInPage], before + level);
}

TEST(ValueProgramsTest, MemoryOfLevelsThatWriteEveryPageIsACopyEachAndComesBack) {
    constexpr long kLevels = 6;
    const Value<long[]> a(kAllPages.value * tests::kLongsInPage);
    const std::uint64_t before = resident_bytes();
    Deepest deepest;
    recurse(a, 1, kLevels, deepest);
    // The kernel copies each page for the first level. Then the view goes down with the value: what a level has written
    // is copied from it, for the version that stays behind.
    EXPECT_EQ(deepest.copied_pages, kAllPages.value);
    EXPECT_GE(deepest.resident_bytes, before + kLevels * kAllPages.bytes());
    EXPECT_LE(resident_bytes(), before + kAllPages.bytes()) << "more than one of " << kLevels << " copies is left";
    EXPECT_EQ(a[0], 0);
}

/// The sum of the pages that the levels below have copied; each level is a process.
std::uint64_t copied_by_levels(Value<long[]>& value, long level, long levels) {
    if (level > levels) return 0;
    const auto result = procrun::fork_call([&] {
        value.edit([&](std::span<long> longs) { write_every_page(longs, level); });
        const std::uint64_t below = copied_by_levels(value, level + 1, levels);
        const long expected = level * (level + 1) / 2;
        const bool mine_stayed = value[0] == expected && value[tests::kLongsInPage] == expected;
        return mine_stayed ? below : std::numeric_limits<std::uint64_t>::max() / 2;
    });
    return result.value() + result.cost().copied.value().value;
}

TEST(ValueProgramsTest, FunctionProcessesThatWriteEveryPageCostACopyEach) {
    constexpr long kLevels = 4;
    Value<long[]> a(kAllPages.value * tests::kLongsInPage);
    static_cast<void>(a.snapshot());
    EXPECT_EQ(copied_by_levels(a, 1, kLevels), kLevels * kAllPages.value);
    EXPECT_EQ(a[0], 0);
    EXPECT_EQ(a.changes().copied, kNothing);
}

}  // namespace
