// Tests the counts of shared, copied and new pages of a family of processes, for every way to look at pages.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/vmcow/meter/watch/watch_actors.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/perf_events.hpp"

namespace {

using tests::Actors;
using vmcow::PageCount;
using vmcow::meter::FamilySample;
using vmcow::meter::MappingSample;
using vmcow::meter::PageFigures;
using vmcow::meter::ProcessFamily;
using vmcow::meter::ProcessSample;
using vmcow::sys::PageScanMethod;
using Deed = Actors::Deed;

constexpr std::size_t kPages = 256;

struct Way {
    PageScanMethod method;
    bool use_frames;
    bool follow_faults;  ///< look only where page faults were
};

/// The counts of one look at the region, in pages.
struct Counts {
    std::uint64_t shared = 0;
    std::uint64_t copied = 0;
    std::uint64_t by_child = 0;
    std::uint64_t by_parent = 0;
    std::uint64_t fresh = 0;
    bool operator==(const Counts&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Counts& counts) {
    return out << "shared " << counts.shared << ", copied " << counts.copied << ", by child " << counts.by_child
               << ", by parent " << counts.by_parent << ", new " << counts.fresh;
}

class WatchFamilyTest : public testing::TestWithParam<Way> {
protected:
    void SetUp() override {
        if (GetParam().method == PageScanMethod::pagemap_scan && vmcow::sys::page_scan_error() != 0) {
            GTEST_SKIP() << "PAGEMAP_SCAN is lacking";
        }
        if (GetParam().use_frames && ::geteuid() != 0) GTEST_SKIP() << "CAP_SYS_ADMIN is lacking";
        if (GetParam().follow_faults && vmcow::sys::perf_faults_error() != 0) GTEST_SKIP() << "perf events are refused";
    }

    void begin(std::size_t pages, Actors::Memory memory = Actors::Memory::small_pages) {
        actors_.emplace(pages, memory);
        family_.emplace(
            vmcow::meter::FamilyOptions{.look = {.method = GetParam().method, .use_frames = GetParam().use_frames},
                                        .tree = true,
                                        .bytes = true,
                                        .adopter = {},
                                        .follow_faults = GetParam().follow_faults});
        family_->add(actors_->pid(0));
    }

    void look() { sample_ = family_->look(); }

    [[nodiscard]] const ProcessSample* process(std::size_t actor) const {
        for (const ProcessSample& each : sample_.processes) {
            if (each.pid == actors_->pid(actor)) return &each;
        }
        return nullptr;
    }

    /// The figures of the region alone.
    [[nodiscard]] PageFigures figures(std::size_t actor) const {
        PageFigures sum;
        const ProcessSample* const found = process(actor);
        if (found == nullptr) {
            ADD_FAILURE() << "actor " << actor << " was not seen";
            return sum;
        }
        for (const MappingSample& mapping : found->mappings) {
            if (mapping.start >= actors_->start() && mapping.end <= actors_->end()) sum += mapping.figures;
        }
        return sum;
    }

    [[nodiscard]] Counts counts(std::size_t actor) const {
        const PageFigures sum = figures(actor);
        return {vmcow::pages_of(sum.shared_bytes).value, sum.copied.value, sum.copied_by_child.value,
                sum.copied_by_parent.value, vmcow::pages_of(sum.new_bytes).value};
    }

    std::optional<Actors> actors_;
    std::optional<ProcessFamily> family_;
    FamilySample sample_;
};

INSTANTIATE_TEST_SUITE_P(
    Ways, WatchFamilyTest,
    testing::Values(Way{PageScanMethod::pagemap_scan, true, false}, Way{PageScanMethod::pagemap_scan, false, false},
                    Way{PageScanMethod::pagemap_bits, true, false}, Way{PageScanMethod::pagemap_bits, false, false},
                    Way{PageScanMethod::pagemap_scan, true, true}, Way{PageScanMethod::pagemap_scan, false, true},
                    Way{PageScanMethod::pagemap_bits, false, true}),
    [](const auto& test) {
        return std::string(test.param.method == PageScanMethod::pagemap_scan ? "Scan" : "Bits") +
               (test.param.use_frames ? "Frames" : "NoFrames") + (test.param.follow_faults ? "Faults" : "");
    });

TEST_P(WatchFamilyTest, ForkSharesEverythingAndCopiesNothing) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages}));
    EXPECT_EQ(counts(0), (Counts{.fresh = kPages})) << "the first one has made them since this process has forked it";
    EXPECT_EQ(figures(1).resident_bytes, PageCount{kPages}.bytes());
}

TEST_P(WatchFamilyTest, EachPageThatTheChildWritesIsCopiedByTheChild) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, kPages);
    look();
    EXPECT_EQ(counts(1), (Counts{.copied = kPages, .by_child = kPages}));
    EXPECT_EQ(figures(1).changed_bytes, kPages - 1) << "page 254 was filled with 255 before";
    EXPECT_EQ(figures(1).identical, PageCount{1});
}

TEST_P(WatchFamilyTest, EveryOtherPageIsHalfOfThem) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, kPages / 2, 2, 0);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages / 2, .copied = kPages / 2, .by_child = kPages / 2}));
    EXPECT_EQ(figures(1).changed_bytes, kPages / 2);
    EXPECT_EQ(figures(1).identical, PageCount{0});
    EXPECT_DOUBLE_EQ(figures(1).amplification().value_or(0), 4096);
}

TEST_P(WatchFamilyTest, OneByteCopiesOnePage) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->tell(1, {Deed::write, 17, 1, 1, 4095, 0});
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 1, .copied = 1, .by_child = 1}));
    EXPECT_EQ(figures(1).changed_bytes, 1U);
}

TEST_P(WatchFamilyTest, TheSameBytesAreCopiedAndIdentical) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->tell(1, {Deed::rewrite, 10, 20, 1, 5, 0});
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 20, .copied = 20, .by_child = 20}));
    EXPECT_EQ(figures(1).identical, PageCount{20});
    EXPECT_EQ(figures(1).changed_bytes, 0U);
    EXPECT_EQ(figures(1).amplification(), std::nullopt);
}

TEST_P(WatchFamilyTest, PagesThatTheParentWritesAreCopiedByTheParent) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(0, 0, 30, 2, 0);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 30, .copied = 30, .by_parent = 30}));
    EXPECT_EQ(figures(1).changed_bytes, 30U);
}

// Both sides write in one interval: how many pages were copied is always known, by whom only with page frame numbers.
TEST_P(WatchFamilyTest, BothSidesWriting) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(0, 0, 40);
    actors_->write(1, 100, 50);
    actors_->write(1, 0, 10);  // the parent has copied these, so the child copies nothing more
    look();
    const Counts found = counts(1);
    EXPECT_EQ(found.copied, 90U);
    EXPECT_EQ(found.shared, kPages - 90);
    if (GetParam().use_frames) {
        EXPECT_EQ(found.by_child, 50U);
        EXPECT_EQ(found.by_parent, 40U);
    } else {
        EXPECT_EQ(figures(1).copied_by_unknown, PageCount{90});
        EXPECT_EQ(figures(1).known_by_parent(), std::nullopt);
    }
}

TEST_P(WatchFamilyTest, BothSidesWritingOneAfterTheOther) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(0, 0, 40);
    look();
    actors_->write(1, 20, 50);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 70, .copied = 70, .by_child = 30, .by_parent = 40}));
}

TEST_P(WatchFamilyTest, AThirdProcessThatStillSharesTellsWhoWrote) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    actors_->fork(0, 2);
    look();
    actors_->write(0, 0, 10);
    actors_->write(1, 50, 20);
    look();
    look();  // a page that one process has left to the others takes a second look
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 30, .copied = 30, .by_child = 20, .by_parent = 10}));
    EXPECT_EQ(counts(2), (Counts{.shared = kPages - 10, .copied = 10, .by_parent = 10}));
}

TEST_P(WatchFamilyTest, InTheSumACopyOfTheParentsCountsOnce) {
    begin(kPages);
    look();
    for (const std::size_t child : {1U, 2U, 3U}) actors_->fork(0, child);
    look();
    actors_->write(0, 0, 10);
    actors_->write(1, 50, 20);
    look();
    look();
    for (const std::size_t child : {1U, 2U, 3U}) EXPECT_EQ(counts(child).by_parent, 10U);
    EXPECT_EQ(figures(1).copied_with_sibling.value, 0U);
    EXPECT_EQ(figures(2).copied_with_sibling.value, 10U);
    EXPECT_EQ(figures(3).copied_with_sibling.value, 10U);
    PageFigures sum;
    for (const std::size_t child : {1U, 2U, 3U}) sum.add_process(figures(child));
    EXPECT_EQ(sum.copied.value, 30U);
    EXPECT_EQ(sum.copied_by_parent.value, 10U);
    EXPECT_EQ(sum.copied_by_child.value, 20U);
    std::uint64_t each = 0;
    for (const ProcessSample& one : sample_.processes) each += one.figures.copied.value;
    EXPECT_LE(sample_.total.copied.value, each - 20);
    // A page that the parent and the ended sibling have left to one child is no common copy any more.
    actors_->tell(2, {Deed::leave, 0, 0, 1, 0, 0});
    actors_->write(3, 0, 5);
    look();
    look();
    EXPECT_EQ(figures(1).copied_with_sibling.value + figures(3).copied_with_sibling.value, 5U);
}

TEST_P(WatchFamilyTest, ChildrenOfChildrenCountAgainstTheirOwnParent) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, 64, 1, 0);
    look();
    actors_->fork(1, 2);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 64, .copied = 64, .by_child = 64}));
    EXPECT_EQ(counts(2), (Counts{.shared = kPages}));
    actors_->write(2, 32, 64, 1, 9);
    look();
    EXPECT_EQ(counts(2), (Counts{.shared = kPages - 64, .copied = 64, .by_child = 64}));
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 64, .copied = 64, .by_child = 64}));
}

TEST_P(WatchFamilyTest, WhatIsAllocatedAfterTheForkIsNew) {
    begin(kPages);
    actors_->tell(0, {Deed::drop, 100, 100, 1, 0, 0});
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 100, 60);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 100, .fresh = 60}));
    // New pages of the parent at the same addresses do not concern the child.
    actors_->write(0, 100, 60);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 100, .fresh = 60}));
}

TEST_P(WatchFamilyTest, WhatTheParentGivesUpIsNotCopied) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->tell(0, {Deed::drop, 0, 50, 1, 0, 0});
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 50}));
    actors_->write(1, 0, 50);
    actors_->write(0, 0, 50);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 50}));
}

TEST_P(WatchFamilyTest, WhatAProcessUnmapsIsGone) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, 60);
    look();
    actors_->tell(1, {Deed::unmap, 0, 50, 1, 0, 0});
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 60, .copied = 10, .by_child = 10}));
}

TEST_P(WatchFamilyTest, PrivatePagesOfAFileAreCopiedByWhoWritesThem) {
    begin(kPages, Actors::Memory::private_file);
    look();
    EXPECT_EQ(counts(0), (Counts{}));
    actors_->write(0, 0, 16);
    look();
    EXPECT_EQ(counts(0), (Counts{.copied = 16, .by_child = 16}));
    actors_->fork(0, 1);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = 16}));
    actors_->write(1, 8, 16);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = 8, .copied = 16, .by_child = 16}));
}

// Writing to a shared huge page splits it for the writer, and copies 4 KiB.
TEST_P(WatchFamilyTest, OfAHugePageTheSmallPagesWrittenAreCopied) {
    constexpr std::size_t kHugePages = 2 * vmcow::kHugeBytes / vmcow::kPageBytes;
    begin(kHugePages, Actors::Memory::huge_pages);
    if (!actors_->is_huge()) GTEST_SKIP() << "huge pages of anonymous memory are lacking";
    look();
    actors_->fork(0, 1);
    look();
    EXPECT_EQ(counts(1), (Counts{.shared = kHugePages}));
    actors_->write(1, 0, 10, 3, 0);
    look();
    const Counts by_child{.shared = kHugePages - 10, .copied = 10, .by_child = 10};
    if (GetParam().method == PageScanMethod::pagemap_scan || GetParam().use_frames) {
        EXPECT_EQ(counts(1), by_child);
    }
    // The parent writes to the second huge page, so that no page is written by both.
    actors_->write(0, 512, 20, 5, 0);
    look();
    if (GetParam().method == PageScanMethod::pagemap_scan || GetParam().use_frames) {
        EXPECT_EQ(counts(1), (Counts{.shared = kHugePages - 30, .copied = 30, .by_child = 10, .by_parent = 20}));
    }
    EXPECT_LE(counts(1).copied, 1024U);
}

TEST_P(WatchFamilyTest, SharedMemoryIsNeverCopied) {
    begin(kPages, Actors::Memory::shared);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, kPages);
    look();
    EXPECT_EQ(counts(1), (Counts{}));
    EXPECT_EQ(figures(1).resident_bytes, PageCount{kPages}.bytes());
}

TEST_P(WatchFamilyTest, AProgramExecutedSinceHasNothingOfItsParents) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->tell(1, {Deed::run, 0, 0, 1, 0, 0});
    look();
    const ProcessSample* const found = process(1);
    ASSERT_NE(found, nullptr);
    EXPECT_FALSE(found->has_parent);
    EXPECT_EQ(found->command, "sleep");
    EXPECT_EQ(found->figures.shared_bytes, 0U);
    EXPECT_GT(found->figures.new_bytes, 0U);
}

TEST_P(WatchFamilyTest, AnOrphanKeepsWhatWasCountedOfIt) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    look();
    actors_->write(1, 0, 33);
    look();
    actors_->tell(0, {Deed::leave, 0, 0, 1, 0, 0});
    look();
    EXPECT_EQ(process(0), nullptr);
    EXPECT_EQ(family_->size(), 1U);
    EXPECT_EQ(counts(1), (Counts{.copied = 33, .by_child = 33}));
    actors_->write(1, 100, 20);
    look();
    EXPECT_EQ(counts(1), (Counts{.copied = 33, .by_child = 33})) << "nobody shares these any more";
}

TEST_P(WatchFamilyTest, WhereNothingHappensNoPageIsLookedAt) {
    vmcow::meter::FamilyOptions options{.look = {.method = GetParam().method, .use_frames = GetParam().use_frames},
                                        .tree = true,
                                        .bytes = false,
                                        .adopter = {}};
    begin(kPages);
    actors_->fork(0, 1);
    family_.emplace(options);
    family_->add(actors_->pid(0));
    actors_->write(1, 0, 33);
    look();
    // On a loaded machine the last page faults of the process may come late.
    for (int i = 0; i < 400 && family_->cost().quiet_scans == 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
        look();
    }
    EXPECT_EQ(counts(1).copied, 33U);
    const std::uint64_t quiet = family_->cost().quiet_scans;
    EXPECT_GE(quiet, 1U);
    EXPECT_LT(quiet, family_->cost().scans);
    actors_->write(1, 100, 5);
    look();
    EXPECT_EQ(counts(1).copied, 38U);
    EXPECT_EQ(family_->cost().quiet_scans, quiet);
}

TEST_P(WatchFamilyTest, WherePageFaultsAreToldOnlyTheirPlacesAreLookedAt) {
    if (!GetParam().follow_faults) return;
    begin(kPages);
    look();
    actors_->fork(0, 1);
    // Until both counts of faults agree and no page is new any more.
    for (int i = 0; i < 5; ++i) {
        actors_->write(0, 200, 1, 1, i);
        look();
    }
    const std::uint64_t before = family_->cost().guided_scans;
    for (std::size_t i = 1; i <= 8; ++i) {
        actors_->write(1, 10 * i, 10);
        look();
        EXPECT_EQ(counts(1).by_child, 10 * i);
    }
    EXPECT_GE(family_->cost().guided_scans, before + 4);
    // No page fault reports dropped pages, but the kernel's counts show them.
    actors_->tell(1, {Deed::drop, 0, 50, 1, 0, 0});
    actors_->write(1, 150, 1);
    look();
    EXPECT_EQ(counts(1).copied, 80U + 2 - 40);
}

// Both processes were there before the first look.
TEST_P(WatchFamilyTest, CopiesFromBeforeTheFirstLookAreCountedAndMarked) {
    begin(kPages);
    actors_->fork(0, 1);
    actors_->write(1, 0, 33);
    look();
    const PageFigures found = figures(1);
    EXPECT_EQ(found.copied, PageCount{33});
    EXPECT_EQ(found.copied_early, PageCount{33});
    EXPECT_EQ(vmcow::pages_of(found.shared_bytes).value, kPages - 33);
}

// The parent was seen before the fork, so the first look at the child knows which pages it inherited.
TEST_P(WatchFamilyTest, CopiesBetweenTheForkAndTheFirstLookAreKnown) {
    begin(kPages);
    look();
    actors_->fork(0, 1);
    actors_->write(1, 0, 33);
    look();
    const PageFigures found = figures(1);
    EXPECT_EQ(found.copied, PageCount{33});
    EXPECT_EQ(found.copied_early, PageCount{0});
    if (GetParam().use_frames) {
        EXPECT_EQ(found.copied_by_child, PageCount{33});
    }
}

TEST_P(WatchFamilyTest, ChildNamedAloneIsComparedWithTheParentThatIsNotShown) {
    begin(kPages);
    actors_->fork(0, 1);
    ProcessFamily alone({.look = {.method = GetParam().method, .use_frames = GetParam().use_frames},
                         .tree = false,
                         .bytes = false,
                         .adopter = {}});
    alone.add(actors_->pid(1));
    sample_ = alone.look();
    actors_->write(1, 0, 12);
    sample_ = alone.look();
    ASSERT_EQ(sample_.processes.size(), 1U);
    EXPECT_EQ(counts(1), (Counts{.shared = kPages - 12, .copied = 12, .by_child = 12}));
}

}  // namespace
