// A page tree: which block holds each page of a version, and what two versions share.
#include "vmcow/image/page_tree.hpp"

#include <gtest/gtest.h>
#include <malloc.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/units.hpp"

namespace {

using vmcow::Delta;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::PageIndex;
using vmcow::PageTree;
using Block = std::shared_ptr<const Delta>;
using Model = std::map<std::uint64_t, std::pair<const Delta*, std::uint32_t>>;

/// A block of pages whose content does not matter.
Block block_of(const std::set<std::uint64_t>& pages) {
    static const std::vector<std::byte> content(kPageBytes);
    std::vector<PageIndex> indices;
    for (const std::uint64_t page : pages) indices.push_back({page});
    return Delta::stored_copy_of(indices, [&](std::size_t) { return content.data(); });
}

void put(Model& model, const Block& block) {
    std::uint32_t stored = 0;
    for (const PageIndex page : block->pages()) model[page.value] = {block.get(), stored++};
}

Model pages_of(const PageTree& tree) {
    Model found;
    std::uint64_t last = 0;
    tree.for_each([&](PageIndex page, const PageTree::Place& place) {
        EXPECT_TRUE(found.empty() || page.value > last) << "ascending";
        last = page.value;
        found[page.value] = {place.block.get(), place.stored};
    });
    EXPECT_EQ(tree.count(), PageCount{found.size()});
    return found;
}

/// What `for_each_difference` visits, as it is in the two trees.
std::map<std::uint64_t, std::pair<bool, bool>> differences(const PageTree& a, const PageTree& b) {
    std::map<std::uint64_t, std::pair<bool, bool>> found;
    PageTree::for_each_difference(a, b, [&](PageIndex page, const PageTree::Place* in_a, const PageTree::Place* in_b) {
        EXPECT_EQ(in_a, a.find(page));
        EXPECT_EQ(in_b, b.find(page));
        EXPECT_TRUE(found.emplace(page.value, std::pair(in_a != nullptr, in_b != nullptr)).second);
    });
    return found;
}

TEST(PageTreeTest, EmptyOneHasNothing) {
    const PageTree tree;
    EXPECT_TRUE(tree.is_empty());
    EXPECT_EQ(tree.find({0}), nullptr);
    EXPECT_EQ(tree.find({UINT64_MAX}), nullptr);
    EXPECT_TRUE(pages_of(tree).empty());
    EXPECT_TRUE(differences(tree, tree).empty());
}

TEST(PageTreeTest, NewerBlockCountsAndTheOlderTreeIsAsItWas) {
    const Block first = block_of({1, 9, 70});
    const Block second = block_of({9, 10});
    const PageTree below = PageTree().with(first);
    const PageTree above = below.with(second);
    EXPECT_EQ(below.find({9})->block, first);
    EXPECT_EQ(below.find({10}), nullptr);
    EXPECT_EQ(above.find({9})->block, second);
    EXPECT_EQ(above.find({9})->stored, 0U);
    EXPECT_EQ(above.find({10})->stored, 1U);
    EXPECT_EQ(above.find({70})->block, first);
    EXPECT_EQ(above.count(), PageCount{4});
    EXPECT_EQ(differences(below, above),
              (std::map<std::uint64_t, std::pair<bool, bool>>{{9, {true, true}}, {10, {false, true}}}));
}

// The last page that an image of 64 TiB can have, and all levels below.
TEST(PageTreeTest, GrowsByLevelsAsPagesLieFurtherBehind) {
    PageTree tree;
    Model model;
    std::vector<PageTree> versions;
    std::vector<Block> blocks;
    for (std::uint64_t page = 1; page < std::uint64_t{1} << 34; page *= 8) {
        for (const std::uint64_t each : {page - 1, page}) {
            blocks.push_back(block_of({each}));
            versions.push_back(tree);
            tree = tree.with(blocks.back());
            put(model, blocks.back());
            EXPECT_EQ(pages_of(tree), model) << each;
            EXPECT_EQ(tree.find({each + 2}), nullptr);
        }
    }
    for (const PageTree& version : versions) {
        const auto before = pages_of(version);
        EXPECT_EQ(differences(version, tree).size(), differences(tree, version).size());
        for (const auto& [page, place] : before) EXPECT_EQ(version.find({page})->block.get(), place.first);
    }
}

TEST(PageTreeTest, BlockLivesAsLongAsATreeHasAPageOfIt) {
    Block block = block_of({1, 2});
    const std::weak_ptr<const Delta> alive = block;
    auto first = std::make_unique<PageTree>(PageTree().with(block));
    auto second = std::make_unique<PageTree>(first->with(block_of({2})));
    block.reset();
    first.reset();
    EXPECT_FALSE(alive.expired());
    second = std::make_unique<PageTree>(second->with(block_of({1})));
    EXPECT_TRUE(alive.expired());
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// What 100 000 kept versions take depends on it: each changes a page of 262 144, which is 1 GiB.
TEST(PageTreeTest, VersionTakesTheWayToItsPage) {
    constexpr std::uint64_t kVersions = 20'000;
    std::vector<Block> blocks;
    for (std::uint64_t i = 0; i < kVersions; ++i) blocks.push_back(block_of({i * 2'654'435'761U % 262'144}));
    std::vector<PageTree> versions(kVersions);
    const std::size_t before = ::mallinfo2().uordblks;
    PageTree tree;
    for (std::uint64_t i = 0; i < kVersions; ++i) versions[i] = tree = tree.with(blocks[i]);
    EXPECT_LE((::mallinfo2().uordblks - before) / kVersions, 560U);
    EXPECT_EQ(tree.count(), PageCount{kVersions});
}
#endif

/// Trees that come from one another in any way hold what maps would, and say exactly what differs.
RC_GTEST_PROP(PageTreePropertyTest, AnyTreesAreAsTheirModels, ()) {
    struct Known {
        PageTree tree;
        Model model;
    };
    std::vector<Known> known(1);
    std::vector<Block> blocks;
    const auto steps = *rc::gen::inRange(1, 25);
    for (int step = 0; step < steps; ++step) {
        const auto which = *rc::gen::inRange<std::size_t>(0, known.size());
        const auto range = *rc::gen::element<std::uint64_t>(8, 64, 65, 600, std::uint64_t{1} << 33);
        const auto pages = *rc::gen::container<std::set<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(0, range));
        if (pages.empty()) continue;
        blocks.push_back(block_of(pages));
        Known next{known[which].tree.with(blocks.back()), known[which].model};
        put(next.model, blocks.back());
        known.push_back(std::move(next));
    }
    for (const Known& each : known) RC_ASSERT(pages_of(each.tree) == each.model);
    const Known& a = known[*rc::gen::inRange<std::size_t>(0, known.size())];
    const Known& b = known[*rc::gen::inRange<std::size_t>(0, known.size())];
    std::set<std::uint64_t> expected;
    for (const auto& [page, place] : a.model) {
        if (!b.model.contains(page) || b.model.at(page) != place) expected.insert(page);
    }
    for (const auto& [page, place] : b.model) {
        if (!a.model.contains(page)) expected.insert(page);
    }
    std::set<std::uint64_t> found;
    for (const auto& [page, sides] : differences(a.tree, b.tree)) found.insert(page);
    RC_ASSERT(found == expected);
}

}  // namespace
