// Values in pool calls: sharing, moving, lending, growing and parts.
#include <gtest/gtest.h>

#include <cctype>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/number_values.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/values_in_files.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::CallPath;
using procrun::Pool;
using tests::Numbers;
using tests::push;
using tests::sum_of;
using vmcow::PageCount;
using vmcow::Value;

void push_many(Numbers& numbers, std::size_t count, long number) { numbers.resize(numbers.size() + count, number); }
long pop_all(Numbers numbers) {
    long sum = 0;
    for (; !numbers.empty(); numbers.pop_back()) sum += numbers.back();
    return sum;
}

class PoolValuesTest : public testing::Test {
protected:
    Pool pool_{tests::workers(2)};
};

TEST_F(PoolValuesTest, AnAliasCopiesNothingAndLendsTheValue) {
    Value<Numbers> a = tests::in_file({1, 2, 3});
    const auto result = pool_.call(sum_of, a);
    EXPECT_EQ(result.value(), 6);
    EXPECT_EQ(result.cost().copied, PageCount{});
    EXPECT_EQ(result.cost().images()[0].path, CallPath::alias);
    const Numbers* const before = &*a;
    a.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(&*a, before);
    EXPECT_EQ(pool_.call(sum_of, a).value(), 10);
}

TEST_F(PoolValuesTest, AnAppliedValueIsAnotherOne) {
    const Value<Numbers> a = tests::in_file({1, 2, 3});
    const Value<Numbers> b = pool_.apply(push, a, 4L).value();
    EXPECT_EQ(*a, (Numbers{1, 2, 3}));
    EXPECT_EQ(*b, (Numbers{1, 2, 3, 4}));
    EXPECT_EQ(a.snapshot().layers()->shared_base(), b.snapshot().layers()->shared_base());
}

TEST_F(PoolValuesTest, AMovedValueIsChangedInPlaceInAnotherProcess) {
    Value<Numbers> a = tests::in_file({1, 2, 3});
    for (long i = 4; i < 100; ++i) {
        auto result = pool_.apply(push, std::move(a), i);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.cost().images()[0].path, CallPath::moved);
        EXPECT_EQ(result.cost().copied, PageCount{});
        a = std::move(result).value();
    }
    EXPECT_EQ(a->size(), 99U);
    EXPECT_EQ(a->back(), 99);
}

TEST_F(PoolValuesTest, AValueGrowsInAFunctionProcess) {
    Value<Numbers> a{1, 2, 3};
    const Value<Numbers> b = pool_.apply(push_many, a, std::size_t{500'000}, 7L).value();
    EXPECT_EQ(a->size(), 3U);
    EXPECT_EQ(b->size(), 500'003U);
    EXPECT_EQ(sum_of(*b), 6 + 3'500'000);
    const Value<Numbers> c = pool_.apply(push_many, b, std::size_t{1}, 1L).value();
    EXPECT_EQ(sum_of(*c), 7 + 3'500'000);
    a = pool_.apply(push_many, std::move(a), std::size_t{500'000}, 7L).value();
    a = pool_.apply(push_many, std::move(a), std::size_t{1'000'000}, 1L).value();
    EXPECT_EQ(sum_of(*a), 6 + 4'500'000);
    a.edit([](Numbers& numbers) { numbers.resize(3'000'000, 1); });
    EXPECT_EQ(pool_.call(sum_of, a).value(), 6 + 4'500'000 + 1'499'997);
}

TEST_F(PoolValuesTest, WhatAFunctionGrowsByItselfIsGoneAfterwards) {
    const Value<Numbers> a{1, 2, 3};
    const auto grow = [](Numbers& numbers) {
        numbers.resize(numbers.size() + 100'000, 1);
        return static_cast<long>(numbers.size());
    };
    for (int i = 0; i < 3; ++i) EXPECT_EQ(pool_.call(grow, a).value(), 100'003);
    EXPECT_EQ(pool_.call(sum_of, a).value(), 6);
}

TEST_F(PoolValuesTest, AValueTakenByValueIsMovedOutOfAPrivateMapping) {
    const Value<Numbers> a(Numbers(10'000, 2L));
    const auto result = pool_.call(pop_all, a);
    EXPECT_EQ(result.value(), 20'000);
    EXPECT_LE(result.cost().copied, PageCount{2});
    EXPECT_EQ(a->size(), 10'000U);
}

TEST_F(PoolValuesTest, AnAsynchronousCallSeesTheValueAsItWas) {
    Value<Numbers> a{1, 2, 3};
    auto before = pool_.async(sum_of, a);
    a.edit([](Numbers& numbers) { numbers[0] = 10; });
    auto after = pool_.async(sum_of, a);
    a.edit([](Numbers& numbers) { numbers[0] = 100; });
    EXPECT_EQ(before.get().value(), 6);
    EXPECT_EQ(after.get().value(), 15);
}

TEST_F(PoolValuesTest, AFunctionMakesAValue) {
    const auto make = [](std::size_t count) {
        Value<Numbers> made;
        made.edit([&](Numbers& numbers) { numbers.assign(count, 5); });
        return made;
    };
    const Value<Numbers> made = pool_.call(make, std::size_t{1000}).value();
    EXPECT_EQ(sum_of(*made), 5000);
}

TEST_F(PoolValuesTest, ArraysAndPlainObjectsAreTheirBytes) {
    Value<double[]> array(std::size_t{100'000});
    array.edit([](std::span<double> doubles) { std::iota(doubles.begin(), doubles.end(), 0.0); });
    const auto halve = [](std::span<double> doubles) {
        doubles[5] /= 2;
        return doubles[5];
    };
    auto [changed, half] = pool_.apply(halve, array).value();
    EXPECT_EQ(half, 2.5);
    EXPECT_EQ(changed[5], 2.5);
    EXPECT_EQ(array[5], 5.0);
    Value<int> number(std::in_place, 4);
    number = pool_.apply([](int& n) { ++n; }, std::move(number)).value();
    EXPECT_EQ(*number, 5);
}

TEST_F(PoolValuesTest, AMovedValueIsGoneWhenItsFunctionDies) {
    Value<Numbers> a{1};
    const Value<Numbers> b = a;
    const auto die = [](Numbers& numbers) {
        numbers.push_back(1);
        ::_exit(3);
    };
    // A shared value is not moved, so that the other handle is untouched.
    EXPECT_FALSE(pool_.apply(die, std::move(a)).ok());
    EXPECT_EQ(*b, (Numbers{1}));
    Value<Numbers> c{1};
    const auto result = pool_.apply(die, std::move(c));
    EXPECT_NE(result.outcome().text.find("moved value is gone"), std::string::npos) << result.outcome().describe();
    EXPECT_EQ(pool_.call(sum_of, b).value(), 1);
}

// ---- parts

struct Settings {
    long before = 1;
    long changed = 2;
    long after = 3;
};

TEST_F(PoolValuesTest, AFieldIsAnArgumentOfItsOwn) {
    const Value<Settings> a;
    const auto part = a.part(&Settings::changed);
    EXPECT_EQ(part.read(), 2);
    EXPECT_EQ(pool_.call([](const long& number) { return number; }, part).value(), 2);
    const Value<Settings> b = pool_.apply([](long& number) { number = 20; }, part).value();
    EXPECT_EQ(b->before, 1);
    EXPECT_EQ(b->changed, 20);
    EXPECT_EQ(b->after, 3);
    EXPECT_EQ(a->changed, 2);
}

TEST_F(PoolValuesTest, WhoeverGetsAPartFindsNothingOfTheRest) {
    const Value<Settings> a;
    const auto neighbours = [](long& number) { return (&number)[-1] + (&number)[1]; };
    EXPECT_EQ(pool_.call(neighbours, a.part(&Settings::changed)).value(), 0);
    const auto overwrite = [](long& number) { (&number)[-1] = (&number)[1] = 77; };
    const Value<Settings> b = pool_.apply(overwrite, a.part(&Settings::changed)).value();
    EXPECT_EQ(b->before + b->changed + b->after, 6);

    Value<long[]> array(std::size_t{1} << 16);
    array.edit([](std::span<long> longs) { std::iota(longs.begin(), longs.end(), 0); });
    const auto part = array.part(1000, 20'000);
    const auto sum = [](std::span<const long> longs) { return std::accumulate(longs.begin(), longs.end(), 0L); };
    EXPECT_EQ(pool_.call(sum, part).value(), (1000 + 20'999) * 10'000L);
    const auto before = [](std::span<long> longs) { return longs.data()[-1]; };
    EXPECT_EQ(pool_.call(before, part).value(), 0);
    const auto far_before = [](std::span<const long> longs) { return longs.data()[-600]; };
    EXPECT_EQ(pool_.call(far_before, part).outcome().kind, procrun::OutcomeKind::signaled);
    const auto far_behind = [](std::span<long> longs) { return longs.data()[longs.size() + 600]; };
    EXPECT_EQ(pool_.call(far_behind, part).outcome().kind, procrun::OutcomeKind::signaled);
}

TEST_F(PoolValuesTest, OfALargePartOnlyWhatIsChangedIsCopied) {
    Value<long[]> array(std::size_t{1} << 20);
    array.edit([](std::span<long> longs) { longs[500'000] = 5; });
    const auto add = [](std::span<long> longs) { return longs[400'000] += 2; };
    const auto result = pool_.apply(add, array.part(100'000, 900'000));
    EXPECT_EQ(result.cost().copied, PageCount{1});
    const auto& [changed, seen] = result.value();
    EXPECT_EQ(seen, 7);
    EXPECT_EQ(changed[500'000], 7);
    EXPECT_EQ(array[500'000], 5);
    EXPECT_EQ(changed.snapshot().delta_pages(), PageCount{1});
    // A part also has what lies in the deltas of its value.
    const auto again = pool_.apply(add, changed.part(100'000, 900'000));
    EXPECT_EQ(again.value().first[500'000], 9);
}

TEST_F(PoolValuesTest, APartThatLiesElsewhereIsOutOfRange) {
    const Value<long[]> array(std::size_t{100});
    EXPECT_THROW(static_cast<void>(array.part(100)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(array.part(50, 51)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(array.part(std::size_t{1} << 61, std::size_t{1} << 61)), std::out_of_range);
    static const long elsewhere = 1;
    const Value<Settings> a;
    EXPECT_THROW(static_cast<void>(a.part([](const Settings&) -> const long& { return elsewhere; })),
                 std::out_of_range);
}

struct Library {
    vmcow::string name;
    vmcow::vector<double> prices;
};

TEST_F(PoolValuesTest, TheElementsOfAContainerAreAPart) {
    Value<Library> a;
    a.edit([](Library& library) {
        library.name = "a name that is too long to lie in the object itself";
        library.prices.assign(10'000, 1.5);
    });
    const auto sum = [](std::span<const double> prices) { return std::accumulate(prices.begin(), prices.end(), 0.0); };
    EXPECT_EQ(pool_.call(sum, a.part(&Library::prices)).value(), 15'000.0);
    const auto raise = [](std::span<double> prices) { prices[7'000] = 100; };
    const Value<Library> b = pool_.apply(raise, a.part(&Library::prices)).value();
    EXPECT_EQ(b->prices[7'000], 100);
    EXPECT_EQ(a->prices[7'000], 1.5);
    const auto shout = [](std::span<char> text) {
        for (char& letter : text) letter = static_cast<char>(std::toupper(letter));
    };
    EXPECT_EQ(pool_.apply(shout, b.part(&Library::name)).value()->name,
              "A NAME THAT IS TOO LONG TO LIE IN THE OBJECT ITSELF");
}

// ---- many parts at once

TEST_F(PoolValuesTest, PartsAreChangedInParallelAndJoined) {
    Value<long[]> a(std::size_t{100'003});
    a.edit([](std::span<long> longs) { std::iota(longs.begin(), longs.end(), 0); });
    const auto add = [](std::span<long> longs, long amount) {
        for (long& each : longs) each += amount;
    };
    for (const std::size_t count : {1U, 2U, 3U, 7U, 64U}) {
        const auto result = pool_.map_parts(add, a, count, 5L);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        const Value<long[]>& b = result.value();
        ASSERT_EQ(b.size(), a.size());
        for (std::size_t i = 0; i < b.size(); i += 97) ASSERT_EQ(b[i], static_cast<long>(i) + 5);
        EXPECT_EQ(b[100'002], 100'007);
        EXPECT_EQ(b.snapshot().delta_pages(), vmcow::pages_of(100'003 * sizeof(long)));
    }
    EXPECT_EQ(a[7], 7);
}

TEST_F(PoolValuesTest, WhatThePartsReturnComesInTheirOrder) {
    Value<int[]> a(std::size_t{10'000});
    const auto mark = [](std::span<int> ints) {
        ints.front() = 1;
        return ints.size();
    };
    const auto result = pool_.map_parts(mark, a, 4);
    const auto& [b, sizes] = result.value();
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}), 10'000U);
    EXPECT_EQ(std::accumulate(b.read().begin(), b.read().end(), 0), static_cast<int>(sizes.size()));
    EXPECT_EQ(b.snapshot().delta_pages(), PageCount{sizes.size()});
}

TEST_F(PoolValuesTest, PartsThatShareAPageAreJoinedByTheirBytes) {
    const Value<int[]> a{1, 2, 3, 4, 5, 6};
    const std::vector parts{a.part(0, 2), a.part(2, 2), a.part(4, 2)};
    const auto negate = [](std::span<int> ints) {
        for (int& each : ints) each = -each;
    };
    const Value<int[]> b = pool_.map_parts(negate, parts).value();
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(b[i], -static_cast<int>(i) - 1);
}

TEST_F(PoolValuesTest, OnePartThatFailsIsTheOutcomeOfAll) {
    Value<int[]> a(std::size_t{10'000});
    a.edit([](std::span<int> ints) { ints[9'999] = 1; });
    const auto refuse = [](std::span<int> ints) {
        if (ints.back() == 1) throw std::runtime_error("not this one");
    };
    const auto result = pool_.map_parts(refuse, a, 4);
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(result.outcome().text, "not this one");
}

TEST_F(PoolValuesTest, AnEmptyArrayHasOneEmptyPart) {
    const Value<int[]> a;
    const auto result = pool_.map_parts([](std::span<int> ints) { return ints.size(); }, a, 4);
    EXPECT_EQ(result.value().second, std::vector<std::size_t>{0});
}

}  // namespace
