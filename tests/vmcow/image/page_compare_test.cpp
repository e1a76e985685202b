// Tests comparing pages byte by byte and counting the pages that differ.
#include "vmcow/image/page_compare.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/page_changes.hpp"

namespace {

using namespace vmcow;
using tests::Pages;

using Page = std::vector<std::byte>;

std::uint64_t naive_difference(const Page& a, const Page& b) {
    std::uint64_t differing = 0;
    for (std::size_t i = 0; i < kPageBytes; ++i) differing += a[i] != b[i] ? 1U : 0U;
    return differing;
}

TEST(PageCompareTest, EveryPairOfBytesIsToldApart) {
    // Page `a` holds one value; page `b` holds each of the 256 values 16 times.
    for (unsigned value = 0; value < 256; ++value) {
        const Page a(kPageBytes, static_cast<std::byte>(value));
        Page b(kPageBytes);
        for (std::size_t i = 0; i < kPageBytes; ++i) b[i] = static_cast<std::byte>(i);
        EXPECT_EQ(differing_bytes(a.data(), b.data()), kPageBytes - kPageBytes / 256) << value;
    }
}

TEST(PageCompareTest, OneByteIsFoundWhereverItIs) {
    const Page a = tests::noise(kPageBytes);
    for (std::size_t i = 0; i < kPageBytes; ++i) {
        Page b = a;
        b[i] ^= std::byte{0x80};
        ASSERT_EQ(differing_bytes(a.data(), b.data()), 1U) << i;
    }
    EXPECT_EQ(differing_bytes(a.data(), Page(a).data()), 0U);
}

RC_GTEST_PROP(PageComparePropertyTest, CountIsThatOfALoopOverBytes, ()) {
    const Page a = tests::noise(kPageBytes, *rc::gen::arbitrary<unsigned>());
    Page b = a;
    const auto places = *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(0, kPageBytes));
    for (const std::size_t place : places) b[place] = *rc::gen::arbitrary<bool>() ? std::byte{0} : std::byte{0xff};
    RC_ASSERT(differing_bytes(a.data(), b.data()) == naive_difference(a, b));
}

std::vector<PageRun> runs_of(const Pages& pages) {
    std::vector<PageRun> runs;
    for (const std::uint64_t page : pages) {
        if (!runs.empty() && runs.back().end() == PageIndex{page}) {
            runs.back().count += PageCount{1};
        } else {
            runs.push_back({{page}, {1}});
        }
    }
    return runs;
}

RC_GTEST_PROP(PageComparePropertyTest, SubtractionIsThatOfSets, ()) {
    const auto any_pages = rc::gen::container<Pages>(rc::gen::inRange<std::uint64_t>(0, 40));
    const Pages from = *any_pages;
    const Pages without = *any_pages;
    Pages expected;
    std::set_difference(from.begin(), from.end(), without.begin(), without.end(),
                        std::inserter(expected, expected.begin()));
    RC_ASSERT(subtract(runs_of(from), runs_of(without)) == runs_of(expected));
}

TEST(PageCompareTest, RunsAreCountedAsCopiedIdenticalAndChanged) {
    const auto before = tests::noise(4 * kPageBytes);
    auto now = before;
    now[0] ^= std::byte{1};
    now[3 * kPageBytes] ^= std::byte{1};
    now[3 * kPageBytes + 5] ^= std::byte{1};
    const auto page_before = [&](PageIndex page) { return before.data() + page.byte_offset(); };
    EXPECT_EQ(compare_runs({{{1}, {3}}}, now.data(), page_before), (PageChanges{{3}, {2}, 2}));
    EXPECT_EQ(compare_runs({}, now.data(), page_before), PageChanges{});
}

}  // namespace
