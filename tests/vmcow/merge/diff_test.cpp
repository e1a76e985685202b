// Tests differences between snapshots: exact ranges, and which pages are compared at all.
#include "vmcow/diff.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/byte_mask.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/merge/clipped_image.hpp"
#include "vmcow/view.hpp"

namespace vmcow {
// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const ByteRange& range, std::ostream* out) { *out << range.offset << "+" << range.bytes; }
}  // namespace vmcow

namespace {

using namespace vmcow;
using tests::noise;
using tests::Pages;
using tests::snapshot_of;
using tests::zeros;

using Ranges = std::vector<ByteRange>;

/// `below` with every byte of `ranges` changed.
Snapshot changed(const Snapshot& below, const Ranges& ranges) {
    View view(below);
    for (const ByteRange& range : ranges) {
        for (std::uint64_t at = range.offset; at < range.end(); ++at) view.bytes()[at] ^= std::byte{0xff};
    }
    return view.capture();
}

Snapshot with_pages(const Snapshot& below, const Pages& pages, std::byte mark = std::byte{1}) {
    View view(below);
    tests::write_pages(view, pages, mark);
    return view.capture();
}

/// The layers of `snapshot`, with an extent of `extent_bytes`.
Snapshot with_extent(const Snapshot& snapshot, std::uint64_t extent_bytes) {
    const Layers& layers = *snapshot.layers();
    return Snapshot(std::make_shared<const Layers>(layers.shared_base(), extent_bytes, layers.deltas()));
}

TEST(DiffTest, FindsEachRangeExactly) {
    const Snapshot base = snapshot_of(noise(8 * kPageBytes));
    const Ranges ranges{{0, 1}, {2, 1}, {7, 2}, {63, 2}, {128, 64}, {193, 200}, {kPageBytes - 1, 1}};
    const Diff found = diff(base, changed(base, ranges));
    EXPECT_EQ(found.ranges, ranges);
    EXPECT_EQ(found.changed_bytes, 1U + 1 + 2 + 2 + 64 + 200 + 1);
    EXPECT_EQ(found.pages, (std::vector<PageRun>{{{0}, {1}}}));
    EXPECT_TRUE(found.related);
    EXPECT_FALSE(found.empty());
}

TEST(DiffTest, RangeGoesOnOverTheEndOfAPage) {
    const Snapshot base = snapshot_of(noise(8 * kPageBytes));
    const Ranges ranges{{kPageBytes - 3, 2 * kPageBytes}, {5 * kPageBytes, kPageBytes}};
    const Diff found = diff(base, changed(base, ranges));
    EXPECT_EQ(found.ranges, ranges);
    EXPECT_EQ(found.pages, (std::vector<PageRun>{{{0}, {3}}, {{5}, {1}}}));
}

TEST(DiffTest, RelativesAreComparedOnlyWhereADeltaHasAPage) {
    const Snapshot base = zeros((std::size_t{64} << 20) / kPageBytes);
    Pages pages;
    for (std::uint64_t i = 0; i < 16; ++i) pages.insert(i * 1000 + 7);
    const Snapshot side = with_pages(base, pages);
    const Diff found = diff(base, side);
    EXPECT_TRUE(found.related);
    EXPECT_EQ(found.pages_compared, PageCount{16});
    EXPECT_EQ(found.pages_changed, PageCount{16});
    EXPECT_EQ(tests::pages_in(found.pages), pages);
}

/// Pages that two relatives have from one delta must not even be read.
TEST(DiffTest, PagesFromACommonDeltaAreNotCompared) {
    const Snapshot parent = with_pages(zeros(1000), tests::run_of(100, 500));
    const Snapshot a = with_pages(parent, {1, 101});
    const Snapshot b = with_pages(parent, {2, 101}, std::byte{9});
    const Diff found = diff(a, b);
    EXPECT_EQ(found.pages_compared, PageCount{3}) << "pages 1, 2 and 101";
    EXPECT_EQ(tests::pages_in(found.pages), (Pages{1, 2, 101}));
}

TEST(DiffTest, EqualPagesOfDifferentDeltasAreNoChange) {
    const Snapshot base = zeros(10);
    const Diff found = diff(with_pages(base, {3}), with_pages(base, {3}));
    EXPECT_EQ(found.pages_compared, PageCount{1});
    EXPECT_EQ(found.pages_changed, PageCount{0});
    EXPECT_TRUE(found.empty());
}

TEST(DiffTest, SnapshotDiffersFromItselfInNothing) {
    const Snapshot snapshot = with_pages(zeros(10), {3});
    const Snapshot copy = snapshot;
    const Diff found = diff(snapshot, copy);
    EXPECT_EQ(found.pages_compared, PageCount{0});
    EXPECT_TRUE(found.empty());
}

TEST(DiffTest, UnrelatedSnapshotsAreComparedInFullAndItSaysSo) {
    const Snapshot base = zeros(50);
    const Diff found = diff(base, with_pages(base, {3, 49}).flatten());
    EXPECT_FALSE(found.related);
    EXPECT_EQ(found.pages_compared, PageCount{50});
    EXPECT_EQ(tests::pages_in(found.pages), (Pages{3, 49}));
}

TEST(DiffTest, BytesBehindTheShorterExtentCountAsZero) {
    std::vector<std::byte> content(3 * kPageBytes, std::byte{1});
    content.back() = std::byte{0};
    const Snapshot longer = snapshot_of(content);
    const Snapshot unrelated = snapshot_of(std::span(content).first(100));
    const Ranges behind{{100, 3 * kPageBytes - 101}};
    for (const Snapshot& shorter : {with_extent(longer, 100), unrelated}) {
        const Diff found = diff(shorter, longer);
        EXPECT_EQ(found.ranges, behind);
        EXPECT_EQ(found.a_extent_bytes, 100U);
        EXPECT_EQ(found.b_extent_bytes, 3 * kPageBytes);
        EXPECT_EQ(diff(longer, shorter).ranges, behind);
    }
}

TEST(DiffTest, GrownByZerosDiffersInTheExtentAlone) {
    const Snapshot base = zeros(2);
    const Snapshot grown = with_extent(base, std::uint64_t{1} << 30);
    const Diff found = diff(base, grown);
    EXPECT_TRUE(found.ranges.empty());
    EXPECT_FALSE(found.empty());
    EXPECT_EQ(found.pages_compared, PageCount{0}) << "behind the base, zeros are known to be zeros";
}

/// Bytes of the last page behind the extent must not appear in a result.
TEST(DiffTest, PaddingIsNotCompared) {
    const Snapshot base = snapshot_of(noise(2 * kPageBytes));
    const Snapshot dirty = with_extent(changed(base, {{150, 10}, {kPageBytes + 5, 1}}), 100);
    EXPECT_TRUE(diff(with_extent(base, 100), dirty).empty());
}

TEST(DiffTest, EmptyImageDiffersFromAnotherInAllThatIsNotZero) {
    const Snapshot empty = snapshot_of({});
    EXPECT_TRUE(diff(empty, snapshot_of({})).empty());
    const std::vector<std::byte> content{std::byte{0}, std::byte{5}, std::byte{0}};
    EXPECT_EQ(diff(empty, snapshot_of(content)).ranges, (Ranges{{1, 1}}));
}

TEST(DiffTest, VisitorSeesThePagesOfBothSides) {
    const Snapshot base = zeros(10);
    const Snapshot side = with_pages(base, {4}, std::byte{7});
    std::vector<ChangedPage> seen;
    const DiffCounts counts = for_each_changed_page(base, side, [&](const ChangedPage& page) { seen.push_back(page); });
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].index, PageIndex{4});
    EXPECT_EQ(seen[0].a[17], std::byte{0});
    EXPECT_EQ(seen[0].b[17], std::byte{7});
    EXPECT_EQ(counts.pages_changed, PageCount{1});
}

TEST(DiffTest, ExceptionOfAVisitorComesThrough) {
    const Snapshot base = zeros(10);
    const Snapshot side = with_pages(base, {4, 5});
    EXPECT_THROW(for_each_change(base, side, [](const ByteRange&) { throw std::string("enough"); }), std::string);
}

TEST(ByteMaskTest, HasABitForEachByteThatDiffers) {
    const auto a = noise(kMaskedBytes);
    for (std::size_t i = 0; i < kMaskedBytes; ++i) {
        for (std::size_t j = i; j < kMaskedBytes; ++j) {
            for (const std::byte flip : {std::byte{1}, std::byte{0x80}, std::byte{0xff}}) {
                auto b = a;
                b[i] ^= flip;
                if (j != i) b[j] ^= flip;
                const std::uint64_t expected = (std::uint64_t{1} << i) | (std::uint64_t{1} << j);
                ASSERT_EQ(differing_mask(a.data(), b.data()), expected) << i << " " << j;
            }
        }
    }
    EXPECT_EQ(differing_mask(a.data(), a.data()), 0U);
}

TEST(ByteMaskTest, RangeHasItsBits) {
    EXPECT_EQ(mask_of(0, 64), ~std::uint64_t{0});
    EXPECT_EQ(mask_of(0, 1), 1U);
    EXPECT_EQ(mask_of(63, 64), std::uint64_t{1} << 63);
    EXPECT_EQ(mask_of(4, 8), 0xf0U);
}

TEST(ClippedImageTest, ReadsAsZeroBehindTheExtent) {
    const auto content = noise(2 * kPageBytes);
    const ClippedImage clipped(with_extent(snapshot_of(content), 100));
    const std::byte* const first = clipped.page({0});
    EXPECT_TRUE(tests::same_bytes({first, 100}, std::span(content).first(100)));
    for (std::size_t at = 100; at < kPageBytes; ++at) ASSERT_EQ(first[at], std::byte{0});
    for (const std::uint64_t page : {std::uint64_t{1}, std::uint64_t{1} << 40}) {
        for (std::size_t at = 0; at < kPageBytes; ++at) ASSERT_EQ(clipped.page({page})[at], std::byte{0});
    }
}

}  // namespace
