// Tests that the counts of a run agree with the kernel's and with the model.
#include "vmcow/meter/run/run_workload.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::meter;
using sys::PageScanMethod;

using Case = std::tuple<Pattern, bool, PageScanMethod>;

class RunWorkloadTest : public testing::TestWithParam<Case> {
protected:
    void SetUp() override {
        const bool wanted = std::get<PageScanMethod>(GetParam()) == PageScanMethod::pagemap_scan;
        if (wanted && sys::page_scan_error() != 0) GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN (Linux 6.7)";
    }

    [[nodiscard]] static Workload workload(std::uint64_t size_bytes, std::uint64_t writes, std::uint64_t write_bytes) {
        return {.size_bytes = size_bytes,
                .writes = writes,
                .write_bytes = write_bytes,
                .pattern = std::get<Pattern>(GetParam()),
                .aligned = std::get<bool>(GetParam())};
    }
    [[nodiscard]] static RunOptions options(PagePolicy pages = PagePolicy::automatic) {
        return {.page_scan = std::get<PageScanMethod>(GetParam()), .pages = pages};
    }
};

/// Checks what holds for every run in which each write changes the bytes that it touches.
void expect_consistent(const WorkloadRun& run, const Workload& workload) {
    EXPECT_EQ(run.figures.copied_bytes(), run.anonymous_bytes);
    EXPECT_EQ(run.figures.copied.value, run.minor_faults);
    EXPECT_EQ(run.figures.logical_bytes, workload.writes * workload.write_bytes);
    EXPECT_EQ(run.figures.changed_bytes, run.figures.distinct_bytes);
    EXPECT_EQ(run.figures.identical, PageCount{0});
    EXPECT_EQ(run.figures.resident_bytes, run.anonymous_bytes);
    EXPECT_GT(run.seconds, 0);
    ASSERT_TRUE(run.residual().has_value());
    EXPECT_LE(std::abs(*run.residual()), 4);
}

TEST_P(RunWorkloadTest, CountsAgreeForManySmallWrites) {
    const Workload many = workload(8 << 20, 3000, 8);
    expect_consistent(run_workload(many, options()), many);
}

TEST_P(RunWorkloadTest, CountsAgreeForWritesThatStraddlePages) {
    const Workload long_writes = workload(6 << 20, 100, 5000);
    expect_consistent(run_workload(long_writes, options()), long_writes);
}

TEST_P(RunWorkloadTest, CountsAgreeInSmallPages) {
    const Workload many = workload(4 << 20, 500, 24);
    const WorkloadRun run = run_workload(many, options(PagePolicy::small));
    expect_consistent(run, many);
    EXPECT_EQ(run.image.huge_bytes, 0U);
}

TEST_P(RunWorkloadTest, CountsAgreeForAnImageThatEndsWithinAPage) {
    const Workload odd = workload(3 * kHugeBytes + 4099, 2000, 13);
    expect_consistent(run_workload(odd, options()), odd);
    const Workload tiny = workload(5, 3, 2);
    expect_consistent(run_workload(tiny, options()), tiny);
}

TEST_P(RunWorkloadTest, WritesOfTheSameCopyPagesAndChangeNothing) {
    Workload same = workload(4 << 20, 500, 24);
    same.rewrite_same = 1;
    const WorkloadRun run = run_workload(same, options());
    EXPECT_GT(run.figures.copied.value, 0U);
    EXPECT_EQ(run.figures.identical, run.figures.copied);
    EXPECT_EQ(run.figures.changed_bytes, 0U);
    EXPECT_EQ(run.figures.copied.value, run.minor_faults);
    EXPECT_LE(std::abs(run.residual().value()), 4);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
    return std::string(name_of(std::get<Pattern>(info.param))) +
           (std::get<bool>(info.param) ? "_aligned_" : "_anywhere_") +
           sys::name_of(std::get<PageScanMethod>(info.param));
}

INSTANTIATE_TEST_SUITE_P(AllPatterns, RunWorkloadTest,
                         testing::Combine(testing::Values(Pattern::uniform, Pattern::sequential, Pattern::stride,
                                                          Pattern::zipf, Pattern::hot),
                                          testing::Bool(),
                                          testing::Values(PageScanMethod::pagemap_scan, PageScanMethod::pagemap_bits)),
                         case_name);

TEST(RunWorkloadMeterTest, ShareOfTheSameMakesSomePagesIdentical) {
    const Workload workload{.size_bytes = 16 << 20, .writes = 4000, .rewrite_same = 0.5};
    const WorkloadRun run = run_workload(workload);
    EXPECT_GT(run.figures.identical.value(), PageCount{0});
    EXPECT_LT(run.figures.identical.value(), run.figures.copied);
    EXPECT_LT(run.figures.changed_bytes.value(), run.figures.distinct_bytes.value());
}

TEST(RunWorkloadMeterTest, OverlappingWritesCountOnceAsDistinct) {
    const Workload workload{.size_bytes = 4096, .writes = 100, .write_bytes = 4096};
    const WorkloadRun run = run_workload(workload);
    EXPECT_EQ(run.figures.distinct_bytes, 4096U);
    EXPECT_EQ(run.figures.changed_bytes, 4096U);
    EXPECT_EQ(run.figures.copied, PageCount{1});
    EXPECT_EQ(run.figures.amplification(), 0.01);
}

TEST(RunWorkloadPageTableTest, OnePageTableServesTwoMebibytes) {
    const Workload workload{.size_bytes = 64 << 20, .writes = (64 << 20) / kPageBytes, .pattern = Pattern::stride};
    const WorkloadRun run = run_workload(workload);
    ASSERT_TRUE(run.figures.page_table_bytes.has_value());
    EXPECT_GE(*run.figures.page_table_bytes, 32 * kPageBytes);
    EXPECT_LE(*run.figures.page_table_bytes, 34 * kPageBytes);
}

TEST(RunWorkloadMeterTest, MemoryNeededCoversTheImageAndEveryCopy) {
    const Workload everywhere{.size_bytes = 64 << 20, .writes = 1'000'000};
    EXPECT_GE(memory_needed(everywhere), 2 * everywhere.size_bytes + everywhere.size_bytes / 8);
    const Workload one{.size_bytes = 64 << 20, .writes = 1};
    EXPECT_GE(memory_needed(one), one.size_bytes + 2 * kPageBytes);
    EXPECT_LT(memory_needed(one), 2 * one.size_bytes);
    const Workload largest{.size_bytes = std::uint64_t{1} << 46, .writes = 1'000'000'000, .write_bytes = 1 << 20};
    EXPECT_GT(memory_needed(largest), 2 * largest.size_bytes);
}

TEST(RunWorkloadMeterTest, NoDescriptorLeftIsEmfileAndNothingIsLeftBehind) {
    const Workload workload{.size_bytes = 4 << 20, .writes = 10};
    for (const std::size_t free : {0U, 1U}) {
        const DescriptorLimit limit{free};
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(run_workload(workload)); }), EMFILE) << free << " free";
    }
}

TEST(MeterTest, AmplificationIsUnknownWithoutLogicalBytes) {
    EXPECT_EQ(CopyFigures{.copied = PageCount{3}}.amplification(), std::nullopt);
    EXPECT_EQ((CopyFigures{.logical_bytes = 0, .copied = PageCount{3}}).amplification(), std::nullopt);
    EXPECT_EQ((CopyFigures{.logical_bytes = 4096, .copied = PageCount{3}}).amplification(), 3.0);
}

}  // namespace
