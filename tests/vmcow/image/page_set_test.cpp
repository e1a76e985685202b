// A page set against std::set.
#include "vmcow/image/page_set.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

#include "tests/support/images.hpp"

namespace {

using tests::Pages;
using vmcow::PageCount;
using vmcow::PageIndex;
using vmcow::PageSet;

Pages pages_of(const PageSet& set) {
    Pages found;
    set.for_each([&](PageIndex page) {
        EXPECT_TRUE(found.empty() || *found.rbegin() < page.value) << "ascending";
        found.insert(page.value);
    });
    EXPECT_EQ(set.count(), PageCount{found.size()});
    EXPECT_EQ(set.is_empty(), found.empty());
    EXPECT_EQ(tests::pages_in(set.runs()), found);
    EXPECT_TRUE(tests::is_maximal(set.runs()));
    return found;
}

TEST(PageSetTest, RunsCountWhatIsNew) {
    PageSet set;
    EXPECT_EQ(set.insert({{{10}, {5}}}), PageCount{5});
    EXPECT_EQ(set.insert({{{12}, {5}}, {{4095}, {2}}}), PageCount{4});
    EXPECT_TRUE(set.contains({4096}));
    EXPECT_FALSE(set.contains({4097}));
    EXPECT_FALSE(set.contains({UINT64_MAX}));
    set.clear();
    EXPECT_TRUE(pages_of(set).empty());
}

RC_GTEST_PROP(PageSetPropertyTest, IsAsItsModel, ()) {
    const auto page = rc::gen::element<std::uint64_t>(0, 1, 63, 64, 65, 4095, 4096, 4097, 8191, 8192, 20'000);
    PageSet set;
    Pages model;
    const auto steps = *rc::gen::inRange(0, 60);
    for (int step = 0; step < steps; ++step) {
        const std::uint64_t at = *page;
        if (*rc::gen::inRange(0, 8) == 0) {
            set.cut({at});
            model.erase(model.lower_bound(at), model.end());
        } else {
            RC_ASSERT(set.insert(PageIndex{at}) == model.insert(at).second);
        }
        RC_ASSERT(set.contains({at}) == model.contains(at));
    }
    RC_ASSERT(pages_of(set) == model);
}

}  // namespace
