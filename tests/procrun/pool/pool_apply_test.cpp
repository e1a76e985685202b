// Pool::apply with functions that change several arguments: all of them come back.
#include <gtest/gtest.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"
#include "vmcow/view.hpp"

namespace {

using procrun::CallPath;
using procrun::CallResult;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::counting_arena;
using tests::counting_snapshot;
using tests::is_counting;
using tests::kLongsInPage;
using tests::longs_in;
using vmcow::Arena;
using vmcow::PageCount;
using vmcow::Snapshot;
using vmcow::Value;
using Numbers = vmcow::vector<long>;

void exchange_first(std::span<long> a, std::span<long> b) { std::swap(a[0], b[0]); }
/// Writes to the first `pages_of_a` pages of `a` and the first `pages_of_b` pages of `b`.
void mark(std::span<long> a, std::size_t pages_of_a, std::span<long> b, std::size_t pages_of_b) {
    for (std::size_t i = 0; i < pages_of_a; ++i) a[i * kLongsInPage] = -1;
    for (std::size_t i = 0; i < pages_of_b; ++i) b[i * kLongsInPage] = -2;
}

TEST(PoolApplyTest, TwoChangedImagesComeBack) {
    Pool pool(tests::workers(1));
    const Snapshot a = counting_snapshot(3);
    const Snapshot b = counting_snapshot(4);
    auto result =
        pool.apply([](std::span<long> one, std::span<long> two) { one[1] = 11, two[kLongsInPage] = 22; }, a, b);
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    static_assert(std::same_as<decltype(result), CallResult<std::tuple<Snapshot, Snapshot>>>);
    const auto& [first, second] = result.value();
    EXPECT_EQ(longs_in(first)[1], 11);
    EXPECT_EQ(longs_in(second)[kLongsInPage], 22);
    EXPECT_EQ(first.page_count(), PageCount{3});
    EXPECT_EQ(second.page_count(), PageCount{4});
    EXPECT_EQ(first.delta_pages(), PageCount{1});
    EXPECT_EQ(second.delta_pages(), PageCount{1});
    EXPECT_TRUE(is_counting(longs_in(a)));
    EXPECT_TRUE(is_counting(longs_in(b)));
    EXPECT_EQ(result.cost().changed, PageCount{2});
    EXPECT_EQ(result.cost().images()[0].changed, PageCount{1});
    EXPECT_EQ(result.cost().images()[1].changed, PageCount{1});
}

TEST(PoolApplyTest, WhatIsNotChangedIsTheImageThatWasGiven) {
    Pool pool(tests::workers(1));
    const Snapshot a = counting_snapshot(3);
    const Snapshot b = counting_snapshot(3);
    const auto only_second = [](std::span<long>, std::span<long> two) { two[0] = 1; };
    const auto [first, second] = pool.apply(only_second, a, b).value();
    EXPECT_EQ(first.layers(), a.layers());
    EXPECT_EQ(longs_in(second)[0], 1);
    const auto none = [](std::span<long>, std::span<long>) {};
    const auto [same, same_too] = pool.apply(none, a, b).value();
    EXPECT_EQ(same.layers(), a.layers());
    EXPECT_EQ(same_too.layers(), b.layers());
}

TEST(PoolApplyTest, WhatTheFunctionReturnsComesLast) {
    Pool pool(tests::workers(1));
    const auto work = [](std::span<long> a, const std::string& text, std::span<const long> read, std::span<long> b,
                         std::span<long> c) {
        a[0] = read[1];
        b[0] = 20;
        c[0] = 30;
        return text + "!";
    };
    const Snapshot image = counting_snapshot(1);
    const auto [a, b, c, text] = pool.apply(work, image, std::string("done"), image, image, image).value();
    EXPECT_EQ(longs_in(a)[0], 1);
    EXPECT_EQ(longs_in(b)[0], 20);
    EXPECT_EQ(longs_in(c)[0], 30);
    EXPECT_EQ(text, "done!");
    EXPECT_TRUE(is_counting(longs_in(image)));
}

TEST(PoolApplyTest, MovedImagesAreChangedInPlaceBesideSharedOnes) {
    Pool pool(tests::workers(1));
    Arena a = counting_arena(2);
    const Snapshot b = counting_snapshot(2);
    Arena c = counting_arena(2);
    const auto work = [](std::span<long> one, std::span<long> two, std::span<long> three) {
        ++one[0], ++two[0], ++three[0];
    };
    for (long i = 1; i <= 3; ++i) {
        auto result = pool.apply(work, std::move(a), b, std::move(c));
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.cost().images()[0].path, CallPath::moved);
        EXPECT_EQ(result.cost().images()[2].path, CallPath::moved);
        Snapshot changed = b;
        std::tie(a, changed, c) = std::move(result).value();
        EXPECT_EQ(longs_in(changed)[0], 1);
        EXPECT_EQ(longs_in(a)[0], i);
        EXPECT_EQ(longs_in(c)[0], i);
    }
    EXPECT_EQ(longs_in(std::move(a).freeze())[0], 3);
    EXPECT_EQ(longs_in(std::move(c).freeze())[0], 3);
}

TEST(PoolApplyTest, ChangesOfAnyLengthComeBackForEach) {
    constexpr std::size_t kMost = procrun::detail::kOutboxPages.value;
    Pool pool(tests::workers(1));
    const Snapshot a = counting_snapshot(kMost + 1);
    const Snapshot b = counting_snapshot(kMost + 1);
    using Counts = std::pair<std::size_t, std::size_t>;
    // The deltas fill the outbox to its last page, or one or both of them come in files.
    for (const auto& [of_a, of_b] :
         {Counts{1, 1}, Counts{kMost - 1, 1}, Counts{1, kMost - 1}, Counts{kMost, 1}, Counts{1, kMost},
          Counts{kMost + 1, 3}, Counts{3, kMost + 1}, Counts{kMost, kMost}, Counts{kMost + 1, kMost + 1}}) {
        SCOPED_TRACE(std::to_string(of_a) + " and " + std::to_string(of_b));
        const auto result = pool.apply(mark, a, of_a, b, of_b);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        const auto& [first, second] = result.value();
        EXPECT_EQ(first.delta_pages(), PageCount{of_a});
        EXPECT_EQ(second.delta_pages(), PageCount{of_b});
        for (std::size_t i = 0; i < kMost + 1; ++i) {
            const auto before = static_cast<long>(i * kLongsInPage);
            ASSERT_EQ(longs_in(first)[i * kLongsInPage], i < of_a ? -1 : before) << i;
            ASSERT_EQ(longs_in(second)[i * kLongsInPage], i < of_b ? -2 : before) << i;
        }
    }
}

TEST(PoolApplyTest, TwoValuesGrowAtOnce) {
    Pool pool(tests::workers(1));
    Value<Numbers> a{1};
    Value<Numbers> b{10};
    const auto push_both = [](Numbers& one, Numbers& two, std::size_t count) {
        one.resize(one.size() + count, 2);
        two.resize(two.size() + count, 20);
        return one.size() + two.size();
    };
    auto [kept_a, kept_b, size] = pool.apply(push_both, a, b, std::size_t{5000}).value();
    EXPECT_EQ(size, 10'002U);
    EXPECT_EQ(kept_a->back(), 2);
    EXPECT_EQ(kept_b->back(), 20);
    EXPECT_EQ(a->size(), 1U);
    std::tie(a, b, size) = pool.apply(push_both, std::move(a), std::move(b), std::size_t{5000}).value();
    EXPECT_EQ(a->size(), 5001U);
    EXPECT_EQ(b->size(), 5001U);
}

TEST(PoolApplyTest, AParameterByValueStaysInTheCall) {
    Pool pool(tests::workers(1));
    const Value<Numbers> a{1};
    const Value<Numbers> b{2, 3};
    const auto drain = [](Numbers& to, Numbers from) {
        for (; !from.empty(); from.pop_back()) to.push_back(from.back());
    };
    const Value<Numbers> changed = pool.apply(drain, a, b).value();
    EXPECT_EQ(*changed, (Numbers{1, 3, 2}));
    EXPECT_EQ(*b, (Numbers{2, 3}));
}

TEST(PoolApplyTest, APartAndAnotherValueComeBackAsValues) {
    Pool pool(tests::workers(1));
    const Value<long[]> a{1, 2, 3, 4};
    const Value<long[]> b{5, 6};
    const auto [first, second] = pool.apply(exchange_first, a.part(2, 2), b).value();
    EXPECT_EQ(first[2], 5);
    EXPECT_EQ(first[1], 2);
    EXPECT_EQ(second[0], 3);
}

TEST(PoolApplyTest, AsyncApplyBringsAllBack) {
    Pool pool(tests::workers(2));
    const Snapshot a = counting_snapshot(2);
    Arena marked = counting_arena(2);
    auto future = pool.async_apply([](std::span<long> one, std::span<long> two) { one[0] = 5, two[0] = 6; }, a,
                                   std::move(marked));
    const auto [first, second] = future.get().value();
    EXPECT_EQ(longs_in(first)[0], 5);
    EXPECT_EQ(longs_in(second)[0], 6);
}

TEST(PoolApplyTest, AllThatWereMovedAreGoneWhenTheFunctionThrows) {
    Pool pool(tests::workers(1));
    Arena a = counting_arena(2);
    Arena b = counting_arena(2);
    const Snapshot c = counting_snapshot(2);
    const auto fail = [](std::span<long> one, std::span<long>, std::span<long> three) {
        one[0] = three[0] = 1;
        throw std::runtime_error("no");
    };
    const auto result = pool.apply(fail, std::move(a), std::move(b), c);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_EQ(result.outcome().text, "no; the moved value is gone");
    EXPECT_TRUE(is_counting(longs_in(c)));
    EXPECT_EQ(pool.call(tests::answer).value(), 42);
}

// `value()` of a temporary must return by value: a reference into the temporary would dangle in this loop.
TEST(PoolApplyTest, OneCanGoOverTheResultOfACall) {
    static_assert(std::same_as<decltype(std::declval<CallResult<std::vector<int>>>().value()), std::vector<int>>);
    Pool pool(tests::workers(1));
    const auto words = [](int count) {
        return std::vector<std::string>(static_cast<std::size_t>(count), std::string(100, 'w'));
    };
    std::size_t letters = 0;
    for (const auto& word : pool.call(words, 1000).value()) letters += word.size();
    EXPECT_EQ(letters, 100'000U);
    long sum = 0;
    for (const long number : counting_snapshot(2).map_private().as<long>()) sum += number;
    EXPECT_EQ(sum, static_cast<long>(2 * kLongsInPage * (2 * kLongsInPage - 1) / 2));
    const Value<long[]> value{1, 2, 3};
    sum = 0;
    for (const long number : pool.apply(tests::add_to_pages, value, std::size_t{1}, 10L).value().read()) sum += number;
    for (const long number : value.part(0, 2).read()) sum += number;
    EXPECT_EQ(sum, 16 + 3);
}

TEST(PoolApplyDeathTest, AFutureWhoseResultWasTakenIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    Pool pool(tests::workers(1));
    auto future = pool.async(tests::answer);
    EXPECT_EQ(future.get().value(), 42);
    // NOLINTBEGIN(bugprone-use-after-move): the test uses the moved-from future.
    EXPECT_DEATH(static_cast<void>(future.get()), "procrun::CallFuture::get");
    auto other = pool.async(tests::answer);
    auto moved = std::move(other);
    EXPECT_DEATH(other.wait(), "procrun::CallFuture::wait: .*moved from");
    EXPECT_DEATH(other.cancel(), "procrun::CallFuture::cancel: .*moved from");
    // NOLINTEND(bugprone-use-after-move)
    EXPECT_EQ(moved.get().value(), 42);
}

}  // namespace
