// Versions that calls of a pool make: a worker goes from any of them to any other.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::Pool;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::PageStore;
using Words = vmcow::Value<std::uint64_t[]>;

constexpr std::size_t kPages = 1024;
constexpr std::size_t kWordsInPage = kPageBytes / sizeof(std::uint64_t);

void write_page(std::span<std::uint64_t> words, std::size_t page, std::uint64_t word) {
    words[page * kWordsInPage + 7] = word;
}

/// What the worker sees of the pages from `first` on.
std::uint64_t sum_of(std::span<const std::uint64_t> words) {
    std::uint64_t sum = 0;
    for (std::size_t page = 0; page < words.size() / kWordsInPage; ++page) sum += words[page * kWordsInPage + 7];
    return sum;
}

/// Reads, and writes to a page that it must not keep.
std::uint64_t sum_and_spoil(std::span<std::uint64_t> words) {
    const std::uint64_t sum = sum_of(words);
    words[500 * kWordsInPage + 7] = 1'000'000;
    return sum;
}

Words applied(Pool& pool, Words before, std::size_t page, std::uint64_t word) {
    auto result = pool.apply(write_page, std::move(before), page, word);
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
    return std::move(result).value();
}

std::vector<Words> versions(Pool& pool, std::size_t count) {
    std::vector<Words> kept;
    Words newest(kPages * kWordsInPage);
    for (std::size_t i = 0; i < count; ++i) {
        newest = applied(pool, newest, i % kPages, i + 1);
        kept.push_back(newest);
    }
    return kept;
}

TEST(PoolVersionsTest, EachHoldsAPage) {
    Pool pool(tests::workers(1));
    static_cast<void>(versions(pool, 1));
    const std::uint64_t used = PageStore::used_bytes();
    const std::vector<Words> kept = versions(pool, 600);
    EXPECT_LE(PageStore::used_bytes() - used, PageCount{600 + 8}.bytes());
    for (std::size_t i = 0; i < kept.size(); i += 50) {
        const auto sum = pool.call(sum_of, kept[i]);
        ASSERT_TRUE(sum.ok());
        EXPECT_EQ(sum.value(), (i + 1) * (i + 2) / 2) << i;
    }
}

// Thousands of pages lie in the view, and most of them are left alone by each call.
TEST(PoolVersionsTest, ManyPrivatePagesOfWhichFewChange) {
    Pool pool(tests::workers(1));
    const std::vector<Words> kept = versions(pool, kPages + 200);
    std::uint64_t expected = 0;
    for (std::size_t page = 0; page < kPages; ++page) expected += page < 200 ? kPages + page + 1 : page + 1;
    EXPECT_EQ(pool.call(sum_and_spoil, kept.back()).value(), expected);
    EXPECT_EQ(pool.call(sum_and_spoil, kept.back()).value(), expected) << "what a call spoils is restored";
    EXPECT_EQ(pool.call(sum_and_spoil, kept[10]).value(), std::uint64_t{66});
    EXPECT_EQ(pool.call(sum_and_spoil, kept.back()).value(), expected);
}

// More images than the budget has room for: those that were used longest ago are learnt again.
TEST(PoolVersionsTest, WorkerForgetsWhatItsBudgetHasNoRoomFor) {
    constexpr std::size_t kImages = 60;
    for (const std::size_t budget : {std::size_t{0}, std::size_t{256} * 20, std::size_t{256} * 1000}) {
        procrun::PoolOptions options = tests::workers(1);
        options.known_budget = budget;
        Pool pool(options);
        std::vector<Words> values;
        for (std::size_t i = 0; i < kImages; ++i) {
            values.emplace_back(4 * kWordsInPage);
            values.back().edit([&](std::span<std::uint64_t> words) { write_page(words, i % 4, i + 1); });
        }
        for (int round = 0; round < 3; ++round) {
            for (std::size_t i = 0; i < kImages; ++i) ASSERT_EQ(pool.call(sum_of, values[i]).value(), i + 1) << budget;
        }
        for (std::size_t i = 0; i < kImages; ++i) values[i] = applied(pool, values[i], 1, 1000 + i);
        for (std::size_t i = 0; i < kImages; ++i) {
            ASSERT_EQ(pool.call(sum_of, values[i]).value(), 1000 + i + (i % 4 == 1 ? 0 : i + 1)) << budget;
        }
    }
}

/// Any order of calls over any versions, changed here or there, gives what plain arrays give.
RC_GTEST_PROP(PoolVersionsPropertyTest, AnyHistoryIsAsItsModel, ()) {
    struct Known {
        Words value;
        std::vector<std::uint64_t> model;
    };
    Pool pool(tests::workers(1));
    std::vector<Known> known{{Words(kPages * kWordsInPage), std::vector<std::uint64_t>(kPages)}};
    const auto steps = *rc::gen::inRange(1, 40);
    for (int step = 0; step < steps; ++step) {
        const auto which = *rc::gen::inRange<std::size_t>(0, known.size());
        const auto page = *rc::gen::element<std::size_t>(0, 1, 2, 8, 300, 301, 500, 1023);
        const auto word = *rc::gen::inRange<std::uint64_t>(0, 4);
        const auto what = *rc::gen::inRange(0, 4);
        Known next = known[which];
        if (what == 0) {
            std::uint64_t sum = 0;
            for (const std::uint64_t each : next.model) sum += each;
            RC_ASSERT(pool.call(sum_and_spoil, next.value).value() == sum);
            continue;
        }
        if (what == 1) {
            next.value.edit([&](std::span<std::uint64_t> words) { write_page(words, page, word); });
        } else {
            next.value = applied(pool, next.value, page, word);
        }
        next.model[page] = word;
        known.push_back(std::move(next));
    }
    for (const Known& each : known) {
        for (std::size_t page = 0; page < kPages; ++page) {
            RC_ASSERT(each.value.snapshot().page({page})[7 * sizeof(std::uint64_t)] == std::byte(each.model[page]));
        }
    }
}

}  // namespace
