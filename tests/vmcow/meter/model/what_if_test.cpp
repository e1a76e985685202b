// Tests what-if counts: the bytes that would be copied with other block sizes.
#include "vmcow/meter/model/what_if.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "vmcow/meter/run/run_workload.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::meter;

/// The addresses of changed bytes, and the counts that they must give, counted one by one.
struct Bytes {
    std::set<std::uint64_t> changed;

    [[nodiscard]] std::uint64_t blocks(std::uint64_t block_bytes) const {
        std::set<std::uint64_t> blocks;
        for (const std::uint64_t address : changed) blocks.insert(address / block_bytes);
        return blocks.size();
    }
    [[nodiscard]] std::map<std::uint64_t, PageMask> pages() const {
        std::map<std::uint64_t, PageMask> pages;
        for (const std::uint64_t address : changed) {
            const std::uint64_t in_page = address % kPageBytes;
            pages[address - in_page][in_page / 64] |= std::uint64_t{1} << in_page % 64;
        }
        return pages;
    }
};

testing::AssertionResult same(const BlockCounts& counts, const Bytes& bytes) {
    if (counts.changed_bytes() != bytes.changed.size()) return testing::AssertionFailure() << counts.changed_bytes();
    for (std::uint64_t size = BlockCounts::kSmallestBlock; size <= BlockCounts::kLargestBlock; size *= 2) {
        if (counts.blocks(size) == bytes.blocks(size)) continue;
        return testing::AssertionFailure()
               << counts.blocks(size) << " blocks of " << size << ", not " << bytes.blocks(size);
    }
    return testing::AssertionSuccess();
}

RC_GTEST_PROP(ChangedBlocksTest, EverySizeIsCountedAsByABitmapInAnyOrderOfPages, ()) {
    Bytes bytes;
    // Small spreads make bytes share blocks; large ones keep even large blocks apart.
    const std::uint64_t spread = *rc::gen::element<std::uint64_t>(100, 5000, 1 << 20, std::uint64_t{1} << 34);
    for (const auto address : *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::arbitrary<std::uint64_t>())) {
        const auto length = *rc::gen::inRange<std::uint64_t>(1, 70);
        for (std::uint64_t i = 0; i < length; ++i) bytes.changed.insert(address % spread + i);
    }
    std::vector<std::uint64_t> order;
    const auto pages = bytes.pages();
    for (const auto& page : pages) order.push_back(page.first);
    if (*rc::gen::arbitrary<bool>()) std::reverse(order.begin(), order.end());
    ChangedBlocks blocks;
    for (const std::uint64_t address : order) blocks.add_page(address, pages.at(address));
    RC_ASSERT(same(blocks.counts(), bytes));
}

TEST(ChangedBlocksTest, PagesAreCompared) {
    std::vector<std::byte> before(kPageBytes);
    std::vector<std::byte> now(kPageBytes);
    ChangedBlocks blocks;
    blocks.add_page(0, now.data(), before.data());
    EXPECT_EQ(blocks.counts(), BlockCounts{}) << "an identical page is none";
    for (const std::size_t at : {0U, 3U, 4U, 100U, 4095U}) now[at] = std::byte{1};
    blocks.add_page(3 * kPageBytes, now.data(), before.data());
    EXPECT_TRUE(same(blocks.counts(), {{12288, 12291, 12292, 12388, 16383}}));
}

TEST(ChangedBlocksTest, CountsOfSeveralProcessesAddUp) {
    ChangedBlocks blocks;
    blocks.add_page(0, PageMask{1});
    BlockCounts sum = blocks.counts();
    sum += blocks.counts();
    EXPECT_EQ(sum.blocks(4), 2U);
    EXPECT_EQ(sum.blocks(2 << 20), 2U);
    EXPECT_EQ(sum.changed_bytes(), 2U);
}

const WhatIfBlock& of_size(const WhatIf& result, std::uint64_t bytes) {
    const auto found = std::find_if(result.blocks.begin(), result.blocks.end(),
                                    [&](const WhatIfBlock& block) { return block.block_bytes == bytes; });
    EXPECT_NE(found, result.blocks.end());
    return *found;
}

TEST(WhatIfTest, CopiesBlocksAndPiecesOfTheirTable) {
    ChangedBlocks blocks;
    blocks.add_page(0, PageMask{0xff});         // 8 bytes
    blocks.add_page(64 << 10, PageMask{0xff});  // and 8 more, in another block of 64 KiB
    const WhatIf result = what_if(blocks.counts(), 16);
    ASSERT_EQ(result.blocks.size(), 13U);
    EXPECT_EQ(of_size(result, 4).copied_bytes, 16U);
    EXPECT_EQ(of_size(result, 4).overhead_bytes, 2 * 4096U) << "a piece of pointers is for 2 KiB";
    EXPECT_EQ(of_size(result, 8).copied_bytes, 16U);
    EXPECT_EQ(of_size(result, 16).copied_bytes, 32U);
    EXPECT_EQ(of_size(result, 256).overhead_bytes, 4096U) << "a piece of pointers is for 128 KiB";
    EXPECT_EQ(of_size(result, 4096).copied_bytes, 8192U);
    EXPECT_EQ(of_size(result, 4096).overhead_bytes, 4096U);
    EXPECT_EQ(of_size(result, 4096).amplification, 512.0);
    EXPECT_EQ(of_size(result, 65536).copied_bytes, 131072U);
    EXPECT_EQ(of_size(result, 2 << 20).copied_bytes, 2U << 20);
    EXPECT_EQ(of_size(result, 2 << 20).total_bytes(), (2U << 20) + 4096U);
    EXPECT_EQ(result.best_block_bytes, 256U) << "the smallest block for which one piece is enough";
}

TEST(WhatIfTest, NothingChangedHasNoBestSizeAndNothingWrittenNoAmplification) {
    const WhatIf result = what_if({}, std::nullopt);
    EXPECT_EQ(result.best_block_bytes, std::nullopt);
    EXPECT_EQ(result.blocks.front().copied_bytes, 0U);
    EXPECT_EQ(result.blocks.front().amplification, std::nullopt);
}

TEST(WhatIfTest, BestSizeOfSeveralChildrenIsThatOfTheirSum) {
    ChangedBlocks first;
    first.add_page(0, PageMask{1});
    ChangedBlocks second;
    PageMask all;
    all.fill(~std::uint64_t{0});
    for (std::uint64_t page = 0; page < 512; ++page) second.add_page(page * kPageBytes, all);
    WhatIf result = what_if(first.counts(), 1);
    EXPECT_EQ(result.best_block_bytes, 4U);
    BlockCounts sum = first.counts();
    sum += second.counts();
    add_children(result, sum);
    EXPECT_EQ(of_size(result, 4).children_copied_bytes, (2U << 20) + 4);
    EXPECT_EQ(of_size(result, 4).copied_bytes, 4U);
    EXPECT_EQ(result.best_block_bytes, 4096U) << "two pieces of 4 KiB, and one page more than needed";
}

TEST(WhatIfTest, ModelIsUnknownWhereWritesChangeNothingOrBlocksAreTooMany) {
    WhatIf result = what_if({}, 1);
    add_model(result, {.rewrite_same = 0.5});
    for (const WhatIfBlock& block : result.blocks) EXPECT_EQ(block.expected_bytes, std::nullopt);
    add_model(result, {.size_bytes = 256 << 20, .pattern = Pattern::zipf});
    EXPECT_EQ(of_size(result, 4).expected_bytes, std::nullopt);
    EXPECT_TRUE(of_size(result, 65536).expected_bytes.has_value());
}

// For every block size, a real run changes as much as the model expects.
TEST(WhatIfTest, RunsAreWithinFourSigmaForEverySize) {
    for (const Pattern pattern :
         {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot}) {
        for (const std::uint64_t length : {8U, 100U, 5000U}) {
            const Workload workload{.size_bytes = 1 << 20, .writes = 200, .write_bytes = length, .pattern = pattern};
            const WorkloadRun run = run_workload(workload);
            WhatIf result = what_if(run.blocks, run.figures.logical_bytes);
            add_model(result, workload);
            EXPECT_EQ(of_size(result, 4096).copied_bytes, run.figures.copied_bytes());
            for (const WhatIfBlock& block : result.blocks) {
                const bool may_be_unknown = pattern == Pattern::zipf || pattern == Pattern::hot;
                ASSERT_TRUE(block.expected_bytes || may_be_unknown) << name_of(pattern) << " " << block.block_bytes;
                if (!block.expected_bytes || !block.sigma_bytes) continue;
                const double off = static_cast<double>(block.copied_bytes) - *block.expected_bytes;
                EXPECT_LE(std::abs(off), 4 * *block.sigma_bytes + 1e-6 * *block.expected_bytes)
                    << name_of(pattern) << " " << length << " in blocks of " << block.block_bytes;
            }
        }
    }
}

}  // namespace
