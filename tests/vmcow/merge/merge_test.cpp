// Tests merging: what is taken from each side, conflicts, and rules for the elements of a type.
#include "vmcow/merge.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::noise;
using tests::Pages;
using tests::same_bytes;
using tests::zeros;

/// `below` with `values` written from `offset` on.
template <class T>
Snapshot with(const Snapshot& below, std::uint64_t offset, std::vector<T> values) {
    View view(below);
    std::memcpy(view.bytes().data() + offset, values.data(), values.size() * sizeof(T));
    return view.capture();
}

template <class T>
T value_at(const Snapshot& snapshot, std::uint64_t offset) {
    T value;
    std::memcpy(&value, snapshot.page(page_at(offset)) + offset % kPageBytes, sizeof(value));
    return value;
}

Snapshot with_pages(const Snapshot& below, const Pages& pages, std::byte mark) {
    View view(below);
    tests::write_pages(view, pages, mark);
    return view.capture();
}

/// Merges sides that set one T in the second page to `sides`, with the rule `by` for that T, and returns the T of the
/// result.
template <class T>
T merged_element(MergeBy by, T base, const std::vector<T>& sides) {
    constexpr std::uint64_t kAt = kPageBytes + 8 * sizeof(T);
    const Snapshot below = with<T>(zeros(2), kAt, {base});
    std::vector<Snapshot> snapshots;
    for (const T side : sides) snapshots.push_back(with<T>(below, kAt, {side}));
    const MergeResult result = merge(below, snapshots, {.rules = MergeRules({merge_rule<T>(kAt, 1, by)})});
    return value_at<T>(result.snapshot(), kAt);
}

std::string rejection(std::vector<MergeRule> rules) {
    try {
        const MergeRules checked(std::move(rules));
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "accepted";
}

TEST(MergeTest, TakesFromEachSideWhatItChanged) {
    const Snapshot base = tests::snapshot_of(noise(10 * kPageBytes));
    const Snapshot a = with<int>(base, 100, {1, 2});
    const Snapshot b = with<int>(base, 108, {3});
    const Snapshot c = with<int>(base, 5 * kPageBytes, {4});
    const MergeResult result = merge(base, {a, b, c});
    ASSERT_TRUE(result.ok());
    auto expected = tests::copy_of(base.bytes());
    const std::vector<int> first{1, 2, 3};
    std::memcpy(expected.data() + 100, first.data(), 12);
    const int last = 4;
    std::memcpy(expected.data() + 5 * kPageBytes, &last, 4);
    EXPECT_TRUE(same_bytes(result.snapshot().bytes(), expected));
}

TEST(MergeTest, CostsWhatWasChangedAndNotWhatThereIs) {
    const Snapshot base = zeros((std::size_t{64} << 20) / kPageBytes);
    const Snapshot a = with_pages(base, tests::run_of(100, 8), std::byte{1});
    const Snapshot b = with_pages(base, tests::run_of(107, 8), std::byte{1});
    const MergeResult result = merge(base, {a, b});
    const MergeCounts& counts = result.counts();
    EXPECT_EQ(counts.pages_compared, PageCount{16});
    EXPECT_EQ(counts.pages_changed, (std::vector<PageCount>{{8}, {8}}));
    EXPECT_EQ(counts.pages_taken, PageCount{14});
    EXPECT_EQ(counts.pages_joined, PageCount{1});
    EXPECT_EQ(counts.pages_copied, PageCount{15});
    EXPECT_EQ(result.snapshot().delta_pages(), PageCount{15});
    EXPECT_EQ(result.snapshot().layers()->shared_base(), base.layers()->shared_base());
}

TEST(MergeTest, OneSideThatChangedEverythingAloneIsTheResultItself) {
    const Snapshot base = zeros(10);
    const Snapshot side = with_pages(base, {1, 5}, std::byte{1});
    const MergeRules rules({merge_rule<int>(0, 1024, MergeBy::sum)});
    for (const auto& sides : {std::vector{side}, std::vector{base, side}, std::vector{side, base, base}}) {
        const MergeResult result = merge(base, sides, {.rules = rules});
        EXPECT_EQ(result.snapshot().layers(), side.layers());
        EXPECT_EQ(result.counts().pages_taken, PageCount{2});
        EXPECT_EQ(result.counts().pages_copied, PageCount{0});
    }
}

TEST(MergeTest, WithoutAChangeTheBaseIsTheResultItself) {
    const Snapshot base = with_pages(zeros(10), {1}, std::byte{3});
    EXPECT_EQ(merge(base, {}).snapshot().layers(), base.layers());
    EXPECT_EQ(merge(base, {base, base.flatten()}).snapshot().layers(), base.layers());
}

/// A page that equals the base after joining must not be in a delta (I6).
TEST(MergeTest, ChangesThatCancelOutLeaveTheBaseItself) {
    const Snapshot base = with<int>(zeros(2), 0, {10});
    const MergeRules rules({merge_rule<int>(0, 1, MergeBy::sum)});
    const MergeResult result = merge(base, {with<int>(base, 0, {13}), with<int>(base, 0, {7})}, {.rules = rules});
    EXPECT_TRUE(same_bytes(result.snapshot().bytes(), base.bytes()));
    EXPECT_EQ(result.snapshot().delta_count(), base.delta_count());
    EXPECT_EQ(result.counts().pages_copied, PageCount{0});
    EXPECT_EQ(result.counts().elements_joined, 1U);
}

TEST(MergeTest, SameChangeOnTwoSidesIsNoConflict) {
    const Snapshot base = zeros(2);
    const MergeResult result = merge(base, {with<int>(base, 40, {7}), with<int>(base, 40, {7})});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(value_at<int>(result.snapshot(), 40), 7);
}

TEST(MergeTest, ConflictNamesImageOffsetSidesAndBytes) {
    const Snapshot base = tests::snapshot_of(std::vector<std::byte>(2 * kPageBytes), {.name = "index"});
    const Snapshot a = with<std::uint8_t>(base, kPageBytes + 4, {1, 2, 3});
    const Snapshot b = with<std::uint8_t>(base, kPageBytes + 5, {2, 9, 9});
    const MergeResult result = merge(base, {base, a, b}, {.side_names = {"idle", "reader", "writer"}});
    ASSERT_FALSE(result.ok());
    const MergeConflict& conflict = result.conflict();
    EXPECT_EQ(conflict.image, "index");
    EXPECT_EQ(conflict.offset, kPageBytes + 6) << "byte 5 is the same on both";
    EXPECT_EQ(conflict.first.index, 1U);
    EXPECT_EQ(conflict.second.index, 2U);
    EXPECT_EQ(conflict.base_bytes, std::vector{std::byte{0}});
    EXPECT_EQ(conflict.describe(),
              "image 'index', byte 4102 in page 1: 'reader' has 03, 'writer' has 09, the base has 00");
}

TEST(MergeTest, ConflictShowsAtMostSixteenBytesAndOnlyThoseInConflict) {
    const Snapshot base = zeros(1);
    const Snapshot a = with<std::uint8_t>(base, 60, std::vector<std::uint8_t>(40, 0xab));
    const Snapshot b = with<std::uint8_t>(base, 60, std::vector<std::uint8_t>(40, 1));
    const Snapshot c = with<std::uint8_t>(base, 60, std::vector<std::uint8_t>(6, 1));
    EXPECT_EQ(merge(base, {a, b}).conflict().first.bytes, std::vector(16, std::byte{0xab}));
    const MergeConflict shorter = merge(base, {a, c}).conflict();
    EXPECT_EQ(shorter.second.bytes, std::vector(6, std::byte{1}));
    EXPECT_EQ(shorter.first.name, "side 0");
    EXPECT_EQ(shorter.second.name, "side 1");
    const MergeRules rules({merge_rule<std::uint8_t>(62, 100, MergeBy::last_wins)});
    EXPECT_EQ(merge(base, {a, b}, {.rules = rules}).conflict().base_bytes.size(), 2U);
}

TEST(MergeTest, ConflictIsTheFirstOneOfTheImageAndTheFirstSidesHaveIt) {
    const Snapshot base = zeros(9);
    const Snapshot a = with<int>(with<int>(base, 8 * kPageBytes, {1}), 200, {1});
    const Snapshot b = with<int>(with<int>(base, 8 * kPageBytes, {2}), 100, {2});
    const Snapshot c = with<int>(with<int>(base, 200, {2}), 100, {3});
    const Snapshot d = with<int>(base, 100, {4});
    const MergeConflict conflict = merge(base, {a, b, c, d}).conflict();
    EXPECT_EQ(conflict.offset, 100U);
    EXPECT_EQ(conflict.first.index, 1U);
    EXPECT_EQ(conflict.second.index, 2U);
}

TEST(MergeTest, ResultIsAsLongAsTheLongest) {
    const Snapshot base = tests::snapshot_of(noise(100));
    const std::vector<std::byte> page(kPageBytes, std::byte{5});
    const std::vector<PageIndex> third{{2}};
    const Snapshot grown(base.layers()->with_changes(
        third, [&](std::size_t) { return page.data(); }, Delta::stored_copy_of, 3 * kPageBytes));
    const Snapshot edited = with<int>(base, 0, {1});
    const MergeResult result = merge(base, {grown, edited});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.snapshot().extent_bytes(), 3 * kPageBytes);
    EXPECT_EQ(value_at<int>(result.snapshot(), 0), 1);
    EXPECT_EQ(value_at<int>(result.snapshot(), kPageBytes), 0);
    EXPECT_EQ(value_at<int>(result.snapshot(), 3 * kPageBytes - 4), 0x05050505);
    const Snapshot longer(base.layers()->with_changes({}, {}, Delta::stored_copy_of, 9 * kPageBytes));
    EXPECT_EQ(merge(base, {longer, base}).snapshot().layers(), longer.layers());
    EXPECT_EQ(merge(base, {longer, edited}).snapshot().extent_bytes(), 9 * kPageBytes);
    EXPECT_EQ(value_at<int>(merge(base, {longer, edited}).snapshot(), 0), 1);
}

TEST(MergeTest, ManyPagesThatSeveralSidesChangedAreJoinedAtEveryDepth) {
    Snapshot base = zeros(600);
    for (std::size_t depth = 0; depth <= Layers::kMaxDeltas; ++depth) {
        View left(base);
        View right(base);
        for (std::size_t page = 0; page < 600; page += 2) {
            left.bytes()[page * kPageBytes + depth] = std::byte{1};
            right.bytes()[page * kPageBytes + 1000 + depth] = std::byte{2};
        }
        const MergeResult result = merge(base, {left.capture(), right.capture()});
        ASSERT_TRUE(result.ok());
        EXPECT_EQ(result.counts().pages_joined, PageCount{300});
        for (std::size_t page = 0; page < 600; page += 2) right.bytes()[page * kPageBytes + depth] = std::byte{1};
        ASSERT_TRUE(same_bytes(result.snapshot().bytes(), right.bytes()));
        EXPECT_LE(result.snapshot().delta_count(), Layers::kMaxDeltas);
        base = result.snapshot();
    }
}

TEST(MergeTest, UnrelatedSidesAreMergedToo) {
    const Snapshot base = zeros(5);
    const MergeResult result = merge(base, {with<int>(base, 0, {1}).flatten(), with<int>(base, 8, {2})});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(value_at<int>(result.snapshot(), 0), 1);
    EXPECT_EQ(value_at<int>(result.snapshot(), 8), 2);
    EXPECT_EQ(result.counts().pages_compared, PageCount{6});
}

TEST(MergeTest, NoDescriptorLeftIsEmfileAndNothingIsLeftBehind) {
    const std::size_t pages = 2 * PageStore::kChunkBytes / kPageBytes;
    const Snapshot base = zeros(pages);
    const Snapshot a = with_pages(base, tests::run_of(0, pages / 2), std::byte{1});
    const Snapshot b = with_pages(base, tests::run_of(pages / 2, pages / 2), std::byte{2});
    const std::uint64_t used = PageStore::used_bytes();
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(merge(base, {a, b})); }), EMFILE);
    }
    EXPECT_EQ(PageStore::used_bytes(), used);
    EXPECT_TRUE(merge(base, {a, b}).ok());
}

TEST(MergeTest, NamesMustBeOneForEachSide) {
    const Snapshot base = zeros(1);
    EXPECT_THROW(static_cast<void>(merge(base, {base, base}, {.side_names = {"one"}})), std::invalid_argument);
}

TEST(MergeRulesTest, SumAddsTheDifferences) {
    EXPECT_EQ(merged_element<std::int32_t>(MergeBy::sum, 100, {110, 95, 100}), 105);
    EXPECT_EQ(merged_element<std::uint64_t>(MergeBy::sum, 5, {6, 7, 8}), 11U);
    EXPECT_EQ(merged_element<double>(MergeBy::sum, 1.5, {2.0, 1.0}), 1.5);
    EXPECT_EQ(merged_element<float>(MergeBy::sum, 1.0F, {2.0F, 4.0F}), 5.0F);
}

TEST(MergeRulesTest, SumOfIntegersWrapsAround) {
    EXPECT_EQ(merged_element<std::int8_t>(MergeBy::sum, 100, {120, 120}), -116);
    EXPECT_EQ(merged_element<std::uint8_t>(MergeBy::sum, 10, {5, 2}), 253);
    constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(merged_element<std::int64_t>(MergeBy::sum, kLargest - 1, {kLargest, kLargest}), -kLargest - 1);
}

/// The value must not be rounded through base + (side − base) when only one side changed it.
TEST(MergeRulesTest, WhatOneSideAloneChangedIsTakenAsItIs) {
    EXPECT_EQ(merged_element<double>(MergeBy::sum, 1e300, {1e300, 0.1}), 0.1);
    EXPECT_TRUE(std::isinf(merged_element<double>(MergeBy::sum, 0, {INFINITY, 0})));
    EXPECT_EQ(merged_element<int>(MergeBy::max, 10, {3, 10}), 3);
}

TEST(MergeRulesTest, LeastAndGreatestAreOfTheSidesThatChangedIt) {
    EXPECT_EQ(merged_element<int>(MergeBy::min, -50, {7, -3, 9}), -3);
    EXPECT_EQ(merged_element<int>(MergeBy::max, 50, {7, -3, 9}), 9);
    EXPECT_EQ(merged_element<std::uint32_t>(MergeBy::max, 1, {7, 0xffffffff}), 0xffffffff);
    EXPECT_EQ(merged_element<std::uint16_t>(MergeBy::min, 1, {7, 0x8000}), 7);
    EXPECT_EQ(merged_element<std::int16_t>(MergeBy::min, 1, {7, -0x8000}), -0x8000);
    EXPECT_EQ(merged_element<double>(MergeBy::min, 0, {-1.5, 3}), -1.5);
}

TEST(MergeRulesTest, NanLosesAgainstANumber) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    for (const MergeBy by : {MergeBy::min, MergeBy::max}) {
        EXPECT_EQ(merged_element<double>(by, 0, {kNan, 2}), 2);
        EXPECT_EQ(merged_element<double>(by, 0, {2, kNan}), 2);
        EXPECT_TRUE(std::isnan(merged_element<double>(by, 0, {kNan, kNan})));
    }
}

/// When two sides changed different bytes of a number, the result must be a number that one of them wrote.
TEST(MergeRulesTest, LastThatChangedAnElementWinsAllOfIt) {
    EXPECT_EQ(merged_element<std::uint32_t>(MergeBy::last_wins, 0, {0x11, 0x2200, 0}), 0x2200U);
    const Snapshot base = zeros(1);
    const auto result = merge(base, {with<std::uint32_t>(base, 0, {0x11}), with<std::uint32_t>(base, 0, {0x2200})});
    EXPECT_EQ(value_at<std::uint32_t>(result.snapshot(), 0), 0x2211U) << "without a rule each byte is for itself";
}

TEST(MergeRulesTest, RuleHoldsForItsElementsAndNoOther) {
    const Snapshot base = zeros(1);
    const Snapshot a = with<std::uint32_t>(base, 56, {1, 2, 3, 0});
    const Snapshot b = with<std::uint32_t>(base, 56, {10, 20, 30, 40});
    const auto merged = [&](std::uint64_t offset, std::uint64_t count) {
        return merge(base, {a, b}, {.rules = MergeRules({merge_rule<std::uint32_t>(offset, count, MergeBy::sum)})});
    };
    EXPECT_EQ(merged(60, 2).conflict().offset, 56U);
    EXPECT_EQ(merged(56, 2).conflict().offset, 64U);
    const MergeResult result = merged(56, 3);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.counts().elements_joined, 3U);
    for (const std::uint32_t i : {0U, 1U, 2U})
        EXPECT_EQ(value_at<std::uint32_t>(result.snapshot(), 56 + 4 * i), 11 * (i + 1));
    EXPECT_EQ(value_at<std::uint32_t>(result.snapshot(), 68), 40U);
}

TEST(MergeRulesTest, WhatIsNoRuleIsRejectedByItsBytes) {
    constexpr MergeBy kSum = MergeBy::sum;
    EXPECT_EQ(rejection({merge_rule<int>(4, 3, kSum), merge_rule<char>(16, 1, kSum), merge_rule<char>(3, 1, kSum)}),
              "accepted");
    EXPECT_EQ(rejection({merge_rule<double>(4, 1, kSum)}),
              "merge rule for bytes 4 to 12: it is not of aligned elements of 8 bytes");
    EXPECT_EQ(rejection({{{8, 7}, ElementType::u16, kSum}}),
              "merge rule for bytes 8 to 15: it is not of aligned elements of 2 bytes");
    EXPECT_EQ(rejection({{{8, 0}, ElementType::u8, kSum}}), "merge rule for bytes 8 to 8: it is empty");
    EXPECT_EQ(rejection({merge_rule<int>(8, 2, kSum), merge_rule<int>(0, 3, kSum)}),
              "merge rule for bytes 8 to 16: it overlaps that for bytes 0 to 12");
    EXPECT_EQ(rejection({merge_rule<char>(2, 1, kSum), merge_rule<char>(0, 3, kSum)}),
              "merge rule for bytes 2 to 3: it overlaps that for bytes 0 to 3");
    EXPECT_NE(rejection({{{~std::uint64_t{0} - 7, 16}, ElementType::u8, kSum}}), "accepted");
}

TEST(MergeRulesTest, RuleReachingPastTheImageIsRejected) {
    const Snapshot base = tests::snapshot_of(noise(10), {.name = "small"});
    const MergeRules rules({merge_rule<std::int64_t>(8, 1, MergeBy::sum)});
    try {
        static_cast<void>(merge(base, {base}, {.rules = rules}));
        ADD_FAILURE() << "accepted";
    } catch (const std::invalid_argument& error) {
        EXPECT_STREQ(error.what(), "merge rule for bytes 8 to 16: the image 'small' has 10 bytes");
    }
}

TEST(MergeRulesTest, ElementTypesHaveTheirSizes) {
    EXPECT_EQ(element_bytes(element_type<std::int8_t>()), 1U);
    EXPECT_EQ(element_bytes(element_type<std::uint16_t>()), 2U);
    EXPECT_EQ(element_bytes(element_type<float>()), 4U);
    EXPECT_EQ(element_bytes(element_type<double>()), 8U);
    static_assert(element_type<unsigned long long>() == ElementType::u64);
    static_assert(element_type<short>() == ElementType::i16);
    static_assert(element_type<float>() == ElementType::f32);
}

}  // namespace
