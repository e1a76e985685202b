// Tests workloads: their validation, the sequences of their writes, and the random numbers behind them.
#include "vmcow/meter/model/workload.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/meter/model/random.hpp"

namespace {

using namespace vmcow::meter;

constexpr std::uint64_t kLargestNumber = std::numeric_limits<std::uint64_t>::max();

constexpr Pattern kPatterns[] = {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot};

std::string rejection(const Workload& workload) {
    try {
        workload.validate();
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "";
}

std::vector<std::uint64_t> offsets(const Workload& workload) {
    std::vector<std::uint64_t> all;
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) all.push_back(sequence.next().offset);
    return all;
}

/// Checks that `count` of `draws` is within 4 σ of `probability`.
void expect_share(std::uint64_t count, std::uint64_t draws, double probability) {
    const auto n = static_cast<double>(draws);
    EXPECT_LE(std::abs(static_cast<double>(count) - n * probability),
              4 * std::sqrt(n * probability * (1 - probability)))
        << count << " of " << draws << ", expected " << n * probability;
}

TEST(WorkloadTest, DefaultIsValid) { EXPECT_EQ(rejection({}), ""); }

TEST(WorkloadTest, WhatMakesNoSenseIsRejectedByName) {
    const std::vector<std::pair<Workload, std::string>> cases = {
        {{.size_bytes = 0}, "image of 0 bytes"},
        {{.size_bytes = kLargestNumber}, "larger than an address space"},
        {{.writes = 0}, "0 writes"},
        {{.write_bytes = 0}, "write of 0 bytes"},
        {{.size_bytes = 7}, "a write of 8 bytes is larger than the image of 7"},
        {{.writes = kLargestNumber / 4}, "more than 64 bits can count"},
        {{.rewrite_same = -0.1}, "between 0 and 1"},
        {{.rewrite_same = 1.1}, "between 0 and 1"},
        {{.rewrite_same = std::nan("")}, "between 0 and 1"},
    };
    for (const auto& [workload, reason] : cases) {
        EXPECT_NE(rejection(workload).find(reason), std::string::npos) << rejection(workload) << "; not: " << reason;
    }
}

TEST(WorkloadTest, LimitsThemselvesAreValid) {
    EXPECT_EQ(rejection({.size_bytes = 8, .write_bytes = 8}), "");
    EXPECT_EQ(rejection({.writes = kLargestNumber / 8}), "");
    EXPECT_EQ(rejection({.rewrite_same = 1}), "");
}

RC_GTEST_PROP(WorkloadTest, EveryWriteIsInTheImageAndAlignedWhenAskedFor, ()) {
    const auto size =
        *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(1, 100), rc::gen::inRange<std::uint64_t>(4000, 300'000));
    const Workload workload{.size_bytes = size,
                            .writes = 500,
                            .write_bytes = *rc::gen::inRange<std::uint64_t>(1, size + 1),
                            .pattern = *rc::gen::elementOf(std::vector(std::begin(kPatterns), std::end(kPatterns))),
                            .aligned = *rc::gen::arbitrary<bool>(),
                            .seed = *rc::gen::arbitrary<std::uint64_t>()};
    workload.validate();
    for (const std::uint64_t offset : offsets(workload)) {
        RC_ASSERT(offset <= size - workload.write_bytes);
        if (workload.aligned) RC_ASSERT(offset % workload.write_bytes == 0U);
    }
}

TEST(WorkloadTest, SameSeedMakesTheSameWrites) {
    for (const Pattern pattern : kPatterns) {
        EXPECT_EQ(offsets({.writes = 1000, .pattern = pattern, .seed = 7}),
                  offsets({.writes = 1000, .pattern = pattern, .seed = 7}));
    }
}

TEST(WorkloadTest, AnotherSeedMakesOtherWrites) {
    for (const Pattern pattern : {Pattern::uniform, Pattern::zipf, Pattern::hot}) {
        EXPECT_NE(offsets({.writes = 1000, .pattern = pattern, .seed = 7}),
                  offsets({.writes = 1000, .pattern = pattern, .seed = 8}));
    }
}

TEST(WorkloadTest, SequentialWritesFollowEachOtherAndWrap) {
    EXPECT_EQ(offsets({.size_bytes = 30, .writes = 5, .write_bytes = 8, .pattern = Pattern::sequential}),
              (std::vector<std::uint64_t>{0, 8, 16, 0, 8}));
}

TEST(WorkloadTest, StrideWritesEachPageOnceALapBehindTheLastLap) {
    EXPECT_EQ(
        offsets({.size_bytes = std::uint64_t{3} * 4096, .writes = 7, .write_bytes = 24, .pattern = Pattern::stride}),
        (std::vector<std::uint64_t>{0, 4096, 8192, 24, 4120, 8216, 48}));
}

TEST(WorkloadTest, StrideWritesNoByteTwiceBeforeAllLapsAreDone) {
    const Workload workload{.size_bytes = std::uint64_t{5} * 4096 + 100,
                            .writes = std::uint64_t{5} * 170,
                            .write_bytes = 24,
                            .pattern = Pattern::stride};
    const std::vector<std::uint64_t> all = offsets(workload);
    EXPECT_EQ(std::set<std::uint64_t>(all.begin(), all.end()).size(), all.size());
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) static_cast<void>(sequence.next());
    EXPECT_EQ(sequence.next().offset, all.front());
}

TEST(WorkloadTest, HotWritesGoToTheFirstTenthNineTimesOfTen) {
    const Workload workload{.size_bytes = 10'000, .writes = 100'000, .write_bytes = 1, .pattern = Pattern::hot};
    const std::vector<std::uint64_t> all = offsets(workload);
    const auto hot = std::count_if(all.begin(), all.end(), [](std::uint64_t offset) { return offset < 1000; });
    expect_share(static_cast<std::uint64_t>(hot), workload.writes, 0.9);
}

TEST(WorkloadTest, ShareThatRewritesTheSameIsAsAskedFor) {
    for (const double share : {0.0, 0.1, 0.5, 1.0}) {
        const Workload workload{.writes = 100'000, .rewrite_same = share};
        WriteSequence sequence(workload);
        std::uint64_t same = 0;
        for (std::uint64_t i = 0; i < workload.writes; ++i) same += sequence.next().same ? 1U : 0U;
        expect_share(same, workload.writes, share);
    }
}

TEST(WorkloadTest, ShareThatRewritesTheSameMovesNoWrite) {
    EXPECT_EQ(offsets({.writes = 1000, .rewrite_same = 0.5}), offsets({.writes = 1000}));
}

// The C++ standard fixes the 10000th number of an engine with the default seed.
TEST(RandomTest, BoundedTakesTheTopOfTheEnginesNumber) {
    RandomEngine engine;
    engine.discard(9999);
    EXPECT_EQ(bounded(engine, std::uint64_t{1} << 32), 9981545732273789042U >> 32);
}

TEST(RandomTest, BoundedIsEvenAlsoWhereTheRangeDoesNotDivide) {
    // The range is three quarters of 2^64: without rejection, each third number would be twice as likely.
    constexpr std::uint64_t kRange = 3 * (std::uint64_t{1} << 62);
    constexpr std::uint64_t kDraws = 100'000;
    RandomEngine engine(1);
    std::map<std::uint64_t, std::uint64_t> counts;
    for (std::uint64_t i = 0; i < kDraws; ++i) {
        const std::uint64_t number = bounded(engine, kRange);
        ASSERT_LT(number, kRange);
        ++counts[number % 3];
    }
    for (std::uint64_t rest = 0; rest < 3; ++rest) expect_share(counts[rest], kDraws, 1.0 / 3);
}

TEST(RandomTest, UnitRealIsBelowOne) {
    RandomEngine engine(1);
    double sum = 0;
    for (int i = 0; i < 100'000; ++i) {
        const double number = unit_real(engine);
        ASSERT_GE(number, 0);
        ASSERT_LT(number, 1);
        sum += number;
    }
    EXPECT_NEAR(sum / 100'000, 0.5, 4 / std::sqrt(12.0 * 100'000));
}

TEST(RandomTest, ZipfRanksHaveTheirWeights) {
    for (const std::uint64_t ranks : {1U, 2U, 10U, 1000U}) {
        double sum = 0;
        for (std::uint64_t rank = 1; rank <= ranks; ++rank) sum += std::pow(static_cast<double>(rank), -0.99);
        constexpr std::uint64_t kDraws = 200'000;
        RandomEngine engine(1);
        const ZipfRanks zipf(ranks);
        std::map<std::uint64_t, std::uint64_t> counts;
        for (std::uint64_t i = 0; i < kDraws; ++i) {
            const std::uint64_t rank = zipf.draw(engine);
            ASSERT_GE(rank, 1U);
            ASSERT_LE(rank, ranks);
            ++counts[rank];
        }
        for (const std::uint64_t rank : {std::uint64_t{1}, std::uint64_t{2}, ranks / 2, ranks}) {
            if (rank == 0 || rank > ranks) continue;
            expect_share(counts[rank], kDraws, std::pow(static_cast<double>(rank), -0.99) / sum);
        }
    }
}

TEST(RandomTest, ScatterIsAPermutation) {
    for (std::uint64_t count = 1; count <= 1000; ++count) {
        const Scatter scatter(count);
        std::vector<bool> seen(count);
        for (std::uint64_t i = 0; i < count; ++i) {
            ASSERT_LT(scatter(i), count);
            seen[scatter(i)] = true;
        }
        ASSERT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<std::ptrdiff_t>(count));
    }
}

TEST(RandomTest, ScatterPutsNeighboursFarApart) {
    for (const std::uint64_t count : {100U, 4096U, 65536U, 1'000'003U}) {
        const Scatter scatter(count);
        for (std::uint64_t i = 0; i + 1 < 50; ++i) {
            const std::uint64_t a = scatter(i);
            const std::uint64_t b = scatter(i + 1);
            const std::uint64_t distance = a > b ? a - b : b - a;
            EXPECT_GT(std::min(distance, count - distance), count / 4);
        }
    }
}

}  // namespace
