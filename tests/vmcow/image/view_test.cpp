// Tests views: private writes, counts of copied pages, capturing, layers, and what is left when a limit is met.
#include "vmcow/view.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/leak_guard.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/proc/smaps.hpp"

namespace {

using namespace vmcow;
using tests::copy_of;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::noise;
using tests::Pages;
using tests::pages_in;
using tests::run_of;
using tests::same_bytes;
using tests::snapshot_of;
using tests::touch_pages;
using tests::write_pages;
using tests::zeros;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::uint64_t anonymous_bytes(const View& view) {
    return sys::read_smaps(reinterpret_cast<std::uintptr_t>(view.bytes().data()), view.bytes().size()).anonymous_bytes;
}

/// The number of image mappings inside the address range of `view`.
std::size_t mappings_of(const View& view) {
    std::size_t count = 0;
    const auto start = reinterpret_cast<std::uintptr_t>(view.bytes().data());
    for (const auto& [line, times] : tests::ProcessState::now().mappings) {
        const std::uintptr_t at = std::stoull(line, nullptr, 16);
        if (at >= start && at < start + view.bytes().size()) count += times;
    }
    return count;
}

TEST(ViewTest, WriteThroughOneViewReachesNoOther) {
    const auto content = noise(4 * kPageBytes);
    const Snapshot snapshot = snapshot_of(content);
    View written(snapshot);
    const View other(snapshot);
    std::fill(written.bytes().begin(), written.bytes().end(), std::byte{7});
    EXPECT_TRUE(same_bytes(other.bytes(), content));
    EXPECT_TRUE(same_bytes(snapshot.bytes(), content));
    EXPECT_TRUE(same_bytes(View(snapshot).bytes(), content));
}

TEST(ViewTest, ViewOutlivesTheHandlesOfItsSnapshot) {
    const auto content = noise(100);
    View view = snapshot_of(content).map_private();
    EXPECT_TRUE(same_bytes(view.bytes(), content));
    EXPECT_TRUE(same_bytes(view.snapshot().bytes(), content));
}

TEST(ViewTest, ArrayCoversTheWholeElements) {
    View view(snapshot_of(noise(17)));
    EXPECT_EQ(view.as<std::uint64_t>().size(), 2U);
    EXPECT_EQ(view.as<std::byte>().data(), view.bytes().data());
}

TEST(ViewTest, CopiedPagesAreExactlyThoseWritten) {
    for (const std::size_t pages : {1U, 511U, 512U, 513U, 1200U}) {
        View view(snapshot_of(noise(pages * kPageBytes)));
        Pages written{0, pages - 1, pages / 2};
        write_pages(view, written);
        for (const auto method : {sys::PageScanMethod::pagemap_bits, sys::best_page_scan()}) {
            EXPECT_EQ(pages_in(view.copied_runs(method)), written) << pages;
        }
        EXPECT_EQ(anonymous_bytes(view), written.size() * kPageBytes);
    }
}

TEST(ViewTest, WriteAcrossAPageBoundaryCopiesBoth) {
    View view(zeros(4));
    for (const std::size_t at : {2 * kPageBytes - 1, 2 * kPageBytes}) view.bytes()[at] = std::byte{1};
    EXPECT_EQ(view.changes(), (PageChanges{{2}, {0}, 2}));
}

TEST(ViewTest, PagesThatHoldTheSameAgainAreIdentical) {
    View view(snapshot_of(noise(10 * kPageBytes)));
    touch_pages(view, {2, 3});
    view.bytes()[5 * kPageBytes] ^= std::byte{1};
    view.bytes()[7 * kPageBytes] ^= std::byte{1};
    view.bytes()[7 * kPageBytes] ^= std::byte{1};
    EXPECT_EQ(view.changes(), (PageChanges{{4}, {3}, 1}));
    EXPECT_EQ(view.changes().copied_bytes(), 4 * kPageBytes);
}

TEST(ViewTest, ResetDropsEveryChange) {
    const auto content = noise(20 * kPageBytes);
    const Snapshot snapshot = snapshot_of(content);
    View view(snapshot);
    write_pages(view, run_of(3, 9), std::byte{1});
    View layered(view.capture());
    const auto before = copy_of(layered.bytes());
    for (View* const each : {&view, &layered}) {
        const std::byte* const at = each->bytes().data();
        write_pages(*each, run_of(0, 20), std::byte{99});
        each->reset();
        EXPECT_EQ(each->bytes().data(), at);
        EXPECT_EQ(each->changes(), PageChanges{});
    }
    EXPECT_TRUE(same_bytes(view.bytes(), content));
    EXPECT_TRUE(same_bytes(layered.bytes(), before));
    EXPECT_EQ(anonymous_bytes(view), 0U);
}

TEST(ViewTest, CaptureOfAnUnchangedViewIsTheSnapshotItself) {
    const Snapshot snapshot = snapshot_of(noise(10 * kPageBytes));
    View view(snapshot);
    EXPECT_EQ(view.capture().layers(), snapshot.layers());
    touch_pages(view, {3, 4});  // I6
    EXPECT_EQ(view.capture().layers(), snapshot.layers());
}

TEST(ViewTest, CaptureSharesWhatIsUnchanged) {
    const Snapshot snapshot = snapshot_of(noise(100 * kPageBytes));
    View view(snapshot);
    write_pages(view, {1, 50}, std::byte{1});
    touch_pages(view, {2});
    const Snapshot captured = view.capture();
    EXPECT_EQ(captured.layers()->shared_base(), snapshot.layers()->shared_base());
    EXPECT_EQ(captured.delta_count(), 1U);
    EXPECT_EQ(captured.delta_pages(), PageCount{2});
    EXPECT_TRUE(same_bytes(captured.bytes(), view.bytes()));
    EXPECT_EQ(captured.page({7}), snapshot.page({7})) << "not only equal, but the same memory";
}

TEST(ViewTest, CaptureIsOfThatMomentAndTheViewGoesOn) {
    View view(zeros(10));
    write_pages(view, {1}, std::byte{1});
    const Snapshot first = view.capture();
    write_pages(view, {1, 2}, std::byte{2});
    const Snapshot second = view.capture();
    EXPECT_EQ(first.bytes()[kPageBytes + 17], std::byte{1});
    EXPECT_EQ(first.bytes()[2 * kPageBytes + 17], std::byte{0});
    EXPECT_EQ(second.bytes()[kPageBytes + 17], std::byte{2});
    EXPECT_EQ(view.changes(), (PageChanges{{2}, {0}, 2})) << "against what it was mapped from";
}

TEST(ViewTest, LayersAreNeverMoreThanTheLimitAndStayExact) {
    Snapshot snapshot = snapshot_of(noise(64 * kPageBytes));
    std::vector<std::byte> model = copy_of(snapshot.bytes());
    for (unsigned round = 0; round < 3 * Layers::kMaxDeltas; ++round) {
        View view(snapshot);
        ASSERT_TRUE(same_bytes(view.bytes(), model)) << round;
        const Pages written = round % 2 == 0 ? run_of(round, 10) : Pages{round, 63 - round};
        write_pages(view, written, static_cast<std::byte>(round + 1));
        for (const auto page : written) model[page * kPageBytes + 17] = static_cast<std::byte>(round + 1);
        snapshot = view.capture();
        EXPECT_LE(snapshot.delta_count(), Layers::kMaxDeltas);
        EXPECT_LE(snapshot.delta_pages(), PageCount{64 * Layers::kMaxDeltas});
        EXPECT_TRUE(same_bytes(snapshot.bytes(), model)) << round;
    }
}

// I6: what differs from the version below is a page of this one, also where it is as in the base again.
TEST(ViewTest, PageThatIsAsInTheBaseAgainIsRight) {
    const auto content = noise(64 * kPageBytes);
    Snapshot snapshot = snapshot_of(content);
    for (unsigned layer = 0; layer < Layers::kMaxDeltas; ++layer) {
        View view(snapshot);
        write_pages(view, {layer, 40}, static_cast<std::byte>(layer + 1));
        snapshot = view.capture();
    }
    const auto restore = [&](View& view, std::uint64_t page) {
        view.bytes()[page * kPageBytes + 17] = content[page * kPageBytes + 17];
    };
    View some(snapshot);
    restore(some, 0);
    restore(some, 40);
    EXPECT_EQ(some.capture().delta_pages(), snapshot.delta_pages());
    EXPECT_TRUE(same_bytes(some.capture().bytes(), some.bytes()));
    View all(snapshot);
    for (const std::uint64_t page : {0U, 1U, 2U, 3U, 40U}) restore(all, page);
    EXPECT_TRUE(same_bytes(all.capture().bytes(), content));
}

TEST(ViewTest, LongRunsAreMappedAndShortOnesArePlaced) {
    View view(zeros(100));
    const Pages long_run = run_of(10, kMappedRun.value);
    const Pages short_run = run_of(50, kMappedRun.value - 1);
    write_pages(view, long_run);
    write_pages(view, short_run);
    const Snapshot captured = view.capture();
    EXPECT_EQ(pages_in(captured.layers()->placed()), short_run);
    const View layered(captured);
    EXPECT_EQ(mappings_of(layered), 3U) << "base, delta, base";
    EXPECT_EQ(anonymous_bytes(layered), short_run.size() * kPageBytes);
}

TEST(ViewTest, MappedRunsAreLimited) {
    constexpr std::size_t kRuns = Layers::kMaxMappedRuns + 10;
    const std::uint64_t step = kMappedRun.value + 1;
    View view(zeros(kRuns * step + 1));
    for (std::size_t run = 0; run < kRuns; ++run) write_pages(view, run_of(run * step + 1, kMappedRun.value));
    const View layered(view.capture());
    EXPECT_EQ(mappings_of(layered), 2 * Layers::kMaxMappedRuns + 1);
    EXPECT_TRUE(same_bytes(layered.bytes(), view.bytes()));
    EXPECT_EQ(layered.changes(), PageChanges{});
}

TEST(ViewTest, PlacedPagesAreNotCopiedPagesButTheirChangesCount) {
    View below(zeros(30));
    write_pages(below, {3, 4});
    write_pages(below, run_of(10, 12));
    View view(below.capture());
    EXPECT_EQ(view.changes(), PageChanges{});
    EXPECT_TRUE(view.copied_runs().empty());
    write_pages(view, {3, 5, 10}, std::byte{2});
    EXPECT_EQ(pages_in(view.copied_runs()), (Pages{5, 10}));
    EXPECT_EQ(view.changes(), (PageChanges{{2}, {0}, 3}));
    const Snapshot captured = view.capture();
    EXPECT_EQ(pages_in(view.copied_runs()), (Pages{5, 10}));
    EXPECT_EQ(captured.layers()->deltas().back()->pages().size(), 3U);
    EXPECT_TRUE(same_bytes(captured.bytes(), view.bytes()));
}

TEST(ViewTest, MovedViewKeepsItsImageAndSelfMoveToo) {
    View first(zeros(2));
    write_pages(first, {1});
    const std::byte* const at = first.bytes().data();
    View second = std::move(first);
    View& alias = second;
    second = std::move(alias);
    EXPECT_EQ(second.bytes().data(), at);
    EXPECT_EQ(second.changes(), (PageChanges{{1}, {0}, 1}));
    second = View(zeros(1));
    EXPECT_TRUE(Slot::claim(at, 1).has_value());
}

TEST(ViewTest, NoDescriptorLeftIsEmfileForWhatScans) {
    View view(zeros(4));
    write_pages(view, {1});
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(error_of([&] { static_cast<void>(view.copied_runs()); }), EMFILE);
        EXPECT_EQ(error_of([&] { static_cast<void>(view.changes()); }), EMFILE);
        EXPECT_EQ(error_of([&] { static_cast<void>(view.capture()); }), EMFILE);
        EXPECT_EQ(error_of([&] { view.reset(); }), 0);
    }
    EXPECT_EQ(view.changes(), PageChanges{});
}

TEST(ViewTest, NoAddressSpaceLeftIsEnomemAndNothingIsLeftBehind) {
    EXPECT_EQ(in_child([] {
                  const auto content = noise(3 * kPageBytes);
                  const Snapshot snapshot = snapshot_of(content);
                  std::vector<Slot> taken;
                  taken.reserve(100'000);
                  {
                      const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 64 * kMiB);
                      for (std::size_t bytes = std::size_t{1} << 46; bytes >= kHugeBytes; bytes /= 2) {
                          while (error_of([&] { taken.push_back(Slot::reserve(bytes)); }) == 0) continue;
                      }
                      if (error_of([&] { static_cast<void>(snapshot.map_private()); }) != ENOMEM) return 1;
                      taken.pop_back();
                      if (error_of([&] { static_cast<void>(snapshot.map_private()); }) != 0) return 2;
                  }
                  return same_bytes(snapshot.map_private().bytes(), content) ? 0 : 3;
              }),
              kChildExitedWell);
}

/// Makes views without enough mappings. Returns 0 when the failed views have left nothing behind.
int lack_mappings(std::size_t free) {
    View below(zeros(400));
    for (const std::uint64_t first : {10U, 50U, 100U, 200U, 300U}) write_pages(below, run_of(first, 20));
    const Snapshot snapshot = below.capture();
    const auto before = tests::ProcessState::now();
    {
        const tests::MappingLimit limit(free);
        for (int i = 0; i < 2; ++i) {
            if (error_of([&] { const View view(snapshot); }) != ENOMEM) return 1;
        }
    }
    const auto left = tests::LeakGuard::differences(before, tests::ProcessState::now());
    for (const std::string& line : left) static_cast<void>(std::fprintf(stderr, "%s\n", line.c_str()));
    if (!left.empty()) return 2;
    return same_bytes(View(snapshot).bytes(), below.bytes()) ? 0 : 3;
}

// `free` decides which mapping of the view fails; the mappings made before it must be removed.
TEST(ViewMappingLimitTest, NoMappingLeftIsEnomemAndNothingIsLeftBehind) {
    for (const std::size_t free : {0U, 2U, 4U, 6U, 8U}) {
        EXPECT_EQ(in_child([&] { return lack_mappings(free); }), kChildExitedWell) << free;
    }
}

}  // namespace
