// Tests resident views, which keep their private pages between the calls of a warm worker.
#include "vmcow/image/resident_view.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace vmcow;
using tests::copy_of;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::noise;
using tests::Pages;
using tests::run_of;
using tests::same_bytes;
using tests::snapshot_of;

using Bytes = std::vector<std::byte>;

constexpr PageCount kNoBudget{std::uint64_t{1} << 40};
/// Costs that make one of the two ways always the cheaper one. A cost of 0 is never learnt anew.
constexpr CopyCosts kRefreshIsFree{1e12, 0, 0, 0, 1e12};
constexpr CopyCosts kMappingIsFree{0, 1e12, 1e12, 0, 0};

/// A resident view as a warm worker has it, with helpers that write to it.
class Warm {
public:
    explicit Warm(const Snapshot& snapshot, const CopyCosts& costs = kRefreshIsFree, PageCount budget = kNoBudget)
        : view_(snapshot, Slot::reserve(snapshot.layers()->mapped_bytes()), costs, budget) {}

    ResidentView* operator->() noexcept { return &view_; }
    ResidentView& operator*() noexcept { return view_; }
    void write(const Pages& pages, std::byte mark = std::byte{1}) {
        for (const std::uint64_t page : pages) view_.bytes()[page * kPageBytes + 17] = mark;
    }
    void touch(const Pages& pages) {
        for (const std::uint64_t page : pages) {
            volatile std::byte& byte = view_.bytes()[page * kPageBytes + 17];
            byte = byte;
        }
    }
    void find_changes(sys::PageScanMethod method = sys::best_page_scan()) {
        view_.find_changes(sys::PageScanner(method), true);
    }
    [[nodiscard]] Pages changed() const {
        Pages pages;
        for (const PageIndex page : view_.changed()) pages.insert(page.value);
        return pages;
    }
    /// The private pages of the mapping, as the kernel counts them in smaps.
    [[nodiscard]] std::uint64_t anonymous_pages() {
        return sys::read_smaps(reinterpret_cast<std::uintptr_t>(view_.bytes().data()),
                               view_.snapshot().layers()->mapped_bytes())
                   .anonymous_bytes /
               kPageBytes;
    }

private:
    ResidentView view_;
};

/// `below` with `pages` changed, in one more stored delta.
Snapshot changed_in(const Snapshot& below, const Pages& pages, std::byte mark = std::byte{1}) {
    std::vector<PageIndex> indices;
    std::vector<Bytes> contents;
    for (const std::uint64_t page : pages) {
        indices.push_back({page});
        contents.push_back(copy_of({below.page({page}), kPageBytes}));
        contents.back()[17] = mark;
    }
    return Snapshot(below.layers()->with_changes(
        indices, [&](std::size_t i) { return contents[i].data(); }, Delta::stored_copy_of));
}

TEST(ResidentViewTest, HoldsTheSnapshotAndHasNoPagesUntilItIsWrittenTo) {
    const auto content = noise(20 * kPageBytes - 7);
    Warm view(snapshot_of(content));
    EXPECT_TRUE(same_bytes(view->bytes(), content));
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::clean);
    view.find_changes();
    EXPECT_EQ(view->resident(), PageCount{0});
    EXPECT_EQ(view->copied(), PageCount{0});
    EXPECT_TRUE(view->changed().empty());
    EXPECT_EQ(view.anonymous_pages(), 0U);
}

TEST(ResidentViewTest, CountsAreThoseOfTheKernelInBothPageScans) {
    for (const auto method : {sys::PageScanMethod::pagemap_bits, sys::best_page_scan()}) {
        Warm view(snapshot_of(noise(600 * kPageBytes)));
        view.write({3, 4, 511, 512});
        view.touch({9, 599});
        view.find_changes(method);
        EXPECT_EQ(view->copied(), PageCount{6});
        EXPECT_EQ(view.changed(), (Pages{3, 4, 511, 512})) << "I6";
        EXPECT_EQ(view->changed_bytes(), 4U);
        EXPECT_EQ(view->resident(), PageCount{6});
        EXPECT_EQ(view.anonymous_pages(), 6U);
        view.write({4, 20}, std::byte{2});
        view.find_changes(method);
        EXPECT_EQ(view->copied(), PageCount{7}) << "of which 4 is not a second one";
        EXPECT_EQ(view->resident(), PageCount{7});
    }
}

TEST(ResidentViewTest, PagesThatWereKeptAreComparedWithoutAScan) {
    Warm view(snapshot_of(noise(20 * kPageBytes)));
    view.write({3, 4});
    view.find_changes();
    view->restore();
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::resident);
    view.write({4});
    view->find_changes(sys::PageScanner(), false);
    EXPECT_EQ(view.changed(), (Pages{4}));
    EXPECT_EQ(view->copied(), PageCount{0});
}

TEST(ResidentViewTest, RestoreRefreshesWhatHasChangedAndKeepsThePages) {
    const auto content = noise(20 * kPageBytes);
    Warm view(snapshot_of(content));
    view.write({3, 4});
    view.touch({5});
    view.find_changes();
    view->restore();
    EXPECT_TRUE(same_bytes(view->bytes(), content));
    EXPECT_EQ(view->take_refreshed(), PageCount{2});
    EXPECT_EQ(view->take_refreshed(), PageCount{0});
    EXPECT_EQ(view->copied(), PageCount{3}) << "still told, after the reply";
    EXPECT_EQ(view->resident(), PageCount{3});
    EXPECT_EQ(view.anonymous_pages(), 3U);
}

TEST(ResidentViewTest, MappedAnewItGivesItsPagesBack) {
    const auto content = noise(20 * kPageBytes);
    Warm view(snapshot_of(content), kMappingIsFree);
    const std::byte* const at = view->bytes().data();
    view.write({3, 4, 5});
    view.find_changes();
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::too_dear);
    EXPECT_EQ(view->bytes().data(), at);
    EXPECT_TRUE(same_bytes(view->bytes(), content));
    EXPECT_EQ(view->resident(), PageCount{0});
    EXPECT_EQ(view.anonymous_pages(), 0U);
    EXPECT_EQ(view->take_refreshed(), PageCount{0});
}

TEST(ResidentViewTest, MoreThanTheBudgetIsMappedAnew) {
    const auto content = noise(20 * kPageBytes);
    Warm view(snapshot_of(content), kRefreshIsFree, {4});
    view.write(run_of(2, 4));
    view.find_changes();
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::resident) << "as many as allowed";
    view.write({10}, std::byte{2});
    view.find_changes();
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::too_many);
    EXPECT_EQ(view.anonymous_pages(), 0U);
    EXPECT_TRUE(same_bytes(view->bytes(), content));
}

// One apply follows the other, and functions write the bytes that are there: nothing is ever restored.
TEST(ResidentViewTest, BudgetHoldsAlsoWhereNothingIsRestored) {
    Warm view(tests::zeros(40), kRefreshIsFree, {4});
    std::uint64_t most = 0;
    for (std::uint64_t round = 0; round < 10; ++round) {
        view.write({3 * round}, std::byte{9});
        view.touch({3 * round + 1});
        view.find_changes();
        const Snapshot result = changed_in(view->snapshot(), view.changed(), std::byte{9});
        view->accept(result);
        static_cast<void>(view->prepare(result, false));
        ASSERT_TRUE(same_bytes(view->bytes(), result.bytes()));
        const auto placed = sys::total_pages(result.layers()->placed());
        most = std::max(most, view.anonymous_pages() - std::min(view.anonymous_pages(), placed.value));
    }
    EXPECT_LE(most, 4U);
}

TEST(ResidentViewTest, PagesThatArePlacedAreNoReasonToMapAnew) {
    const Snapshot snapshot = changed_in(tests::zeros(40), {1, 5, 9});
    Warm view(snapshot, kRefreshIsFree, {0});
    EXPECT_EQ(view->resident(), PageCount{3});
    EXPECT_EQ(view->prepare(snapshot, false), Preparation::resident);
    view.write({5}, std::byte{7});
    view.find_changes();
    EXPECT_EQ(view->copied(), PageCount{0});
    EXPECT_EQ(view->prepare(snapshot, false), Preparation::resident);
    view.write({6}, std::byte{7});
    view.find_changes();
    EXPECT_EQ(view->prepare(snapshot, false), Preparation::too_many);
    EXPECT_EQ(view.anonymous_pages(), 3U);
    EXPECT_TRUE(same_bytes(view->bytes(), snapshot.bytes()));
}

TEST(ResidentViewTest, MappingAnewIsDearWherePagesArePlaced) {
    constexpr CopyCosts kFaultIsDear{1e6, 0, 10, 0, 0};
    const Snapshot base = tests::zeros(40);
    Warm placed(changed_in(base, {1, 5, 9}), kFaultIsDear);
    Warm written(base, kFaultIsDear);
    written.touch({1, 5, 9});
    written.find_changes();
    EXPECT_EQ(placed->prepare(placed->snapshot(), false), Preparation::resident) << "they would be faults again";
    EXPECT_EQ(written->prepare(base, false), Preparation::too_dear) << "nobody needs them again";
}

// I8: restoring mapped the view anew after the reply, so the next call has to report it.
TEST(ResidentViewTest, NextPreparationTellsThatRestoringWasMappingAnew) {
    for (const auto& [costs, budget, told] : {std::tuple{kMappingIsFree, kNoBudget, Preparation::too_dear},
                                              {kRefreshIsFree, PageCount{1}, Preparation::too_many}}) {
        Warm view(tests::zeros(20), costs, budget);
        view.write({3, 4});
        view.find_changes();
        view->restore();
        EXPECT_EQ(view.anonymous_pages(), 0U);
        EXPECT_EQ(view->copied(), PageCount{2}) << "still told, after the reply";
        EXPECT_EQ(view->prepare(view->snapshot(), false), told);
        EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::clean) << "once";
    }
}

TEST(ResidentViewTest, RelativeIsReachedByCopyingWhatDiffers) {
    const Snapshot base = snapshot_of(noise(40 * kPageBytes));
    const Snapshot one = changed_in(base, {1, 2}, std::byte{1});
    const Snapshot other = changed_in(changed_in(base, {2, 3}, std::byte{2}), run_of(20, 10), std::byte{3});
    Warm view(base);
    EXPECT_EQ(view->prepare(one, false), Preparation::resident);
    EXPECT_TRUE(same_bytes(view->bytes(), one.bytes()));
    EXPECT_EQ(view->take_refreshed(), PageCount{2});
    view.write({5, 30}, std::byte{7});
    view.find_changes();
    EXPECT_EQ(view->prepare(other, false), Preparation::resident);
    EXPECT_TRUE(same_bytes(view->bytes(), other.bytes()));
    EXPECT_EQ(view->take_refreshed(), PageCount{3 + 10 + 2});
    EXPECT_EQ(view->copied(), PageCount{0}) << "copied before the function, not by it";
    EXPECT_EQ(view->prepare(base, false), Preparation::resident);
    EXPECT_TRUE(same_bytes(view->bytes(), base.bytes()));
    view.find_changes();
    EXPECT_TRUE(view->changed().empty());
    EXPECT_EQ(view->copied(), PageCount{0});
    EXPECT_EQ(view->resident().value, view.anonymous_pages());
}

TEST(ResidentViewTest, RelativeWithTooLittleInCommonIsMappedAnew) {
    const Snapshot base = tests::zeros(40);
    const Snapshot far = changed_in(base, run_of(5, 20));
    Warm dear(base, kMappingIsFree);
    Warm little(base, kRefreshIsFree, {19});
    for (Warm* const view : {&dear, &little}) {
        EXPECT_EQ((*view)->prepare(far, false), Preparation::unrelated);
        EXPECT_TRUE(same_bytes((*view)->bytes(), far.bytes()));
        EXPECT_EQ(view->anonymous_pages(), 0U) << "a long run is mapped";
    }
}

TEST(ResidentViewTest, RelativeThatSharesItsDeltasCopiesOnlyTheRest) {
    const Snapshot below = changed_in(tests::zeros(40), {1, 2, 3});
    const Snapshot above = changed_in(below, {3, 9}, std::byte{2});
    Warm view(below);
    EXPECT_EQ(view->prepare(above, false), Preparation::resident);
    EXPECT_EQ(view->take_refreshed(), PageCount{2});
    EXPECT_TRUE(same_bytes(view->bytes(), above.bytes()));
}

// After an apply the view holds the result, so the next call on it copies nothing.
TEST(ResidentViewTest, AcceptedResultIsHeldWithoutCopying) {
    Warm view(snapshot_of(noise(40 * kPageBytes)));
    view.write({3, 30});
    view.find_changes();
    const Snapshot result = changed_in(view->snapshot(), {3, 30});
    view->accept(result);
    EXPECT_EQ(view->prepare(result, false), Preparation::resident);
    EXPECT_EQ(view->take_refreshed(), PageCount{0});
    EXPECT_TRUE(same_bytes(view->bytes(), result.bytes()));
    view.write({3}, std::byte{4});
    view.find_changes();
    EXPECT_EQ(view.changed(), (Pages{3}));
    view->restore();
    EXPECT_TRUE(same_bytes(view->bytes(), result.bytes())) << "restored to the result, not to what was before";
}

// I2: the owner writes to the lent arena between two calls.
TEST(ResidentViewTest, PagesThatWereKeptFollowALentBase) {
    for (const CopyCosts& costs : {kRefreshIsFree, kMappingIsFree}) {
        Arena arena = tests::arena_of(noise(30 * kPageBytes), {.pages = PagePolicy::small});
        const std::size_t bytes = ArenaAccess::mapped_bytes(arena);
        auto base = std::make_shared<const ReadOnlyImage>(sys::duplicate(ArenaAccess::read_only_fd(arena)),
                                                          Slot::reserve(bytes), "lent", FileState::borrowed);
        const Snapshot lent(std::make_shared<const Layers>(std::move(base), arena.extent_bytes(),
                                                           std::vector<std::shared_ptr<const Delta>>{}));
        Warm view(lent, costs);
        view.write({3, 4, 29});
        view.find_changes();
        for (const std::uint64_t page : {3U, 10U, 29U}) arena.bytes()[page * kPageBytes] ^= std::byte{0xff};
        static_cast<void>(view->prepare(lent, true));
        EXPECT_TRUE(same_bytes(view->bytes(), arena.bytes()));
        view.find_changes();
        EXPECT_TRUE(view->changed().empty());
        // The pages follow the base also when another image over it is prepared.
        view.write({5, 6}, std::byte{9});
        view.find_changes();
        view->restore();
        arena.bytes()[6 * kPageBytes] ^= std::byte{0xff};
        const Snapshot relative = changed_in(lent, {20}, std::byte{3});
        static_cast<void>(view->prepare(relative, true));
        EXPECT_TRUE(same_bytes(view->bytes(), relative.bytes()));
    }
}

// The memory of an ended delta is handed out again. The same address in the same chunk then holds another delta of the
// same pages. A warm worker has the chunk mapped and keeps no delta in it alive.
TEST(ResidentViewTest, StorePageThatIsUsedAgainIsNotTakenForTheOldContent) {
    const Snapshot base = tests::zeros(40);
    std::shared_ptr<const ReadOnlyImage> chunk;
    const auto as_the_worker_has_it = [&](const Snapshot& callers) {
        const Delta& delta = *callers.layers()->deltas().front();
        if (!chunk) {
            chunk = std::make_shared<const ReadOnlyImage>(
                sys::duplicate(delta.fd()), Slot::reserve(delta.stored()->chunk_bytes()), "chunk", FileState::borrowed);
        }
        auto lying = Delta::lying_in(chunk, delta.file_offset(), {delta.pages().size()}, delta.pages().front(),
                                     base.page_count());
        return Snapshot(base.layers()->with_delta(lying));
    };
    for (const Pages& pages : {Pages{1, 2}, run_of(10, 12)}) {
        std::optional<Snapshot> first = changed_in(base, pages, std::byte{1});
        const std::uint64_t offset = first->layers()->deltas().front()->file_offset();
        Warm view(as_the_worker_has_it(*first));
        view.write(pages, std::byte{50});
        view.find_changes();
        view->restore();
        EXPECT_TRUE(same_bytes(view->bytes(), first->bytes()));
        first.reset();
        const Snapshot second = changed_in(base, pages, std::byte{2});
        ASSERT_EQ(second.layers()->deltas().front()->file_offset(), offset) << "handed out again";
        static_cast<void>(view->prepare(as_the_worker_has_it(second), false));
        EXPECT_TRUE(same_bytes(view->bytes(), second.bytes()));
    }
}

// A worker restores after the reply, when its caller may already have ended the snapshot. Whatever bytes the worker
// copies then, the next image must be exact.
TEST(ResidentViewTest, RestoringFromMemoryThatIsUsedAgainDoesNotShow) {
    const Snapshot base = tests::zeros(40);
    std::optional<Snapshot> callers = changed_in(base, {1, 2}, std::byte{1});
    const Delta& delta = *callers->layers()->deltas().front();
    auto chunk = std::make_shared<const ReadOnlyImage>(
        sys::duplicate(delta.fd()), Slot::reserve(delta.stored()->chunk_bytes()), "chunk", FileState::borrowed);
    const std::uint64_t offset = delta.file_offset();
    Warm view(Snapshot(base.layers()->with_delta(Delta::lying_in(chunk, offset, {2}, {1}, base.page_count()))));
    view.write({1, 2, 3}, std::byte{50});
    view.find_changes();
    callers.reset();
    StoredPages others = PageStore::allocate({3});
    ASSERT_EQ(others.file_offset(), offset);
    std::fill(others.data(), others.data() + others.count().bytes(), std::byte{0xee});
    view->restore();
    static_cast<void>(view->prepare(base, false));
    EXPECT_TRUE(same_bytes(view->bytes(), base.bytes()));
}

TEST(ResidentViewTest, FailedScanLeavesNothingUnknown) {
    const auto content = noise(20 * kPageBytes);
    Warm view(snapshot_of(content));
    view.write({3});
    const pid_t ended = ::fork();
    if (ended == 0) {
        for (;;) ::pause();
    }
    const sys::PageScanner nobodys(ended);
    vmcow::sys::signal_process(ended, SIGKILL);
    ::waitpid(ended, nullptr, 0);
    EXPECT_NE(error_of([&] { view->find_changes(nobodys, true); }), 0);
    EXPECT_EQ(view->prepare(view->snapshot(), false), Preparation::unrelated);
    EXPECT_TRUE(same_bytes(view->bytes(), content));
}

TEST(ResidentViewMappingLimitTest, NoMappingLeftIsEnomemAndItCanBePreparedAgain) {
    EXPECT_EQ(in_child([] {
                  const Snapshot base = tests::zeros(400);
                  Snapshot far = changed_in(base, run_of(10, 20));
                  for (const std::uint64_t first : {50U, 100U, 200U}) far = changed_in(far, run_of(first, 20));
                  for (const std::size_t free : {0U, 2U, 4U}) {
                      Warm view(base, kMappingIsFree);
                      view.write({5, 60});
                      view.find_changes();
                      {
                          const tests::MappingLimit limit(free);
                          if (error_of([&] { static_cast<void>(view->prepare(far, false)); }) != ENOMEM) return 1;
                          if (error_of([&] { static_cast<void>(view->prepare(far, false)); }) != ENOMEM) return 2;
                      }
                      if (view->prepare(base, false) != Preparation::unrelated) return 3;
                      if (!same_bytes(view->bytes(), base.bytes())) return 4;
                      static_cast<void>(view->prepare(far, false));
                      if (!same_bytes(view->bytes(), far.bytes())) return 5;
                  }
                  return 0;
              }),
              kChildExitedWell);
}

TEST(ResidentViewDeathTest, SnapshotOverAnotherBaseIsABug) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    const Snapshot other = tests::zeros(4);
    EXPECT_DEATH(
        {
            Warm view(tests::zeros(4));
            static_cast<void>(view->prepare(other, false));
        },
        "shared_base");
}

TEST(CopyCostsTest, MeasuredCostsAreThoseOfSomethingThatHappened) {
    const CopyCosts costs = CopyCosts::measure();
    for (const double each : {costs.fault_ns, costs.refresh_ns, costs.compare_ns, costs.remap_ns}) EXPECT_GT(each, 0);
    EXPECT_GE(costs.drop_ns, 0);
}

// ---- against a model

/// A snapshot over the common base, with its bytes; its deltas are stored or in files.
struct Relative {
    Snapshot snapshot;
    Bytes bytes;
};

/// A resident view, and the bytes and counts that it must have.
class Modelled {
public:
    Modelled(std::size_t bytes, const CopyCosts& costs, PageCount budget)
        : relatives_{{snapshot_of(noise(bytes)), noise(bytes)}},
          view_(relatives_[0].snapshot, costs, budget),
          now_(relatives_[0].bytes) {}

    void write(std::size_t at, std::size_t length, bool same, std::byte mask) {
        volatile std::byte* const bytes = view_->bytes().data();
        for (std::size_t i = at; i < std::min(at + length, now_.size()); ++i) {
            if (!same) now_[i] ^= mask;
            bytes[i] = now_[i];
        }
    }

    /// The worker's step after the function has returned.
    void find_changes(sys::PageScanMethod method) {
        const std::uint64_t before = view_->resident().value;
        view_.find_changes(method);
        RC_ASSERT(view_->copied().value == view_->resident().value - resident_when_prepared_);
        RC_ASSERT(view_->resident().value >= before);
        RC_ASSERT(view_->resident().value == view_.anonymous_pages());
        std::uint64_t differing = 0;
        RC_ASSERT(view_.changed() == differing_pages(differing));
        RC_ASSERT(view_->changed_bytes() == differing);
        RC_ASSERT(same_bytes(view_->bytes(), now_));
    }

    void restore() {
        view_->restore();
        now_ = below();
        check();
    }

    void prepare(std::size_t which) {
        const Relative& wanted = relatives_[which % relatives_.size()];
        const bool same = current_ == which % relatives_.size();
        static_cast<void>(view_->take_refreshed());
        const Preparation how = view_->prepare(wanted.snapshot, false);
        current_ = which % relatives_.size();
        now_ = wanted.bytes;
        check();
        if (how == Preparation::clean) RC_ASSERT(same || view_.anonymous_pages() == 0U);
        if (how == Preparation::too_many || how == Preparation::too_dear || how == Preparation::unrelated) {
            RC_ASSERT(view_.anonymous_pages() <= placed() + view_->take_refreshed().value);
        }
        RC_ASSERT(view_->copied() == PageCount{0});
        resident_when_prepared_ = view_->resident().value;
    }

    /// The step of an apply: the changed pages become a relative, and the view holds that relative.
    void accept(bool stored) {
        const auto content = [&](std::size_t i) { return view_->page(view_->changed()[i]); };
        const auto layers = view_->snapshot().layers()->with_changes(view_->changed(), content,
                                                                     stored ? Delta::stored_copy_of : Delta::copy_of);
        relatives_.push_back({Snapshot(layers), now_});
        RC_ASSERT(same_bytes(relatives_.back().snapshot.bytes(), now_));
        view_->accept(relatives_.back().snapshot);
        current_ = relatives_.size() - 1;
        check();
    }

    /// Ends a relative; its memory is handed out again.
    void end_relative(std::size_t which) {
        which %= relatives_.size();
        if (which == 0 || which == current_) return;
        relatives_.erase(relatives_.begin() + static_cast<std::ptrdiff_t>(which));
        if (current_ > which) --current_;
    }

private:
    [[nodiscard]] const Bytes& below() const { return relatives_[current_].bytes; }
    [[nodiscard]] std::uint64_t placed() { return sys::total_pages(view_->snapshot().layers()->placed()).value; }
    void check() {
        RC_ASSERT(same_bytes(view_->bytes(), now_));
        RC_ASSERT(view_->resident().value == view_.anonymous_pages());
    }
    [[nodiscard]] Pages differing_pages(std::uint64_t& bytes) const {
        Pages pages;
        for (std::size_t page = 0; page < now_.size(); page += kPageBytes) {
            const auto now = std::span(now_).subspan(page, std::min(kPageBytes, now_.size() - page));
            const auto before = std::span(below()).subspan(page, now.size());
            if (same_bytes(now, before)) continue;
            pages.insert(page / kPageBytes);
            for (std::size_t i = 0; i < now.size(); ++i) bytes += now[i] != before[i] ? 1U : 0U;
        }
        return pages;
    }

    std::vector<Relative> relatives_;
    std::size_t current_ = 0;
    Warm view_;
    Bytes now_;
    std::uint64_t resident_when_prepared_ = 0;
};

/// Lengths of a few bytes, of some pages, and of runs that are long enough to be mapped.
std::size_t any_length() {
    return *rc::gen::oneOf(rc::gen::inRange<std::size_t>(1, 16), rc::gen::inRange<std::size_t>(1, 3 * kPageBytes),
                           rc::gen::inRange<std::size_t>(6 * kPageBytes, 12 * kPageBytes));
}

/// One call: the view is prepared, written to and scanned, then restored, accepted or left as it is.
void one_call(Modelled& modelled, std::size_t bytes) {
    modelled.prepare(*rc::gen::inRange<std::size_t>(0, 8));
    const auto writes = *rc::gen::inRange(0, 5);
    for (int i = 0; i < writes; ++i) {
        modelled.write(*rc::gen::inRange<std::size_t>(0, bytes), any_length(),
                       *rc::gen::weightedElement<bool>({{3, false}, {1, true}}),
                       *rc::gen::element(std::byte{1}, std::byte{0x80}, std::byte{0xff}));
    }
    modelled.find_changes(*rc::gen::element(sys::best_page_scan(), sys::PageScanMethod::pagemap_bits));
    switch (*rc::gen::inRange(0, 4)) {
        case 0:
            return modelled.restore();
        case 1:
            return modelled.accept(true);
        case 2:
            return modelled.accept(*rc::gen::arbitrary<bool>());
        default:
            return;
    }
}

RC_GTEST_PROP(ResidentViewPropertyTest, AnyHistoryOfCallsHoldsTheBytesAndTheCountsOfADeepCopy, ()) {
    const auto bytes = *rc::gen::element(std::size_t{1}, kPageBytes, 37 * kPageBytes - 5, 64 * kPageBytes,
                                         kHugeBytes + 3 * kPageBytes + 1);
    const auto costs = *rc::gen::element(CopyCosts{}, kRefreshIsFree, kMappingIsFree, CopyCosts{1, 1, 1, 1, 1});
    const PageCount budget{*rc::gen::element<std::uint64_t>(0, 1, 3, 20, kNoBudget.value)};
    Modelled modelled(bytes, costs, budget);
    const auto calls = *rc::gen::inRange(1, 20);
    for (int i = 0; i < calls; ++i) {
        one_call(modelled, bytes);
        if (*rc::gen::inRange(0, 3) == 0) modelled.end_relative(*rc::gen::inRange<std::size_t>(0, 8));
    }
}

}  // namespace
