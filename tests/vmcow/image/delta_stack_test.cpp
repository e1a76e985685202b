// A delta stack: the few deltas as which a version is sent.
#include "vmcow/image/delta_stack.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/snapshot.hpp"

namespace {

using tests::Pages;
using tests::run_of;
using vmcow::Delta;
using vmcow::kPageBytes;
using vmcow::Layers;
using vmcow::PageCount;
using vmcow::PageIndex;
using vmcow::PageStore;
using vmcow::Snapshot;

Snapshot changed_in(const Snapshot& below, const Pages& pages, std::byte mark) {
    std::vector<std::vector<std::byte>> contents;
    std::vector<PageIndex> indices;
    for (const std::uint64_t page : pages) {
        contents.push_back(tests::copy_of({below.page({page}), kPageBytes}));
        contents.back()[17] = mark;
        indices.push_back({page});
    }
    return Snapshot(below.layers()->with_changes(
        indices, [&](std::size_t i) { return contents[i].data(); }, Delta::stored_copy_of));
}

/// What the deltas of a snapshot show, one over the other, is the snapshot.
void expect_shown(const Snapshot& snapshot) {
    const auto& deltas = snapshot.layers()->deltas();
    EXPECT_LE(deltas.size(), Layers::kMaxDeltas);
    const Layers again(snapshot.layers()->shared_base(), snapshot.extent_bytes(), deltas);
    for (PageIndex page; page.value < snapshot.page_count().value; page = page + PageCount{1}) {
        EXPECT_EQ(std::memcmp(again.page(page), snapshot.page(page), kPageBytes), 0) << page.value;
    }
}

TEST(DeltaStackTest, FewBlocksAreTheDeltasThemselves) {
    const std::uint64_t before = PageStore::used_bytes();
    Snapshot snapshot = tests::zeros(40);
    for (std::uint64_t i = 0; i < Layers::kMaxDeltas; ++i) {
        snapshot = changed_in(snapshot, {i, 30}, static_cast<std::byte>(i + 1));
        EXPECT_EQ(snapshot.delta_count(), i + 1);
        expect_shown(snapshot);
    }
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{3 * Layers::kMaxDeltas}.bytes()) << "nothing was copied";
}

TEST(DeltaStackTest, ManyBlocksAreGatheredOnceForAVersion) {
    Snapshot snapshot = tests::zeros(100);
    for (std::uint64_t i = 0; i < 20; ++i) snapshot = changed_in(snapshot, {i * 3}, std::byte{1});
    const std::uint64_t before = PageStore::used_bytes();
    EXPECT_EQ(snapshot.delta_count(), 1U);
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{21}.bytes());
    EXPECT_EQ(snapshot.layers()->deltas().front(), snapshot.layers()->deltas().front());
    expect_shown(snapshot);
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{21}.bytes());
}

TEST(DeltaStackTest, NextVersionAddsWhatIsNew) {
    Snapshot snapshot = tests::zeros(100);
    for (std::uint64_t i = 0; i < 20; ++i) snapshot = changed_in(snapshot, {i * 3}, std::byte{1});
    const auto first = snapshot.layers()->deltas().front();
    const Snapshot next = changed_in(changed_in(snapshot, {0, 50}, std::byte{2}), {50, 51}, std::byte{3});
    ASSERT_EQ(next.delta_count(), 2U);
    EXPECT_EQ(next.layers()->deltas()[0], first);
    EXPECT_EQ(next.layers()->deltas()[1]->pages().size(), 3U);
    expect_shown(next);
}

TEST(DeltaStackTest, MuchLargerDeltaStaysAsItIsAtTheLargestDepth) {
    Snapshot snapshot = tests::zeros(200);
    for (std::uint64_t i = 0; i < 60; ++i) snapshot = changed_in(snapshot, {i}, std::byte{1});
    const auto large = snapshot.layers()->deltas().front();
    for (std::uint64_t i = 0; i < 3 * Layers::kMaxDeltas; ++i) {
        snapshot = changed_in(snapshot, {i, 100 + i}, static_cast<std::byte>(i + 2));
        EXPECT_EQ(snapshot.layers()->deltas().front(), large) << i;
        expect_shown(snapshot);
    }
}

// A version may go back to the base's page: then there is no block to be sent.
TEST(DeltaStackTest, DifferenceToAnOlderVersionHasTheBasesPages) {
    const Snapshot base = tests::snapshot_of(tests::noise(10 * kPageBytes));
    const Snapshot changed = changed_in(base, {2, 3}, std::byte{1});
    const auto content = [&](PageIndex page) { return base.page(page); };
    const auto back = vmcow::delta_between(changed.layers()->tree(), base.layers()->tree(), content);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->pages().size(), 2U);
    EXPECT_EQ(std::memcmp(back->content({1}), base.page({3}), kPageBytes), 0);
    EXPECT_EQ(vmcow::delta_between(base.layers()->tree(), base.layers()->tree(), content), nullptr);
}

}  // namespace
