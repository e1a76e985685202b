// Tests the model of copied pages against enumeration, direct sums, simulation and closed forms.
#include "vmcow/meter/model/model.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "vmcow/meter/model/occupancy.hpp"
#include "vmcow/meter/model/workload.hpp"

namespace {

using namespace vmcow::meter;

/// A place where a write may start, in bytes, and its probability, taken directly from the definition of the pattern.
struct Place {
    std::uint64_t offset;
    double probability;
};

std::vector<Place> places_of(const Workload& workload) {
    std::vector<Place> places;
    const std::uint64_t step = workload.aligned ? workload.write_bytes : 1;
    for (std::uint64_t at = 0; at + workload.write_bytes <= workload.size_bytes; at += step) places.push_back({at, 1});
    if (workload.pattern == Pattern::hot && places.size() > 1) {
        const std::size_t hot = std::max<std::size_t>(places.size() / 10, 1);
        for (std::size_t i = 0; i < places.size(); ++i) {
            places[i].probability =
                i < hot ? 0.9 / static_cast<double>(hot) : 0.1 / static_cast<double>(places.size() - hot);
        }
    }
    if (workload.pattern == Pattern::zipf) {
        const std::uint64_t per_page = std::max<std::uint64_t>(4096 / step, 1);
        const std::uint64_t pages = (places.size() - 1) / per_page + 1;
        const Scatter scatter(pages);
        for (std::uint64_t rank = 0; rank < pages; ++rank) {
            const std::size_t first = scatter(rank) * per_page;
            const std::size_t last = std::min<std::size_t>(first + per_page, places.size());
            for (std::size_t i = first; i < last; ++i) {
                places[i].probability =
                    std::pow(static_cast<double>(rank + 1), -0.99) / static_cast<double>(last - first);
            }
        }
    }
    double sum = 0;
    for (const Place& place : places) sum += place.probability;
    for (Place& place : places) place.probability /= sum;
    return places;
}

struct Moments {
    double mean = 0;
    double variance = 0;
};

/// The exact moments, from every possible sequence of writes.
Moments enumerate(const Workload& workload, std::uint64_t block_bytes) {
    const std::vector<Place> places = places_of(workload);
    std::vector<std::uint64_t> masks;
    for (const Place& place : places) {
        std::uint64_t mask = 0;
        for (std::uint64_t byte = 0; byte < workload.write_bytes; ++byte) {
            mask |= std::uint64_t{1} << ((place.offset + byte) / block_bytes);
        }
        masks.push_back(mask);
    }
    double first = 0;
    double second = 0;
    const auto go = [&](const auto& self, std::uint64_t left, std::uint64_t mask, double probability) -> void {
        if (left == 0) {
            const double count = __builtin_popcountll(mask);
            first += probability * count;
            second += probability * count * count;
            return;
        }
        for (std::size_t i = 0; i < places.size(); ++i) {
            self(self, left - 1, mask | masks[i], probability * places[i].probability);
        }
    };
    go(go, workload.writes, 0, 1);
    return {first, second - first * first};
}

testing::AssertionResult agrees(const Expectation& expected, const Moments& truth) {
    if (!expected.sigma) return testing::AssertionFailure() << "no deviation";
    // The model takes a variance below 1e-9 of the blocks as 0.
    const double variance = *expected.sigma * *expected.sigma;
    if (std::abs(expected.blocks - truth.mean) < 1e-9 &&
        std::abs(variance - truth.variance) < 1.1e-9 * (1 + truth.mean)) {
        return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << "expected " << expected.blocks << ", variance " << variance << "; it is "
                                       << truth.mean << ", variance " << truth.variance;
}

std::string described(const Workload& workload, std::uint64_t block_bytes) {
    return std::to_string(workload.writes) + " writes of " + std::to_string(workload.write_bytes) + " to " +
           std::to_string(workload.size_bytes) + (workload.aligned ? " aligned" : "") + ", " +
           name_of(workload.pattern) + ", blocks of " + std::to_string(block_bytes);
}

// Every image of at most 14 bytes, every length of a write and every size of a block. This covers the edges, a short
// last block, and writes longer than a block and than half the image.
TEST(ModelTest, TinyImagesAreExactlyAsEnumerated) {
    for (const Pattern pattern : {Pattern::uniform, Pattern::hot}) {
        for (const bool aligned : {false, true}) {
            for (std::uint64_t size = 1; size <= 14; ++size) {
                for (std::uint64_t length = 1; length <= size; ++length) {
                    for (std::uint64_t block = 1; block <= size + 1; ++block) {
                        for (std::uint64_t writes = 1; writes <= 3; ++writes) {
                            const Workload workload{.size_bytes = size,
                                                    .writes = writes,
                                                    .write_bytes = length,
                                                    .pattern = pattern,
                                                    .aligned = aligned};
                            ASSERT_TRUE(agrees(expect_copied(workload, block), enumerate(workload, block)))
                                << described(workload, block);
                        }
                    }
                }
            }
        }
    }
}

TEST(ModelTest, ZipfIsExactlyAsEnumerated) {
    for (const std::uint64_t length : {4096U, 5000U, 12288U}) {
        for (const std::uint64_t block : {2048U, 4096U, 8192U}) {
            for (const std::uint64_t size : {12288U, 50000U, 65536U, 100001U}) {
                const Workload workload{
                    .size_bytes = size, .writes = 3, .write_bytes = length, .pattern = Pattern::zipf, .aligned = true};
                ASSERT_TRUE(agrees(expect_copied(workload, block), enumerate(workload, block)))
                    << described(workload, block);
            }
        }
    }
}

/// The moments by the double sum of the definition over all pairs of blocks, without grouping.
Moments sum_all_pairs(const Workload& workload, std::uint64_t block_bytes) {
    const std::vector<Place> places = places_of(workload);
    const std::uint64_t blocks = (workload.size_bytes - 1) / block_bytes + 1;
    const auto touches = [&](const Place& place, std::uint64_t i) {
        return place.offset < (i + 1) * block_bytes && place.offset + workload.write_bytes > i * block_bytes;
    };
    const auto missed = [&](std::uint64_t i, std::uint64_t j) {
        double hit = 0;
        for (const Place& place : places) hit += touches(place, i) || touches(place, j) ? place.probability : 0;
        return std::pow(std::max(1 - hit, 0.0), static_cast<double>(workload.writes));
    };
    std::vector<double> single;
    for (std::uint64_t i = 0; i < blocks; ++i) single.push_back(missed(i, i));
    double variance = 0;
    for (std::uint64_t i = 0; i < blocks; ++i) {
        for (std::uint64_t j = 0; j < blocks; ++j) variance += missed(i, j) - single[i] * single[j];
    }
    const double mean = static_cast<double>(blocks) - std::accumulate(single.begin(), single.end(), 0.0);
    return {mean, variance};
}

// The numbers of writes make every order of the series in `expect_by_block` matter, and touch some blocks with
// certainty.
RC_GTEST_PROP(ModelTest, SmallImagesAreAsTheDefinitionSums, ()) {
    const auto size = *rc::gen::inRange<std::uint64_t>(1, 200);
    const Workload workload{
        .size_bytes = size,
        .writes = *rc::gen::element<std::uint64_t>(1, 2, 7, 40, 130, 500),
        .write_bytes = *rc::gen::inRange<std::uint64_t>(1, std::min<std::uint64_t>(size, 60) + 1),
        .pattern = *rc::gen::element(Pattern::uniform, Pattern::hot),
        .aligned = *rc::gen::arbitrary<bool>(),
    };
    const auto block = *rc::gen::inRange<std::uint64_t>(2, 40);
    const auto result = agrees(expect_copied(workload, block), sum_all_pairs(workload, block));
    if (!result) RC_FAIL(described(workload, block) + ": " + result.message());
}

RC_GTEST_PROP(ModelTest, ClosedFormEqualsTheSumOverBlocks, ()) {
    const auto size = *rc::gen::inRange<std::uint64_t>(1 << 16, 1 << 22);
    const Workload workload{.size_bytes = size,
                            .writes = *rc::gen::inRange<std::uint64_t>(1, 5000),
                            .write_bytes = *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(1, 64),
                                                           rc::gen::inRange<std::uint64_t>(1, size / 8))};
    const auto block = *rc::gen::element<std::uint64_t>(512, 4096, 65536);
    const Expectation closed = expect_uniform(workload, block);
    const Expectation summed = expect_by_block(workload, block);
    RC_ASSERT(std::abs(closed.blocks - summed.blocks) <= 1e-9 * closed.blocks);
    RC_ASSERT(std::abs(closed.sigma.value() - summed.sigma.value()) <= 1e-6 * (1 + closed.sigma.value()));
}

std::uint64_t simulate(const Workload& workload, std::uint64_t block_bytes) {
    std::vector<bool> touched((workload.size_bytes - 1) / block_bytes + 1);
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const std::uint64_t offset = sequence.next().offset;
        for (std::uint64_t block = offset / block_bytes; block * block_bytes < offset + workload.write_bytes; ++block) {
            touched[block] = true;
        }
    }
    return static_cast<std::uint64_t>(std::count(touched.begin(), touched.end(), true));
}

/// Simulates 3000 seeds: their mean must lie within 4 σ of the expected mean, and their deviation within 4 σ of the
/// expected deviation.
void expect_simulated(Workload workload, std::uint64_t block_bytes) {
    constexpr int kRuns = 3000;
    const Expectation expected = expect_copied(workload, block_bytes);
    ASSERT_TRUE(expected.sigma.has_value());
    double sum = 0;
    double squares = 0;
    for (int run = 0; run < kRuns; ++run) {
        workload.seed = static_cast<std::uint64_t>(run);
        const double difference = static_cast<double>(simulate(workload, block_bytes)) - expected.blocks;
        sum += difference;
        squares += difference * difference;
    }
    EXPECT_LT(std::abs(sum / kRuns), 4 * *expected.sigma / std::sqrt(kRuns)) << described(workload, block_bytes);
    EXPECT_NEAR(std::sqrt(squares / kRuns) / *expected.sigma, 1, 4 / std::sqrt(2.0 * kRuns))
        << described(workload, block_bytes);
}

TEST(ModelTest, SimulatedWritesHaveTheMeanAndTheDeviation) {
    for (const Pattern pattern : {Pattern::uniform, Pattern::zipf, Pattern::hot}) {
        for (const bool aligned : {false, true}) {
            for (const std::uint64_t length : {8U, 24U, 6000U}) {
                const Workload workload{.size_bytes = (1U << 20) + 777,
                                        .writes = 200,
                                        .write_bytes = length,
                                        .pattern = pattern,
                                        .aligned = aligned};
                expect_simulated(workload, 4096);
            }
        }
    }
    expect_simulated({.size_bytes = 100'000, .writes = 100, .write_bytes = 12}, 16);
    expect_simulated({.size_bytes = 8 << 20, .writes = 20, .write_bytes = 3 << 20}, 65536);
}

TEST(ModelTest, SequentialAndStrideAreCountedExactly) {
    for (const Pattern pattern : {Pattern::sequential, Pattern::stride}) {
        for (const bool aligned : {false, true}) {
            for (const std::uint64_t size : {1U, 4095U, 4096U, 12289U, 100'003U}) {
                for (const std::uint64_t length : {1U, 8U, 24U, 4097U, 9000U}) {
                    if (length > size) continue;
                    for (const std::uint64_t writes : {1U, 2U, 25U, 26U, 700U, 5000U}) {
                        for (const std::uint64_t block : {4U, 512U, 4096U, 65536U}) {
                            const Workload workload{size, writes, length, pattern, aligned};
                            const Expectation expected = expect_copied(workload, block);
                            ASSERT_EQ(expected.blocks, static_cast<double>(simulate(workload, block)))
                                << described(workload, block);
                            ASSERT_EQ(expected.sigma, 0.0);
                        }
                    }
                }
            }
        }
    }
}

// One write of 8 bytes touches a second page with probability f = 7 (N-1) / S, and nothing else is random.
TEST(ModelTest, OneWriteToALargeImageLosesNoDigits) {
    const Workload workload{.size_bytes = std::uint64_t{1} << 40, .writes = 1, .write_bytes = 8};
    const double second = 7.0 * ((1 << 28) - 1) / (0x1p40 - 7);
    const Expectation expected = expect_copied(workload);
    EXPECT_NEAR(expected.blocks, 1 + second, 1e-9);
    EXPECT_NEAR(*expected.sigma, std::sqrt(second * (1 - second)), 1e-6);
}

// A thousand million writes to as many places leave a share of e^-1 of the blocks untouched (Poisson). The variance is
// that of throwing balls into boxes: N (q - q^2 - q^2) to the first order, for q = e^-1.
TEST(ModelTest, AThousandMillionWritesLoseNoDigits) {
    constexpr std::uint64_t kBlocks = 1'000'000'000;
    const Workload workload{.size_bytes = kBlocks, .writes = kBlocks, .write_bytes = 1};
    const Expectation expected = expect_copied(workload, 1);
    const double missed = std::exp(-1.0);
    EXPECT_NEAR(expected.blocks / kBlocks, 1 - missed, 1e-9);
    EXPECT_NEAR(*expected.sigma / std::sqrt(kBlocks * (missed - 2 * missed * missed)), 1, 1e-6);
}

TEST(ModelTest, OneAlignedWriteIsCertain) {
    for (const Pattern pattern : {Pattern::uniform, Pattern::zipf, Pattern::hot}) {
        const Expectation expected =
            expect_copied({.size_bytes = 1 << 28, .writes = 1, .write_bytes = 8, .pattern = pattern, .aligned = true});
        EXPECT_NEAR(expected.blocks, 1, 1e-9) << name_of(pattern);
        EXPECT_EQ(*expected.sigma, 0) << name_of(pattern);
    }
}

TEST(ModelTest, DeviationThatTakesTooLongIsUnknown) {
    const Workload workload{.size_bytes = 1 << 30, .writes = 10, .write_bytes = 1 << 20, .pattern = Pattern::hot};
    const Expectation expected = expect_copied(workload);
    EXPECT_FALSE(expected.sigma.has_value());
    EXPECT_GT(expected.blocks, 256);
    EXPECT_LT(expected.blocks, 2570);
    EXPECT_EQ(residual_sigma(expected, 2000), std::nullopt);
}

TEST(ModelTest, ResidualIsInDeviations) {
    EXPECT_EQ(residual_sigma({100, 4.0}, 110), 2.5);
    EXPECT_EQ(residual_sigma({100, 4.0}, 90), -2.5);
    EXPECT_EQ(residual_sigma({100, std::nullopt}, 100), std::nullopt);
}

TEST(ModelTest, ResidualWithoutChanceIsZeroOrUnknown) {
    EXPECT_EQ(residual_sigma({100, 0.0}, 100), 0.0);
    EXPECT_EQ(residual_sigma({100 - 1e-10, 0.0}, 100), 0.0);
    EXPECT_EQ(residual_sigma({100, 0.0}, 101), std::nullopt);
}

}  // namespace
