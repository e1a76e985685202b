// Tests parts of snapshots: the bytes that they hold, the bytes that they must not hold, and how they are put back.
#include "vmcow/value/snapshot_part.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/diff.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/view.hpp"

namespace {

using vmcow::ChangedPart;
using vmcow::kPageBytes;
using vmcow::put_back;
using vmcow::Snapshot;
using vmcow::SnapshotPart;
using vmcow::View;
using Bytes = std::vector<std::byte>;

/// The kinds of a whole; each has its own way of cutting a part out of it.
enum class Whole { base, deltas, many_deltas, grown, on_disk, delta_on_disk, part, part_of_deltas };
constexpr Whole kWholes[] = {Whole::base,    Whole::deltas,        Whole::many_deltas, Whole::grown,
                             Whole::on_disk, Whole::delta_on_disk, Whole::part,        Whole::part_of_deltas};

void write_noise(View& view, std::size_t at, std::size_t bytes, unsigned seed) {
    const Bytes noise = tests::noise(bytes, seed);
    std::copy(noise.begin(), noise.end(), view.bytes().begin() + static_cast<std::ptrdiff_t>(at));
}

/// `snapshot` with `count` more deltas, each of scattered pages and a long run.
Snapshot with_deltas(Snapshot snapshot, std::size_t count) {
    const std::size_t bytes = snapshot.extent_bytes();
    for (std::size_t i = 1; i <= count; ++i) {
        View view = snapshot.map_private();
        for (std::size_t at = i * 5000; at + 10 < bytes; at += 7 * i * kPageBytes) {
            write_noise(view, at, 10, static_cast<unsigned>(i));
        }
        if (bytes > 14 * kPageBytes) write_noise(view, i * kPageBytes, 12 * kPageBytes, static_cast<unsigned>(i + 50));
        snapshot = view.capture();
    }
    return snapshot;
}

Snapshot grown(const Snapshot& snapshot) {
    View view(snapshot, std::size_t{64} * kPageBytes);
    view.grow(snapshot.extent_bytes() + 9 * kPageBytes + 100);
    write_noise(view, snapshot.extent_bytes() + 3 * kPageBytes, kPageBytes, 9);
    return view.capture();
}

Snapshot on_disk(const Snapshot& snapshot, const tests::TemporaryDirectory& folder) {
    const std::string path = folder / "image";
    vmcow::save_image(snapshot, path, {.sync = false});
    return vmcow::load_image(path).snapshot;
}

Snapshot whole_of(Whole kind, std::size_t bytes, const tests::TemporaryDirectory& folder) {
    Snapshot base = tests::snapshot_of(tests::noise(bytes));
    const auto part_of = [](const Snapshot& snapshot) {
        const std::size_t offset = snapshot.extent_bytes() / 5;
        return SnapshotPart(snapshot, offset, snapshot.extent_bytes() - offset - 3).image();
    };
    switch (kind) {
        case Whole::base:
            return base;
        case Whole::deltas:
            return with_deltas(base, 1);
        case Whole::many_deltas:
            return with_deltas(base, 6);
        case Whole::grown:
            return grown(base);
        case Whole::on_disk:
            return on_disk(base, folder);
        case Whole::delta_on_disk:
            return with_deltas(on_disk(base, folder), 2);
        case Whole::part:
            return part_of(base);
        case Whole::part_of_deltas:
            return part_of(with_deltas(base, 2));
    }
    return base;
}

/// Whether the image has the part's bytes at their place, and zeros in the rest of its pages.
testing::AssertionResult is_part(const SnapshotPart& part, std::span<const std::byte> whole) {
    const Snapshot& image = part.image();
    if (image.extent_bytes() != part.skip() + part.bytes()) return testing::AssertionFailure() << "extent";
    const auto wanted = whole.subspan(part.offset(), part.bytes());
    if (!tests::same_bytes(image.bytes().subspan(part.skip()), wanted)) return testing::AssertionFailure() << "bytes";
    for (std::uint64_t page = 0; page < image.page_count().value; ++page) {
        for (std::size_t i = 0; i < kPageBytes; ++i) {
            const std::size_t at = page * kPageBytes + i;
            if (at >= part.skip() && at < image.extent_bytes()) continue;
            if (image.page({page})[i] != std::byte{0}) return testing::AssertionFailure() << "byte " << at << " leaks";
        }
    }
    return testing::AssertionSuccess();
}

class SnapshotPartTest : public testing::TestWithParam<Whole> {
protected:
    tests::TemporaryDirectory folder_;
};

TEST_P(SnapshotPartTest, HasItsBytesAndNothingOfTheRest) {
    const Snapshot whole = whole_of(GetParam(), 40 * kPageBytes + 77, folder_);
    const Bytes bytes = tests::copy_of(whole.bytes());
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, kPageBytes - 1, kPageBytes, kPageBytes + 1,
                                     3 * kPageBytes + 5, 20 * kPageBytes}) {
        for (const std::size_t length : {std::size_t{0}, std::size_t{1}, kPageBytes - 1, kPageBytes, kPageBytes + 1,
                                         4 * kPageBytes, 5 * kPageBytes + 9, 11 * kPageBytes - 1}) {
            const SnapshotPart part(whole, offset, length);
            EXPECT_TRUE(is_part(part, bytes)) << length << " bytes from " << offset << " on";
        }
    }
}

TEST_P(SnapshotPartTest, ReachesToTheEnd) {
    const Snapshot whole = whole_of(GetParam(), 40 * kPageBytes + 77, folder_);
    const Bytes bytes = tests::copy_of(whole.bytes());
    for (const std::size_t from_end : {std::size_t{0}, std::size_t{1}, std::size_t{100}, kPageBytes, 5 * kPageBytes + 3,
                                       15 * kPageBytes, bytes.size()}) {
        EXPECT_TRUE(is_part(SnapshotPart(whole, bytes.size() - from_end, from_end), bytes)) << from_end;
    }
}

TEST_P(SnapshotPartTest, OutsideIsOutOfRange) {
    const Snapshot whole = whole_of(GetParam(), 5 * kPageBytes + 77, folder_);
    const std::uint64_t end = whole.extent_bytes();
    for (const auto& [offset, bytes] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
             {end, 1}, {end + 1, 0}, {0, end + 1}, {1, end}, {1, ~std::uint64_t{0}}, {~std::uint64_t{0}, 1}}) {
        EXPECT_THROW(SnapshotPart(whole, offset, bytes), std::out_of_range) << bytes << " from " << offset;
    }
}

TEST_P(SnapshotPartTest, UnchangedItLeavesTheWholeAsItIs) {
    const Snapshot whole = whole_of(GetParam(), 20 * kPageBytes, folder_);
    const SnapshotPart part(whole, 100, 10 * kPageBytes);
    View view = part.image().map_private();
    view.bytes()[0] = std::byte{7};  // outside the part
    const ChangedPart changed{part, view.capture()};
    EXPECT_EQ(put_back(std::span(&changed, 1)).layers(), whole.layers());
}

TEST_P(SnapshotPartTest, OnlyTheChangedPageIsPutBack) {
    const Snapshot whole = whole_of(GetParam(), 40 * kPageBytes, folder_);
    Bytes expected = tests::copy_of(whole.bytes());
    const SnapshotPart part(whole, 1000, 30 * kPageBytes);
    View view = part.image().map_private();
    view.bytes()[part.skip() + 12'345] = expected[13'345] = ~expected[13'345];
    const ChangedPart changed{part, view.capture()};
    const Snapshot after = put_back(std::span(&changed, 1));
    EXPECT_TRUE(tests::same_bytes(after.bytes(), expected));
    EXPECT_EQ(vmcow::diff(whole, after).pages_changed, vmcow::PageCount{1});
}

std::string name_of(Whole kind) {
    const char* const names[] = {"Base",   "Deltas",      "ManyDeltas", "Grown",
                                 "OnDisk", "DeltaOnDisk", "Part",       "PartOfDeltas"};
    return names[static_cast<int>(kind)];
}
INSTANTIATE_TEST_SUITE_P(Wholes, SnapshotPartTest, testing::ValuesIn(kWholes),
                         [](const auto& each) { return name_of(each.param); });

TEST(SnapshotPartsTest, OfALargeOneOnlyTheEdgesAreCopied) {
    const Snapshot whole = tests::snapshot_of(tests::noise(200 * kPageBytes));
    EXPECT_EQ(SnapshotPart(whole, 100, 150 * kPageBytes).image().delta_pages(), vmcow::PageCount{2});
    EXPECT_EQ(SnapshotPart(whole, kPageBytes, 150 * kPageBytes).image().delta_pages(), vmcow::PageCount{0});
}

TEST(SnapshotPartsTest, LivesLongerThanTheWhole) {
    const Bytes bytes = tests::noise(50 * kPageBytes);
    const Snapshot image = [&] { return SnapshotPart(tests::snapshot_of(bytes), 10, 40 * kPageBytes).image(); }();
    EXPECT_TRUE(tests::same_bytes(image.bytes().subspan(10), std::span(bytes).subspan(10, 40 * kPageBytes)));
}

TEST(SnapshotPartsTest, OfAPartThatHasGrownWhatIsBehindItIsNotTaken) {
    const Snapshot whole = tests::snapshot_of(tests::noise(20 * kPageBytes));
    Bytes expected = tests::copy_of(whole.bytes());
    const SnapshotPart part(whole, kPageBytes + 5, 8 * kPageBytes);
    View view(part.image(), std::size_t{16} * kPageBytes);
    view.grow(part.image().extent_bytes() + 5 * kPageBytes);
    std::fill(view.bytes().begin(), view.bytes().end(), std::byte{9});
    std::fill_n(expected.begin() + kPageBytes + 5, 8 * kPageBytes, std::byte{9});
    const ChangedPart changed{part, view.capture()};
    EXPECT_TRUE(tests::same_bytes(put_back(std::span(&changed, 1)).bytes(), expected));
}

// ---- any parts of any whole

RC_GTEST_PROP(SnapshotPartsPropertyTest, AnyPartsThatAreChangedAndPutBackAreTheWholeChangedThere, ()) {
    const tests::TemporaryDirectory folder;
    const Whole kind = kWholes[*rc::gen::inRange<std::size_t>(0, std::size(kWholes))];
    const std::size_t size = *rc::gen::element<std::size_t>(300, 3 * kPageBytes, 30 * kPageBytes + 1);
    const Snapshot whole = whole_of(kind, size, folder);
    Bytes expected = tests::copy_of(whole.bytes());
    auto cuts =
        *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(0, whole.extent_bytes() + 1));
    cuts.push_back(0);
    cuts.push_back(whole.extent_bytes());
    std::sort(cuts.begin(), cuts.end());
    std::vector<ChangedPart> parts;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        if (*rc::gen::inRange(0, 4) == 0 && !parts.empty()) continue;  // leaves some bytes in no part
        const SnapshotPart part(whole, cuts[i], cuts[i + 1] - cuts[i]);
        RC_ASSERT(is_part(part, tests::copy_of(whole.bytes())));
        View view = part.image().map_private();
        const auto bytes = view.bytes();
        for (int edits = *rc::gen::inRange(0, 4); edits > 0 && !bytes.empty(); --edits) {
            const std::size_t at = *rc::gen::inRange<std::size_t>(0, bytes.size());
            bytes[at] = ~bytes[at];
            if (at >= part.skip()) expected[part.offset() + at - part.skip()] = bytes[at];
        }
        parts.push_back({part, view.capture()});
    }
    RC_ASSERT(tests::same_bytes(put_back(parts).bytes(), expected));
}

}  // namespace
