// Arguments and results of pool calls other than images: plain values, exceptions, functions and lambdas.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"

namespace {

using procrun::OutcomeKind;
using procrun::Pool;
using tests::workers;
using vmcow::Arena;
using vmcow::Snapshot;

using Row = std::pair<std::string, std::vector<double>>;

std::string repeat(const std::string& text, std::size_t times) {
    std::string result;
    for (std::size_t i = 0; i < times; ++i) result += text;
    return result;
}

std::vector<Row> reversed(std::vector<Row> rows) { return {rows.rbegin(), rows.rend()}; }

TEST(PoolValueTest, EveryKindOfValueGoesThereAndBack) {
    Pool pool(workers(1));
    EXPECT_EQ(pool.call(repeat, "ab", 3).value(), "ababab");
    EXPECT_EQ(pool.call(repeat, std::string(), 3U).value(), "");
    const std::vector<Row> rows{{"one", {1.5}}, {"", {}}, {"three", {1, 2, 3}}};
    EXPECT_EQ(pool.call(reversed, rows).value(), reversed(rows));
    const auto swap = [](std::tuple<int, std::string, std::pair<char, long>> all) {
        const auto& [number, text, pair] = all;
        return std::tuple(pair, text, number);
    };
    EXPECT_EQ(pool.call(swap, std::tuple(1, std::string("x"), std::pair('c', 5L))).value(),
              std::tuple(std::pair('c', 5L), std::string("x"), 1));
    const auto widen = [](double value, const std::array<short, 3>& more) { return value + more[2]; };
    EXPECT_EQ(pool.call(widen, 1, std::array<short, 3>{1, 2, 3}).value(), 4.0);
}

TEST(PoolValueTest, VoidFunctionHasAResultWithoutContent) {
    Pool pool(workers(1));
    const auto result = pool.call([] {});
    EXPECT_TRUE(result.ok());
    EXPECT_EQ(result.outcome().kind, OutcomeKind::returned);
    EXPECT_TRUE(result.outcome().ok());
}

TEST(PoolValueTest, LambdaBringsItsCaptures) {
    Pool pool(workers(1));
    struct Scale {
        double factor;
        std::array<int, 20> offsets;
    };
    Scale scale{2.5, {}};
    scale.offsets[19] = 7;
    for (int i = 0; i < 3; ++i) {
        scale.factor = i;
        EXPECT_EQ(
            pool.call(procrun::by_bytes([scale](double value) { return value * scale.factor + scale.offsets[19]; }),
                      4.0)
                .value(),
            4.0 * i + 7);
    }
    int counter = 0;
    const auto count = procrun::by_bytes([counter]() mutable { return ++counter; });
    EXPECT_EQ(pool.call(count).value(), 1);
    EXPECT_EQ(pool.call(count).value(), 1);
}

// The sizes lie around those at which arguments and results leave the channel for a file.
TEST(PoolValueTest, ArgumentsAndResultsMayHaveAnySize) {
    Pool pool(workers(1));
    const auto echo = [](const std::vector<std::byte>& bytes) { return bytes; };
    constexpr std::size_t kInline = procrun::detail::kInlineBytes;
    for (const std::size_t bytes :
         {std::size_t{0}, std::size_t{1}, kInline - 17, kInline - 16, kInline - 9, kInline - 8, kInline - 7, kInline,
          kInline + 1, 2 * kInline, std::size_t{10'000'000}, std::size_t{1}}) {
        const std::vector<std::byte> sent = tests::noise(bytes);
        const auto result = pool.call(echo, sent);
        ASSERT_TRUE(result.ok()) << bytes << ": " << result.outcome().describe();
        EXPECT_EQ(result.value(), sent) << bytes;
    }
}

TEST(PoolValueTest, LargeArgumentsGoTogetherWithNewImages) {
    Pool pool(workers(1));
    const std::vector<std::byte> sent = tests::noise(100'000);
    const auto both = [](std::span<const long> a, std::vector<std::byte> bytes, std::span<long> b) {
        return std::tuple(a[1], bytes, b[2]);
    };
    for (int round = 0; round < 20; ++round) {
        const Snapshot a = tests::counting_snapshot(2);
        const Snapshot b = tests::counting_snapshot(3);
        EXPECT_EQ(pool.call(both, a, sent, b).value(), std::tuple(1L, sent, 2L));
    }
}

TEST(PoolValueTest, ResultMayBeASnapshotThatWasMadeThere) {
    Pool pool(workers(1));
    const auto make = [](std::size_t pages) { return tests::counting_snapshot(pages); };
    const Snapshot made = pool.call(make, 5).value();
    EXPECT_EQ(made.extent_bytes(), 5 * vmcow::kPageBytes);
    EXPECT_TRUE(tests::is_counting(tests::longs_in(made)));
    EXPECT_EQ(pool.call(tests::sum, made).value(), tests::sum(tests::longs_in(made)));
    const auto make_many = [](std::string text) {
        std::vector<Snapshot> many;
        for (std::size_t i = 1; i <= 3; ++i) many.push_back(tests::counting_snapshot(i));
        return std::pair(repeat(text, 20'000), many);
    };
    const auto [text, many] = pool.call(make_many, "text").value();
    EXPECT_EQ(text, repeat("text", 20'000));
    ASSERT_EQ(many.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(many[i].page_count().value, i + 1);
}

TEST(PoolValueTest, ApplyReturnsTheImageAndASnapshotBesideIt) {
    Pool pool(workers(1));
    const auto work = [](std::span<long> values, std::size_t pages) {
        tests::add_to_pages(values, pages, 1);
        return tests::counting_snapshot(2);
    };
    // The changes of the first image come through the channel, those of the second in a file behind the snapshot's
    // file.
    for (const std::size_t pages : {std::size_t{3}, procrun::detail::kOutboxPages.value + 1}) {
        const Snapshot image = tests::counting_snapshot(pages);
        const auto [changed, beside] = pool.apply(work, image, pages).value();
        EXPECT_EQ(tests::longs_in(changed)[0], 1);
        EXPECT_EQ(changed.delta_pages().value, pages);
        EXPECT_TRUE(tests::is_counting(tests::longs_in(beside)));
    }
}

TEST(PoolValueTest, ExceptionIsAnOutcomeWithItsText) {
    Pool pool(workers(1));
    const auto fail = [](int kind) -> int {
        if (kind == 0) throw std::out_of_range("row 7 of 5");
        if (kind == 1) throw std::system_error(ENOENT, std::generic_category(), "open 'x'");
        if (kind == 2) throw 17;
        if (kind == 3) throw std::bad_alloc();
        throw std::runtime_error(std::string(200'000, 'x'));
    };
    const auto text = [&](int kind) {
        const auto result = pool.call(fail, kind);
        EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
        EXPECT_FALSE(result.ok());
        return result.outcome().text;
    };
    EXPECT_EQ(text(0), "row 7 of 5");
    EXPECT_EQ(text(1), "open 'x': No such file or directory");
    EXPECT_NE(text(2), "");
    EXPECT_EQ(text(3), "std::bad_alloc");
    EXPECT_EQ(text(4).substr(0, 1000), std::string(1000, 'x'));
    EXPECT_EQ(pool.status().workers, 1U) << "an exception does not cost the worker";
}

TEST(PoolValueTest, ValueOfAFailedCallThrowsItsOutcome) {
    Pool pool(workers(1));
    const auto result = pool.call([]() -> int { throw std::runtime_error("bad row"); });
    try {
        static_cast<void>(result.value());
        FAIL() << "no exception";
    } catch (const procrun::CallFailed& failed) {
        EXPECT_EQ(failed.outcome().kind, OutcomeKind::threw);
        EXPECT_NE(std::string(failed.what()).find("bad row"), std::string::npos);
    }
}

int calls_here = 0;

TEST(PoolValueTest, GlobalsAreTheWorkersOwn) {
    calls_here = 100;
    Pool pool(workers(1));
    calls_here = 200;
    const auto count = [] { return ++calls_here; };
    EXPECT_EQ(pool.call(count).value(), 101);
    EXPECT_EQ(pool.call(count).value(), 102);
    EXPECT_EQ(calls_here, 200);
}

// Bytes in the caller's stdio buffers when the pool is made must not be printed again by function processes.
TEST(PoolValueTest, PendingOutputOfTheCallerIsPrintedOnce) {
    const tests::TemporaryDirectory folder;
    const std::string path = folder / "out";
    EXPECT_EQ(tests::in_child([&] {
                  if (std::freopen(path.c_str(), "w", stdout) == nullptr) return 1;
                  std::fputs("once ", stdout);
                  Pool pool(workers(1));
                  const auto print = [] { return std::fputs("there ", stdout); };
                  for (int i = 0; i < 2; ++i) {
                      if (!pool.call(print).ok()) return 2;
                  }
                  return std::fflush(stdout) == 0 ? 0 : 3;
              }),
              tests::kChildExitedWell);
    const std::string printed = vmcow::sys::read_text_file(path);
    EXPECT_EQ(printed.find("once"), printed.rfind("once")) << printed;
    EXPECT_NE(printed.find("once"), std::string::npos) << printed;
    EXPECT_NE(printed.find("there there"), std::string::npos) << printed;
}

}  // namespace
