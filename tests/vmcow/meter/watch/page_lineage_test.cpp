// Tests how two looks at a page of a parent and a child tell which of them copied it.
#include "vmcow/meter/watch/page_lineage.hpp"

#include <gtest/gtest.h>

namespace {

using vmcow::meter::follow;
using vmcow::meter::is_shared;
using vmcow::meter::LineageContext;
using vmcow::meter::PageLineage;
using vmcow::meter::PageOrigin;
using vmcow::meter::PagePair;
using vmcow::meter::PageSeen;
using vmcow::meter::PageWriter;

constexpr PageSeen kNone{};
constexpr PageLineage kInherited{PageOrigin::inherited, PageWriter::none, false};

PageSeen shared(std::uint32_t frame = 0) { return {.present = true, .exclusive = false, .frame = frame}; }
PageSeen alone(std::uint32_t frame = 0) { return {.present = true, .exclusive = true, .frame = frame}; }
PageSeen huge(bool exclusive) { return {.present = true, .exclusive = exclusive, .huge = true}; }
PageSeen swapped() { return {.swapped = true}; }

/// A later look at a child that has a parent; both had faults since the last look.
LineageContext later() { return {.has_parent = true}; }
LineageContext first(bool parent_known) {
    return {.has_parent = true, .first_look = true, .parent_known = parent_known};
}

PageWriter writer(const PagePair& child, const PagePair& parent, const LineageContext& context = later()) {
    return follow(kInherited, child, parent, context).copied_by;
}

TEST(PageLineageTest, WhoHasAnotherFrameThanBeforeHasWritten) {
    EXPECT_EQ(writer({shared(5), alone(9)}, {shared(5), alone(5)}), PageWriter::child);
    EXPECT_EQ(writer({shared(5), alone(5)}, {shared(5), alone(9)}), PageWriter::parent);
    EXPECT_EQ(writer({shared(5), shared(5)}, {shared(5), alone(9)}), PageWriter::parent) << "others still share it";
    EXPECT_EQ(writer({shared(5), alone(9)}, {shared(5), shared(5)}), PageWriter::child);
    EXPECT_EQ(writer({shared(5), shared(5)}, {shared(5), shared(5)}), PageWriter::none);
}

// Compaction moves a shared page for both processes, which are looked at one after the other.
TEST(PageLineageTest, SharedPageThatIsMovedInMemoryIsNoCopy) {
    EXPECT_EQ(writer({shared(5), shared(5)}, {shared(5), shared(7)}), PageWriter::none);
    EXPECT_EQ(writer({shared(5), shared(7)}, {shared(7), shared(7)}), PageWriter::none);
}

TEST(PageLineageTest, WithoutFramesAThirdProcessTells) {
    EXPECT_EQ(writer({shared(), alone()}, {shared(), shared()}), PageWriter::child);
    EXPECT_EQ(writer({shared(), shared()}, {alone(), alone()}), PageWriter::parent);
}

// The child is looked at first: it may have written between the two looks and left the page to the parent alone.
TEST(PageLineageTest, WithoutFramesAParentThatWasJustLeftAloneTakesASecondLook) {
    EXPECT_EQ(writer({shared(), shared()}, {shared(), alone()}), PageWriter::none);
}

TEST(PageLineageTest, WithoutFramesTheOneThatHadNoFaultsDidNotWrite) {
    const PagePair parted{shared(), alone()};
    EXPECT_EQ(writer(parted, parted), PageWriter::unknown);
    EXPECT_EQ(writer(parted, parted, {.has_parent = true, .parent_faulted = false}), PageWriter::child);
    EXPECT_EQ(writer(parted, parted, {.has_parent = true, .child_faulted = false}), PageWriter::parent);
}

// For a huge page that is mapped as one, bit 56 of each entry is that of its first page.
TEST(PageLineageTest, HugePageThatIsStillWholeWasNotWrittenTo) {
    EXPECT_EQ(writer({huge(false), shared()}, {huge(false), huge(true)}), PageWriter::none);
    EXPECT_EQ(writer({huge(false), alone()}, {huge(false), huge(true)}), PageWriter::child);
    EXPECT_EQ(writer({huge(false), huge(true)}, {huge(false), alone()}), PageWriter::parent);
    EXPECT_EQ(writer({huge(false), huge(true)}, {huge(false), shared()}), PageWriter::none);
    EXPECT_EQ(writer({huge(false), huge(false)}, {huge(false), huge(false)}), PageWriter::none);
}

TEST(PageLineageTest, WhatIsSwappedOutKeepsWhatWasKnown) {
    EXPECT_EQ(follow(kInherited, {shared(), swapped()}, {shared(), shared()}, later()), kInherited);
    EXPECT_EQ(follow(kInherited, {shared(), alone()}, {shared(), swapped()}, later()), kInherited)
        << "read back by one of the two alone";
    const PageLineage copied{PageOrigin::inherited, PageWriter::parent, false};
    EXPECT_EQ(follow(copied, {alone(), swapped()}, {alone(), alone()}, later()), copied);
}

TEST(PageLineageTest, PageThatTheParentHasGivenUpCannotBeCopiedAnyMore) {
    const PageLineage kept = follow(kInherited, {shared(), alone()}, {shared(), kNone}, later());
    EXPECT_EQ(kept.origin, PageOrigin::kept);
    EXPECT_FALSE(is_shared(kept, kNone));
    EXPECT_EQ(follow(kept, {alone(), alone()}, {kNone, alone()}, later()), kept);
    EXPECT_EQ(follow(kInherited, {shared(3), alone(8)}, {shared(3), kNone}, later()).copied_by, PageWriter::child)
        << "its own page is another one by now";
}

TEST(PageLineageTest, PageThatAppearsLaterIsNewOrACopyOfTheFile) {
    EXPECT_EQ(follow({}, {kNone, alone()}, {kNone, alone()}, later()).origin, PageOrigin::fresh);
    const PageLineage of_file = follow({}, {kNone, alone()}, {}, {.has_parent = true, .private_file = true});
    EXPECT_EQ(of_file, (PageLineage{PageOrigin::file, PageWriter::child, false}));
}

TEST(PageLineageTest, FirstLookComparesWithWhatTheParentHadBeforeTheFork) {
    EXPECT_EQ(follow({}, {kNone, shared(4)}, {alone(4), shared(4)}, first(true)), kInherited);
    EXPECT_EQ(follow({}, {kNone, alone(6)}, {alone(4), alone(4)}, first(true)),
              (PageLineage{PageOrigin::inherited, PageWriter::child, false}));
    EXPECT_EQ(follow({}, {kNone, alone(4)}, {alone(4), alone(6)}, first(true)),
              (PageLineage{PageOrigin::inherited, PageWriter::parent, false}));
    EXPECT_EQ(follow({}, {kNone, alone()}, {kNone, kNone}, first(true)).origin, PageOrigin::fresh);
    EXPECT_TRUE(follow({}, {kNone, alone()}, {kNone, alone()}, first(false)).early);
}

TEST(PageLineageTest, WithoutRelativesOnlyCopiesOfFilesAreKnown) {
    EXPECT_EQ(follow({}, {kNone, alone()}, {}, {.first_look = true}).origin, PageOrigin::unknown);
    EXPECT_EQ(follow({}, {kNone, alone()}, {}, {.first_look = true, .all_new = true}).origin, PageOrigin::fresh);
    EXPECT_EQ(follow({}, {kNone, alone()}, {}, {.first_look = true, .private_file = true}).copied_by,
              PageWriter::child);
    EXPECT_EQ(follow({}, {kNone, alone()}, {}, {}).origin, PageOrigin::fresh);
}

TEST(PageLineageTest, PageThatIsGoneIsForgotten) {
    const PageLineage copied{PageOrigin::inherited, PageWriter::child, false};
    EXPECT_EQ(follow(copied, {alone(), kNone}, {shared(), shared()}, later()), PageLineage{});
}

}  // namespace
