// Tests deltas in the page store and in files, and the layers that they make.
#include "vmcow/image/delta.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::copy_of;
using tests::error_of;
using tests::noise;
using tests::Pages;
using tests::run_of;
using tests::same_bytes;
using tests::snapshot_of;

using Bytes = std::vector<std::byte>;
using DeltaPtr = std::shared_ptr<const Delta>;

constexpr PageCount kImagePages{1000};

std::vector<PageIndex> indices_of(const Pages& pages) {
    std::vector<PageIndex> indices;
    for (const std::uint64_t page : pages) indices.push_back({page});
    return indices;
}

/// A delta of `pages`, whose bytes follow each other in `content`.
DeltaPtr made_by(Layers::DeltaMaker make, const Pages& pages, const Bytes& content) {
    return make(indices_of(pages), [&](std::size_t i) { return content.data() + i * kPageBytes; });
}

DeltaPtr stored(const Pages& pages, const Bytes& content) { return made_by(Delta::stored_copy_of, pages, content); }

bool holds(const Delta& delta, const Pages& pages, const Bytes& content) {
    const auto expected = indices_of(pages);
    if (!std::equal(expected.begin(), expected.end(), delta.pages().begin(), delta.pages().end())) return false;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (std::memcmp(delta.content({i}), content.data() + i * kPageBytes, kPageBytes) != 0) return false;
    }
    return true;
}

/// The chunk that holds a stored delta, mapped as another process maps it.
std::shared_ptr<const ReadOnlyImage> chunk_of(const Delta& delta) {
    return std::make_shared<const ReadOnlyImage>(
        sys::duplicate(delta.fd()), Slot::reserve(delta.stored()->chunk_bytes()), "chunk", FileState::borrowed);
}

TEST(DeltaForChildTest, ShortOneTakesNoDescriptorAndIsNeverMapped) {
    const Pages pages = run_of(10, kMappedRun.value - 1);
    const Bytes content = noise(pages.size() * kPageBytes);
    std::optional<DescriptorLimit> limit(0);
    const DeltaPtr delta = made_by(Delta::copy_for_child, pages, content);
    limit.reset();
    EXPECT_TRUE(holds(*delta, pages, content));
    EXPECT_EQ(delta->stored(), nullptr);
    const Snapshot base = tests::zeros(100);
    const Layers layers(base.layers()->shared_base(), base.extent_bytes(), {delta});
    EXPECT_EQ((std::vector<PageRun>{{{10}, {pages.size()}}}), layers.placed());
    // Another process gets it in a file.
    const DeltaPtr sent = Delta::in_own_file(delta);
    EXPECT_TRUE(holds(*sent, pages, content));
    EXPECT_TRUE(sys::is_immutable(sent->fd()));
}

TEST(DeltaForChildTest, LongOneIsMapped) {
    const Pages pages = run_of(10, kMappedRun.value);
    const Bytes content = noise(pages.size() * kPageBytes);
    const DeltaPtr delta = made_by(Delta::copy_for_child, pages, content);
    EXPECT_TRUE(holds(*delta, pages, content));
    EXPECT_EQ(Delta::in_own_file(delta), delta);
}

TEST(StoredDeltaTest, HoldsWhatWasCopied) {
    const Pages pages{0, 3, 4, 999};
    Bytes content = noise(pages.size() * kPageBytes);
    const Bytes before = content;
    const DeltaPtr delta = stored(pages, content);
    std::fill(content.begin(), content.end(), std::byte{0});
    EXPECT_TRUE(holds(*delta, pages, before));
    ASSERT_NE(delta->stored(), nullptr);
    EXPECT_EQ(delta->fd(), delta->stored()->fd());
}

TEST(StoredDeltaTest, FileHasThePagesAndBehindThemTheirTable) {
    const Pages pages{7, 8, 500};
    const Bytes content = noise(pages.size() * kPageBytes);
    for (const auto make : {Delta::copy_of, Delta::stored_copy_of}) {
        const DeltaPtr delta = made_by(make, pages, content);
        Bytes file((pages.size() + 1) * kPageBytes);
        ASSERT_EQ(::pread(delta->fd(), file.data(), file.size(), static_cast<off_t>(delta->file_offset())),
                  static_cast<ssize_t>(file.size()));
        EXPECT_TRUE(same_bytes(std::span(file).first(content.size()), content));
        EXPECT_EQ(Delta::checked_table(file.data() + content.size(), {3}, kImagePages), indices_of(pages));
    }
}

TEST(StoredDeltaTest, TableOfManyPagesNeedsPagesOfItsOwn) {
    const std::uint64_t before = PageStore::used_bytes();
    const std::size_t per_page = kPageBytes / sizeof(PageIndex);
    for (const std::size_t count : {per_page, per_page + 1}) {
        const Pages pages = run_of(1, count);
        const Bytes content = noise(count * kPageBytes);
        const DeltaPtr delta = stored(pages, content);
        EXPECT_EQ(PageStore::used_bytes() - before, PageCount{count + (count > per_page ? 2U : 1U)}.bytes());
        EXPECT_TRUE(
            holds(*Delta::lying_in(chunk_of(*delta), delta->file_offset(), {count}, {1}, {count + 1}), pages, content));
    }
}

TEST(StoredDeltaTest, EndGivesItsPagesBack) {
    const std::uint64_t before = PageStore::used_bytes();
    DeltaPtr delta = stored({1, 2}, noise(2 * kPageBytes));
    const DeltaPtr second = delta;
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{3}.bytes());
    delta.reset();
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{3}.bytes()) << "as long as anyone has it";
}

TEST(StoredDeltaTest, NumberIsNeverUsedTwiceThoughTheMemoryIs) {
    const Bytes content = noise(kPageBytes);
    std::set<std::uint64_t> ids;
    std::set<const std::byte*> places;
    for (int i = 0; i < 10; ++i) {
        const DeltaPtr delta = stored({1}, content);
        EXPECT_NE(delta->id(), 0U) << "the base's";
        EXPECT_TRUE(ids.insert(delta->id()).second);
        places.insert(delta->content({0}));
    }
    EXPECT_EQ(places.size(), 1U);
}

TEST(StoredDeltaTest, NoDescriptorLeftIsEmfileAndNothingIsLeftBehind) {
    const StoredPages all = PageStore::allocate(pages_of(PageStore::kChunkBytes));
    const std::uint64_t used = PageStore::used_bytes();
    const Bytes content = noise(kPageBytes);
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([&] { static_cast<void>(stored({1}, content)); }), EMFILE);
    EXPECT_EQ(PageStore::used_bytes(), used);
}

TEST(LyingDeltaTest, IsTheSameInTheMappingOfSomebodyElse) {
    const Bytes content = noise(3 * kPageBytes);
    const DeltaPtr first = stored({9}, content);
    const DeltaPtr delta = stored({1, 2, 30}, content);
    const DeltaPtr lying = Delta::lying_in(chunk_of(*delta), delta->file_offset(), {3}, {1}, kImagePages);
    EXPECT_TRUE(holds(*lying, {1, 2, 30}, content));
    EXPECT_NE(lying->content({0}), delta->content({0}));
    EXPECT_EQ(lying->stored(), nullptr) << "it is not this one who gives the pages back";
    EXPECT_NE(lying->id(), delta->id());
}

// I3: the offset and the counts come from another process.
TEST(LyingDeltaTest, PlaceOutsideTheFileIsRefused) {
    const DeltaPtr delta = stored({1, 2}, noise(2 * kPageBytes));
    const auto chunk = chunk_of(*delta);
    const std::uint64_t at = delta->file_offset();
    const std::uint64_t end = chunk->bytes();
    struct Case {
        std::uint64_t offset;
        std::uint64_t count;
        std::uint64_t image_pages;
    };
    for (const Case& wrong :
         {Case{at, 0, 10}, Case{at + 1, 2, 10}, Case{at, 3, 2}, Case{end, 1, 10}, Case{end - kPageBytes, 2, 10},
          Case{end + kPageBytes, 1, 10}, Case{UINT64_MAX - kPageBytes + 1, 1, 10},
          Case{at, end / kPageBytes, end / kPageBytes}, Case{at, UINT64_MAX / kPageBytes, kImagePages.value},
          Case{at, UINT64_MAX, kImagePages.value}}) {
        EXPECT_EQ(error_of([&] {
                      static_cast<void>(Delta::lying_in(chunk, wrong.offset, {wrong.count}, {1}, {wrong.image_pages}));
                  }),
                  EBADMSG)
            << wrong.offset << " " << wrong.count;
    }
    EXPECT_EQ(error_of([&] { static_cast<void>(Delta::lying_in(chunk, at, {2}, {1}, {2})); }), EBADMSG)
        << "page 2 is not in an image of two";
    EXPECT_EQ(error_of([&] { static_cast<void>(Delta::lying_in(chunk, at, {2}, {1}, {3})); }), 0);
    EXPECT_EQ(error_of([&] { static_cast<void>(Delta::lying_in(chunk, at, {2}, {0}, {3})); }), EBADMSG)
        << "the table begins with page 1";
}

// A table of its own would double what a version of one page takes.
TEST(LyingDeltaTest, SinglePageHasNoTableAndItsIndexIsSaid) {
    const std::uint64_t before = PageStore::used_bytes();
    const Bytes content = noise(kPageBytes);
    const DeltaPtr delta = stored({7}, content);
    EXPECT_EQ(PageStore::used_bytes() - before, kPageBytes);
    const auto chunk = chunk_of(*delta);
    EXPECT_TRUE(holds(*Delta::lying_in(chunk, delta->file_offset(), {1}, {7}, {8}), {7}, content));
    for (const std::uint64_t outside : {std::uint64_t{8}, std::uint64_t{UINT64_MAX}}) {
        EXPECT_EQ(
            error_of([&] { static_cast<void>(Delta::lying_in(chunk, delta->file_offset(), {1}, {outside}, {8})); }),
            EBADMSG);
    }
    EXPECT_TRUE(holds(*Delta::in_own_file(delta), {7}, content)) << "a file of its own has a table";
    EXPECT_EQ(sys::file_bytes(Delta::in_own_file(delta)->fd()), 2 * kPageBytes);
}

TEST(LyingDeltaTest, TableThatIsNotAscendingWithinTheImageIsRefused) {
    using Table = std::vector<std::uint64_t>;
    for (const Table& table : {Table{9, 0}, {4, 4}, {0, 10}, {0, UINT64_MAX}, {UINT64_MAX, 0}, {10, 11}}) {
        const auto* const at = reinterpret_cast<const std::byte*>(table.data());
        EXPECT_EQ(error_of([&] { static_cast<void>(Delta::checked_table(at, {table.size()}, {10})); }), EBADMSG)
            << table[0] << ", " << table[1];
    }
}

// The process that wrote the table may change it during or after the check.
TEST(LyingDeltaTest, TableIsCopiedBeforeItIsBelieved) {
    std::vector<std::uint64_t> table{1, 5};
    const auto checked = Delta::checked_table(reinterpret_cast<const std::byte*>(table.data()), {2}, {10});
    table[1] = UINT64_MAX;
    EXPECT_EQ(checked, (std::vector<PageIndex>{{1}, {5}}));

    const StoredPages pages = PageStore::allocate({3});
    std::memset(pages.data(), 0, pages.count().bytes());
    auto* const written = reinterpret_cast<std::uint64_t*>(pages.data() + 2 * kPageBytes);
    written[1] = 5;
    auto image = std::make_shared<const ReadOnlyImage>(sys::duplicate(pages.fd()), Slot::reserve(pages.chunk_bytes()),
                                                       "chunk", FileState::borrowed);
    const DeltaPtr lying = Delta::lying_in(image, pages.file_offset(), {2}, {0}, {10});
    written[1] = 99;
    EXPECT_EQ(lying->pages()[1], PageIndex{5});
}

TEST(DeltaInOwnFileTest, OneThatHasAFileIsItself) {
    const DeltaPtr own = made_by(Delta::copy_of, {1}, noise(kPageBytes));
    EXPECT_EQ(Delta::in_own_file(own), own);
    const DeltaPtr adopted = Delta::adopt(sys::duplicate(own->fd()), {1}, kImagePages);
    EXPECT_EQ(Delta::in_own_file(adopted), adopted);
}

// A delta at the beginning of a chunk looks like a delta file, except that the file holds more.
TEST(DeltaInOwnFileTest, OneInAChunkIsCopied) {
    const Bytes content = noise(2 * kPageBytes);
    const DeltaPtr first = stored({1, 2}, content);
    const DeltaPtr second = stored({1, 2}, content);
    const DeltaPtr at_start = Delta::lying_in(chunk_of(*first), first->file_offset(), {2}, {1}, kImagePages);
    ASSERT_EQ(at_start->file_offset(), 0U);
    for (const DeltaPtr& delta : {first, second, at_start}) {
        const DeltaPtr own = Delta::in_own_file(delta);
        EXPECT_TRUE(sys::is_immutable(own->fd()));
        EXPECT_EQ(own->file_offset(), 0U);
        EXPECT_EQ(sys::file_bytes(own->fd()), 3 * kPageBytes);
        EXPECT_TRUE(holds(*own, {1, 2}, content));
    }
}

// ---- layers of deltas

Snapshot changed_in(const Snapshot& below, const Pages& pages, Layers::DeltaMaker make, std::byte mark) {
    std::vector<Bytes> contents;
    for (const std::uint64_t page : pages) {
        contents.push_back(copy_of({below.page({page}), kPageBytes}));
        contents.back()[17] = mark;
    }
    return Snapshot(below.layers()->with_changes(
        indices_of(pages), [&](std::size_t i) { return contents[i].data(); }, make));
}

TEST(LayersTest, StoredAndOtherDeltasMakeTheSameImage) {
    const Snapshot base = snapshot_of(noise(64 * kPageBytes - 9));
    Snapshot by_file = base;
    Snapshot by_store = base;
    const auto first_place = PageStore::allocate({1});  // so that no delta lies at the start of its chunk
    for (const Pages& pages : {run_of(3, 12), Pages{5, 20, 63}, run_of(10, 30)}) {
        by_file = changed_in(by_file, pages, Delta::copy_of, std::byte{3});
        by_store = changed_in(by_store, pages, Delta::stored_copy_of, std::byte{3});
        EXPECT_TRUE(same_bytes(by_store.bytes(), by_file.bytes()));
        EXPECT_TRUE(same_bytes(by_store.map_private().bytes(), by_file.bytes()));
        EXPECT_EQ(by_store.layers()->placed(), by_file.layers()->placed());
        for (std::uint64_t page = 0; page < 64; ++page) {
            ASSERT_EQ(std::memcmp(by_store.page({page}), by_file.page({page}), kPageBytes), 0) << page;
        }
    }
}

TEST(LayersTest, WriteInAMappedRunOfTheStoreStaysInTheView) {
    const Snapshot snapshot = changed_in(tests::zeros(40), run_of(3, 20), Delta::stored_copy_of, std::byte{3});
    const Bytes before = copy_of(snapshot.bytes());
    View view(snapshot);
    tests::write_pages(view, run_of(0, 40), std::byte{9});
    EXPECT_TRUE(same_bytes(snapshot.bytes(), before));
    EXPECT_TRUE(same_bytes(snapshot.map_private().bytes(), before));
    EXPECT_TRUE(same_bytes(view.capture().bytes(), view.bytes()));
}

TEST(LayersTest, SourceIsTheNewestBlockThatHasThePage) {
    const Snapshot base = tests::zeros(40);
    const Snapshot first = changed_in(base, {1, 2}, Delta::stored_copy_of, std::byte{1});
    const Snapshot second = changed_in(first, {2, 3}, Delta::copy_of, std::byte{2});
    const Layers& layers = *second.layers();
    EXPECT_EQ(layers.source({0}).block, 0U);
    EXPECT_EQ(layers.source({0}).bytes, base.page({0}));
    EXPECT_EQ(layers.source({1}).block, first.layers()->deltas()[0]->id());
    EXPECT_EQ(layers.source({2}).block, layers.deltas()[1]->id());
    EXPECT_EQ(layers.source({3}).bytes, layers.deltas()[1]->content({1}));
    EXPECT_EQ(layers.source({4}).block, 0U) << "behind the last run";
}

TEST(LayersTest, BlockGoesWithItsLastPage) {
    const std::uint64_t before = PageStore::used_bytes();
    Snapshot snapshot = changed_in(tests::zeros(40), {1, 2}, Delta::stored_copy_of, std::byte{1});
    snapshot = changed_in(snapshot, {2}, Delta::stored_copy_of, std::byte{2});
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{3 + 1}.bytes()) << "page 1 is still in the first block";
    snapshot = changed_in(snapshot, {1}, Delta::stored_copy_of, std::byte{3});
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{2}.bytes());
    EXPECT_EQ(snapshot.delta_pages(), PageCount{2});
}

// Every image of the chain is kept: each holds what has changed, and nothing is copied twice.
TEST(LayersTest, LongChainHoldsEachChangeOnce) {
    constexpr std::uint64_t kSteps = 300;
    const std::uint64_t before = PageStore::used_bytes();
    std::vector<Snapshot> chain{tests::zeros(kSteps)};
    for (std::uint64_t step = 0; step < kSteps; ++step) {
        chain.push_back(changed_in(chain.back(), {step}, Delta::stored_copy_of, std::byte{7}));
    }
    for (std::uint64_t step = 0; step <= kSteps; ++step) {
        for (std::uint64_t page = 0; page < kSteps; ++page) {
            ASSERT_EQ(chain[step].page({page})[17], page < step ? std::byte{7} : std::byte{0}) << step;
        }
    }
    EXPECT_EQ(PageStore::used_bytes() - before, PageCount{kSteps}.bytes());
}

// A block stays as long as one of its pages is in use: versions that leave one page of each large block behind would
// hold hundreds of times what they show.
TEST(LayersTest, PagesOfBlocksThatAreHardlyUsedAreGathered) {
    constexpr std::uint64_t kEach = 100;
    constexpr std::uint64_t kSteps = 50;
    const std::uint64_t before = PageStore::used_bytes();
    Snapshot snapshot = snapshot_of(noise(kEach * kPageBytes));
    Bytes model = copy_of(snapshot.bytes());
    for (std::uint64_t step = 0; step < kSteps; ++step) {
        // All pages but one are written again by the next step.
        Pages pages = run_of(step, kEach - step);
        snapshot = changed_in(snapshot, pages, Delta::stored_copy_of, static_cast<std::byte>(step + 1));
        for (const std::uint64_t page : pages) model[page * kPageBytes + 17] = static_cast<std::byte>(step + 1);
        EXPECT_LE(PageStore::used_bytes() - before, PageCount{2 * kEach + 64 + 2 * kEach}.bytes()) << step;
    }
    EXPECT_TRUE(same_bytes(snapshot.bytes(), model));
    EXPECT_EQ(snapshot.delta_pages(), PageCount{kEach});
}

TEST(LayersTest, NoChangeIsNoDelta) {
    const Snapshot snapshot = changed_in(tests::zeros(4), {1}, Delta::stored_copy_of, std::byte{1});
    EXPECT_EQ(changed_in(snapshot, {}, Delta::stored_copy_of, std::byte{1}).layers()->deltas(),
              snapshot.layers()->deltas());
}

TEST(LayersTest, DeltaOfSomebodyElseIsStackedOrMerged) {
    const Snapshot base = snapshot_of(noise(40 * kPageBytes));
    Snapshot stacked = base;
    Bytes model = copy_of(base.bytes());
    for (std::uint64_t layer = 0; layer < Layers::kMaxDeltas + 2; ++layer) {
        const Pages pages{layer, layer + 5, 39};
        const Bytes content = noise(pages.size() * kPageBytes, static_cast<unsigned>(layer));
        std::size_t i = 0;
        for (const std::uint64_t page : pages) {
            std::memcpy(model.data() + page * kPageBytes, content.data() + i++ * kPageBytes, kPageBytes);
        }
        stacked = Snapshot(stacked.layers()->with_delta(stored(pages, content)));
        EXPECT_LE(stacked.delta_count(), Layers::kMaxDeltas);
        EXPECT_TRUE(same_bytes(stacked.bytes(), model)) << layer;
    }
}

TEST(LayersTest, SnapshotOutlivesTheOneBelow) {
    const Bytes content = noise(20 * kPageBytes);
    std::optional<Snapshot> below = changed_in(snapshot_of(content), {3}, Delta::stored_copy_of, std::byte{1});
    const Snapshot above = changed_in(*below, {4}, Delta::stored_copy_of, std::byte{2});
    below.reset();
    const DeltaPtr other = stored({3}, noise(kPageBytes));  // would reuse the memory of the first delta
    EXPECT_EQ(above.page({3})[17], std::byte{1});
    EXPECT_EQ(above.page({4})[17], std::byte{2});
}

/// Every snapshot keeps its bytes, whatever is derived from it and whichever snapshots end meanwhile.
RC_GTEST_PROP(LayersPropertyTest, AnyHistoryKeepsTheBytesOfEverySnapshot, ()) {
    constexpr std::uint64_t kPages = 48;
    struct Known {
        Snapshot snapshot;
        Bytes bytes;
    };
    const Bytes content = noise(kPages * kPageBytes);
    std::vector<Known> known{{snapshot_of(content), content}};
    const auto steps = *rc::gen::inRange(1, 20);
    for (int step = 0; step < steps; ++step) {
        const auto which = *rc::gen::inRange<std::size_t>(0, known.size());
        if (known.size() > 1 && *rc::gen::inRange(0, 4) == 0) {
            known.erase(known.begin() + static_cast<std::ptrdiff_t>(which));
            continue;
        }
        const auto first = *rc::gen::inRange<std::uint64_t>(0, kPages);
        const auto count =
            *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(0, 4), rc::gen::inRange<std::uint64_t>(7, 20));
        const auto stride = *rc::gen::element<std::uint64_t>(1, 1, 2, 5);
        Pages pages;
        for (std::uint64_t i = 0; i < count && first + i * stride < kPages; ++i) pages.insert(first + i * stride);
        const auto mark = static_cast<std::byte>(*rc::gen::inRange(0, 3));
        const auto make = *rc::gen::element(0, 0, 1) == 0 ? Delta::stored_copy_of : Delta::copy_of;
        Known next{changed_in(known[which].snapshot, pages, make, mark), known[which].bytes};
        for (const std::uint64_t page : pages) next.bytes[page * kPageBytes + 17] = mark;
        RC_ASSERT(next.snapshot.delta_count() <= Layers::kMaxDeltas);
        known.push_back(std::move(next));
    }
    for (const Known& each : known) {
        RC_ASSERT(same_bytes(each.snapshot.bytes(), each.bytes));
        RC_ASSERT(same_bytes(each.snapshot.map_private().bytes(), each.bytes));
        const Snapshot adopted = Snapshot::adopt(each.snapshot.parts(), "received");
        RC_ASSERT(same_bytes(adopted.bytes(), each.bytes));
    }
}

}  // namespace
