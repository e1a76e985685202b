// Tests the forms of a run: several children of one image, stacked levels, and a resident view.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/meter/run/run_children.hpp"
#include "vmcow/meter/run/run_levels.hpp"
#include "vmcow/meter/run/run_resident.hpp"
#include "vmcow/meter/run/run_workload.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::meter;
using sys::PageScanMethod;

constexpr Pattern kPatterns[] = {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot};

Workload small_workload(Pattern pattern) {
    return {.size_bytes = 8 << 20, .writes = 600, .write_bytes = 24, .pattern = pattern};
}

void expect_consistent(const ViewRun& run, const Workload& workload) {
    EXPECT_EQ(run.figures.copied_bytes(), run.anonymous_bytes);
    EXPECT_EQ(run.figures.logical_bytes, workload.logical_bytes());
    EXPECT_EQ(run.figures.changed_bytes, run.figures.distinct_bytes);
    EXPECT_EQ(run.blocks.changed_bytes(), run.figures.changed_bytes);
    EXPECT_EQ(run.blocks.blocks(kPageBytes), run.figures.copied.value);
    ASSERT_TRUE(run.residual().has_value());
    EXPECT_LE(std::abs(*run.residual()), 4);
}

TEST(RunChildrenTest, EachChildIsWithinFourSigmaAndSoIsTheirSum) {
    for (const Pattern pattern : kPatterns) {
        const Workload workload = small_workload(pattern);
        const WrittenImage image = make_image(workload, PagePolicy::automatic);
        const std::vector<ViewRun> runs = run_children(workload, 4, image, sys::best_page_scan());
        ASSERT_EQ(runs.size(), 4U);
        for (const ViewRun& run : runs) expect_consistent(run, workload);
        const ViewRun sum = sum_of(runs);
        EXPECT_EQ(sum.figures.logical_bytes, 4 * workload.logical_bytes());
        std::uint64_t copied = 0;
        for (const ViewRun& run : runs) copied += run.figures.copied.value;
        EXPECT_EQ(sum.figures.copied.value, copied);
        EXPECT_LE(std::abs(sum.residual().value()), 4) << name_of(pattern);
    }
}

TEST(RunChildrenTest, ChildrenWriteWhatTheirSeedSaysAndTheFirstWhatARunByItselfDoes) {
    const Workload workload = small_workload(Pattern::uniform);
    const WrittenImage image = make_image(workload, PagePolicy::automatic);
    const std::vector<ViewRun> runs = run_children(workload, 3, image, sys::best_page_scan());
    for (std::uint64_t i = 0; i < runs.size(); ++i) {
        const WorkloadRun alone = run_workload(workload_of_child(workload, i), image, sys::best_page_scan());
        EXPECT_EQ(runs[i].figures.copied, alone.figures.copied);
        EXPECT_EQ(runs[i].blocks, alone.blocks);
    }
    EXPECT_NE(runs[0].blocks, runs[1].blocks);
}

TEST(RunChildrenTest, OldPageScanCountsTheSame) {
    const Workload workload = small_workload(Pattern::hot);
    const WrittenImage image = make_image(workload, PagePolicy::small);
    const std::vector<ViewRun> bits = run_children(workload, 2, image, PageScanMethod::pagemap_bits);
    const std::vector<ViewRun> best = run_children(workload, 2, image, sys::best_page_scan());
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(bits[i].figures.copied, best[i].figures.copied);
}

TEST(RunChildrenTest, NoDescriptorLeftIsEmfileAndNoProcessIsLeftBehind) {
    const Workload workload = small_workload(Pattern::uniform);
    const WrittenImage image = make_image(workload, PagePolicy::automatic);
    const DescriptorLimit limit{3};
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(run_children(workload, 8, image, sys::best_page_scan())); }),
              EMFILE);
}

TEST(RunChildrenTest, FailureInAChildIsToldWithItsNumber) {
    const Workload workload = small_workload(Pattern::uniform);
    const WrittenImage image = make_image(workload, PagePolicy::automatic);
    // Two descriptors are enough for the pipe of the first child, whose page scan then finds none.
    const DescriptorLimit limit{2};
    try {
        static_cast<void>(run_children(workload, 1, image, sys::best_page_scan()));
        FAIL() << "it ran";
    } catch (const std::runtime_error& error) {
        EXPECT_EQ(std::string(error.what()).find("child 1: "), 0U) << error.what();
        EXPECT_NE(std::string(error.what()).find("Too many open files"), std::string::npos) << error.what();
    }
}

/// The pages to which a workload writes.
std::set<std::uint64_t> pages_written(const Workload& workload) {
    std::set<std::uint64_t> pages;
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        for (std::uint64_t at = write.offset / kPageBytes; at <= (write.offset + write.bytes - 1) / kPageBytes; ++at) {
            pages.insert(at);
        }
    }
    return pages;
}

TEST(RunLevelsTest, EachLevelCopiesThePagesThatItWritesToButThoseThatArePlacedAlready) {
    for (const Pattern pattern : kPatterns) {
        const Workload workload = small_workload(pattern);
        const WrittenImage image = make_image(workload, PagePolicy::automatic);
        const std::vector<LevelRun> levels = run_levels(workload, 7, image, sys::best_page_scan());
        ASSERT_EQ(levels.size(), 7U);
        for (std::size_t i = 0; i < levels.size(); ++i) {
            const LevelRun& level = levels[i];
            EXPECT_EQ(level.written().value, pages_written(workload_of_child(workload, i)).size()) << i;
            EXPECT_EQ(level.run.anonymous_bytes, (level.run.figures.copied + level.placed).bytes());
            EXPECT_EQ(level.run.figures.changed_bytes, level.run.figures.distinct_bytes)
                << "also where a level before wrote";
            EXPECT_LE(level.placed_written, level.placed);
            EXPECT_LE(std::abs(level.residual().value()), 4) << name_of(pattern) << " at level " << i + 1;
        }
        EXPECT_EQ(levels.front().placed, PageCount{0});
    }
}

TEST(RunLevelsTest, FirstLevelIsARunByItself) {
    const Workload workload = small_workload(Pattern::zipf);
    const WrittenImage image = make_image(workload, PagePolicy::automatic);
    const std::vector<LevelRun> levels = run_levels(workload, 1, image, sys::best_page_scan());
    EXPECT_EQ(levels.front().run.figures.copied, run_workload(workload, image, sys::best_page_scan()).figures.copied);
}

TEST(RunResidentTest, SecondCallFindsThePagesOfTheFirstUnlessMappingAnewIsCheaper) {
    for (const Pattern pattern : kPatterns) {
        const Workload workload = small_workload(pattern);
        const WrittenImage image = make_image(workload, PagePolicy::automatic);
        const ResidentRun run = run_resident(workload, image, sys::best_page_scan());
        const std::uint64_t pages = pages_written(workload).size();
        EXPECT_EQ(run.first.copied.value, pages);
        EXPECT_EQ(run.first.minor_faults, pages);
        EXPECT_EQ(run.first.changed.value, pages);
        EXPECT_EQ(run.again.changed.value, pages);
        if (run.first.refreshed.value == 0) {
            EXPECT_EQ(run.again.copied.value, pages) << "mapped anew";
            EXPECT_EQ(run.faults_saved(), 0U);
        } else {
            EXPECT_EQ(run.first.refreshed.value, pages);
            EXPECT_EQ(run.again.copied.value, 0U);
            EXPECT_EQ(run.again.minor_faults, 0U);
            EXPECT_EQ(run.faults_saved(), pages);
        }
    }
}

TEST(RunResidentTest, WritesOfTheSameRefreshNothing) {
    Workload workload = small_workload(Pattern::stride);
    workload.rewrite_same = 1;
    const ResidentRun run = run_resident(workload, make_image(workload, PagePolicy::automatic), sys::best_page_scan());
    EXPECT_EQ(run.first.copied.value, 600U);
    EXPECT_EQ(run.first.changed.value, 0U);
    EXPECT_EQ(run.first.refreshed.value, 0U);
}

}  // namespace
