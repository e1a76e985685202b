// Tests the book of slots, which hands out address ranges of reserved regions and the room behind them.
#include "vmcow/image/slot_book.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <vector>

#include "tests/procrun/pool/address_space.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/mmap.hpp"

namespace {

using vmcow::kHugeBytes;
using vmcow::kPageBytes;
using vmcow::SlotBook;
using vmcow::SlotBookLimits;
namespace sys = vmcow::sys;

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// Few regions, and so small that a test fills them quickly.
constexpr SlotBookLimits kSmall{.region_bytes = 256 * kMiB, .landing_bytes = 4 * kMiB, .most_for_room = 512 * kMiB};
constexpr SlotBookLimits kOneRegion{.region_bytes = 256 * kMiB, .landing_bytes = 4 * kMiB, .most_for_room = 256 * kMiB};

struct Taken {
    std::byte* address = nullptr;
    std::size_t bytes = 0;

    [[nodiscard]] std::byte* end() const noexcept { return address + bytes; }
};

/// Takes ranges from a book, and gives them back in its destructor.
class Taker {
public:
    explicit Taker(const SlotBookLimits& limits) : book_(limits) {}
    ~Taker() {
        while (!taken_.empty()) drop(taken_.size() - 1);
    }
    Taker(const Taker&) = delete;
    Taker& operator=(const Taker&) = delete;

    Taken take(std::size_t bytes, std::size_t room = 0) {
        std::byte* const address = book_.take(bytes, room);
        if (address == nullptr) return {};
        taken_.push_back({address, bytes});
        return taken_.back();
    }
    void drop(std::size_t index) {
        book_.give_back(taken_[index].address, taken_[index].bytes);
        taken_.erase(taken_.begin() + static_cast<std::ptrdiff_t>(index));
    }
    bool extend(std::size_t index, std::size_t bytes) {
        if (!book_.extend(taken_[index].end(), bytes)) return false;
        taken_[index].bytes += bytes;
        return true;
    }
    [[nodiscard]] std::size_t free_behind(std::size_t index) const { return book_.free_behind(taken_[index].end()); }
    [[nodiscard]] std::size_t count() const { return taken_.size(); }
    [[nodiscard]] SlotBook& book() { return book_; }

private:
    SlotBook book_;
    std::vector<Taken> taken_;
};

TEST(SlotBookTest, EverybodyHasAllTheRoomWhileThereIsSo) {
    Taker taker(kOneRegion);
    for (int i = 0; i < 4; ++i) ASSERT_NE(taker.take(4 * kMiB, 60 * kMiB).address, nullptr);
    EXPECT_EQ(taker.book().region_count(), 1U);
    for (std::size_t i = 0; i < taker.count(); ++i) EXPECT_TRUE(taker.extend(i, 60 * kMiB)) << i;
    EXPECT_EQ(taker.take(2 * kMiB).address == nullptr, false) << "the kernel has more";
    EXPECT_EQ(taker.book().region_count(), 2U);
}

TEST(SlotBookTest, ThereIsARegionMoreBeforeRoomIsShared) {
    Taker taker(kSmall);
    for (int i = 0; i < 8; ++i) ASSERT_NE(taker.take(4 * kMiB, 60 * kMiB).address, nullptr);
    EXPECT_EQ(taker.book().region_count(), 2U);
    for (std::size_t i = 0; i < taker.count(); ++i) EXPECT_GE(taker.free_behind(i), 60 * kMiB) << i;
}

// Each range has at least about a quarter of an equal share of the room.
TEST(SlotBookTest, RoomIsSharedWhereThereIsNoMore) {
    for (const std::size_t count : {2U, 3U, 7U, 16U, 40U}) {
        Taker taker(kOneRegion);
        for (std::size_t i = 0; i < count; ++i) ASSERT_NE(taker.take(2 * kMiB, std::size_t{1} << 40).address, nullptr);
        EXPECT_EQ(taker.book().region_count(), 1U) << count;
        const std::size_t share = 256 * kMiB / count;
        for (std::size_t i = 0; i < count; ++i) EXPECT_GE(taker.free_behind(i) + 4 * kMiB, share / 4) << count;
    }
}

TEST(SlotBookTest, WhoWantsLittleRoomLeavesTheRestToTheOneBefore) {
    Taker taker(kOneRegion);
    taker.take(2 * kMiB, 254 * kMiB);
    taker.take(2 * kMiB, 8 * kMiB);
    EXPECT_EQ(taker.free_behind(1), 8 * kMiB);
    EXPECT_EQ(taker.free_behind(0), 244 * kMiB);
    taker.take(2 * kMiB);
    EXPECT_EQ(taker.free_behind(2), 0U);
    EXPECT_EQ(taker.free_behind(1), 8 * kMiB) << "the larger room is shared";
}

TEST(SlotBookTest, WhoDoesNotGrowLiesBeyondTheRoomOfOthersAndFillsGaps) {
    Taker taker(kOneRegion);
    taker.take(4 * kMiB, 100 * kMiB);
    const Taken first = taker.take(4 * kMiB);
    const Taken second = taker.take(4 * kMiB);
    EXPECT_GE(taker.free_behind(0), 100 * kMiB);
    taker.take(4 * kMiB);
    taker.drop(1);
    EXPECT_EQ(taker.take(4 * kMiB).address, first.address) << "not from what is whole";
    EXPECT_NE(first.address, second.address);
    EXPECT_TRUE(taker.extend(0, 100 * kMiB));
}

TEST(SlotBookTest, RoomComesBackWithTheOneThatTookIt) {
    Taker taker(kOneRegion);
    taker.take(4 * kMiB, 252 * kMiB);
    taker.take(4 * kMiB, 252 * kMiB);
    EXPECT_LT(taker.free_behind(0), 130 * kMiB);
    EXPECT_FALSE(taker.extend(0, 200 * kMiB));
    taker.drop(1);
    EXPECT_TRUE(taker.extend(0, 200 * kMiB));
    // The room stays with the range that had it before.
    taker.take(4 * kMiB);
    EXPECT_TRUE(taker.extend(0, 48 * kMiB));
}

TEST(SlotBookTest, WhatIsExtendedPastWhatIsFreeIsAsBefore) {
    Taker taker(kOneRegion);
    const Taken taken = taker.take(4 * kMiB, 252 * kMiB);
    EXPECT_TRUE(taker.extend(0, 0));
    EXPECT_FALSE(taker.extend(0, 254 * kMiB));
    EXPECT_TRUE(taker.extend(0, 252 * kMiB));
    EXPECT_FALSE(taker.extend(0, 2 * kMiB));
    EXPECT_EQ(taker.book().taken_bytes(), 256 * kMiB);
    EXPECT_EQ(taker.book().free_range_count(), 0U);
    EXPECT_NE(taken.address, nullptr);
}

TEST(SlotBookTest, WhatShrinksKeepsSoMuchRoom) {
    SlotBook book(kOneRegion);
    std::byte* const at = book.take(100 * kMiB, 156 * kMiB);
    book.give_back(at + 4 * kMiB, 96 * kMiB, 40 * kMiB);
    std::byte* const next = book.take(4 * kMiB);
    EXPECT_EQ(next, at + 44 * kMiB);
    book.give_back(at + 4 * kMiB, 0, 0);
    std::byte* const last = book.take(40 * kMiB);
    EXPECT_EQ(last, at + 4 * kMiB) << "it wants no room any more";
    book.give_back(at, 4 * kMiB);
    book.give_back(next, 4 * kMiB);
    book.give_back(last, 40 * kMiB);
}

TEST(SlotBookTest, EmptyRegionsGoBackToTheKernelButForTheOldest) {
    const std::uint64_t before = tests::reserved_address_bytes();
    {
        Taker taker(kSmall);
        const Taken first = taker.take(250 * kMiB);
        for (int i = 0; i < 4; ++i) taker.take(250 * kMiB);
        EXPECT_EQ(taker.book().region_count(), 5U);
        EXPECT_EQ(tests::reserved_address_bytes() - before, 5 * 260 * kMiB);
        while (taker.count() > 1) taker.drop(1);
        EXPECT_EQ(taker.book().region_count(), 2U) << "one is kept for the next to come";
        taker.drop(0);
        EXPECT_EQ(taker.book().region_count(), 1U);
        EXPECT_EQ(tests::reserved_address_bytes() - before, 260 * kMiB) << "with its landing";
        EXPECT_EQ(taker.take(250 * kMiB).address, first.address);
    }
    EXPECT_EQ(tests::reserved_address_bytes(), before);
}

TEST(SlotBookTest, WhatComesAndGoesNeedsNoNewRegionEachTime) {
    Taker taker(kSmall);
    taker.take(250 * kMiB);
    const Taken second = taker.take(250 * kMiB);
    for (int i = 0; i < 10; ++i) {
        taker.drop(1);
        EXPECT_EQ(taker.book().region_count(), 2U);
        EXPECT_EQ(taker.take(250 * kMiB).address, second.address);
    }
}

TEST(SlotBookTest, RegionLargerThanUsualIsNotKept) {
    const std::uint64_t before = tests::reserved_address_bytes();
    Taker taker(kSmall);
    EXPECT_NE(taker.take(300 * kMiB).address, nullptr);
    taker.drop(0);
    EXPECT_EQ(taker.book().region_count(), 0U);
    EXPECT_EQ(tests::reserved_address_bytes(), before);
}

TEST(SlotBookTest, RoomForMoreThanARegionIsOne) {
    Taker taker(kSmall);
    EXPECT_NE(taker.take(4 * kMiB, 400 * kMiB).address, nullptr);
    EXPECT_GE(taker.free_behind(0), 400 * kMiB);
    taker.take(4 * kMiB, std::size_t{1} << 47);
    EXPECT_GE(taker.free_behind(0), 190 * kMiB) << "all that there is would be too much";
    EXPECT_GE(taker.free_behind(1), 190 * kMiB);
}

TEST(SlotBookTest, NothingLeftIsNullptrAndTheBookIsAsBefore) {
    EXPECT_EQ(tests::in_child([] {
                  Taker taker(kSmall);
                  taker.take(4 * kMiB, 100 * kMiB);
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + kMiB);
                  if (taker.take(260 * kMiB).address != nullptr) return 1;
                  if (taker.take(254 * kMiB).address != nullptr) return 2;
                  if (taker.book().taken_bytes() != 4 * kMiB || taker.book().region_count() != 1) return 3;
                  return taker.take(252 * kMiB).address != nullptr ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

// The other half stays for the rest of the process.
TEST(SlotBookTest, UnderALimitARegionIsAtMostHalfOfWhatThereIs) {
    EXPECT_EQ(tests::in_child([] {
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 200 * kMiB);
                  Taker taker(kSmall);
                  for (int i = 0; i < 10; ++i) {
                      if (taker.take(2 * kMiB, 100 * kMiB).address == nullptr) return 1;
                  }
                  if (taker.book().region_count() != 1) return 2;
                  void* const memory = ::mmap(nullptr, 90 * kMiB, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                  return memory != MAP_FAILED ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

// In a child a fork handler may have mapped memory at the landing, which does not belong to the region then.
TEST(SlotBookTest, LandingOfARegionIsNotGivenBackByAChildThatHasNone) {
    Taker taker(kSmall);
    const Taken first = taker.take(4 * kMiB);
    const Taken second = taker.take(252 * kMiB);
    std::byte* const landing = second.end();
    taker.take(252 * kMiB);
    ASSERT_EQ(sys::reserve_hole(landing, kPageBytes), EEXIST);
    EXPECT_EQ(tests::in_child([&] {
                  if (sys::map_memory_at(landing, kPageBytes) != 0) return 1;
                  while (taker.count() > 0) taker.drop(taker.count() - 1);
                  taker.take(256 * kMiB);
                  taker.take(256 * kMiB);
                  while (taker.count() > 0) taker.drop(taker.count() - 1);
                  if (taker.book().region_count() != 1) return 2;
                  return sys::is_mapped(landing, kPageBytes) && first.address != nullptr ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(SlotBookTest, WhatIsInheritedIsNeverGivenBackToTheKernel) {
    Taker taker(kSmall);
    const Taken first = taker.take(252 * kMiB);
    const Taken second = taker.take(252 * kMiB);
    EXPECT_EQ(tests::in_child([&] {
                  SlotBook& book = taker.book();
                  book.leave_inherited_to_claims();
                  if (book.region_count() != 0 || book.reserved_bytes() != 0) return 1;
                  if (!book.take_at(first.address, first.bytes) || !book.take_at(second.address, second.bytes))
                      return 2;
                  std::byte* const own = book.take(252 * kMiB, 4 * kMiB);
                  if (own == first.address || own == second.address) return 3;
                  book.give_back(first.address, first.bytes);
                  book.give_back(second.address, second.bytes);
                  book.give_back(own, 252 * kMiB);
                  if (!sys::is_mapped(first.address, first.bytes) || !sys::is_mapped(second.address, second.bytes))
                      return 4;
                  // Inherited ranges can grow like any other.
                  if (!book.take_at(first.address, 4 * kMiB) || !book.extend(first.address + 4 * kMiB, 8 * kMiB))
                      return 5;
                  if (book.take_at(first.address + 10 * kMiB, 2 * kMiB)) return 6;
                  book.give_back(first.address, 12 * kMiB);
                  ::_exit(book.take_at(first.address, first.bytes) ? 0 : 7);
              }),
              tests::kChildExitedWell);
}

// At the limit of mappings a range can neither be reserved again nor unmapped from the middle of a mapping. From then
// on any mapping may take it, also in children.
TEST(SlotBookMappingLimitTest, WhatCannotBeReservedAgainIsNeverGivenToAnybody) {
    EXPECT_EQ(tests::in_child([] {
                  SlotBook book(kSmall);
                  std::byte* const first = book.take(4 * kMiB);
                  std::byte* const lost = book.take(4 * kMiB);
                  std::byte* const last = book.take(4 * kMiB);
                  {
                      const tests::MappingLimit limit(0);
                      book.give_back(lost, 4 * kMiB);
                  }
                  if (book.taken_bytes() != 8 * kMiB) return 1;
                  if (book.take_at(lost, 4 * kMiB) || book.take_at(lost + 2 * kMiB, 2 * kMiB)) return 2;
                  if (book.extend(first + 4 * kMiB, 2 * kMiB)) return 3;
                  book.leave_inherited_to_claims();
                  if (book.take_at(lost, 4 * kMiB) || book.take_at(lost + 2 * kMiB, 2 * kMiB)) return 4;
                  if (!book.take_at(first, 4 * kMiB) || !book.take_at(last, 4 * kMiB)) return 5;
                  book.leave_inherited_to_claims();
                  ::_exit(book.take_at(lost, 4 * kMiB) ? 6 : 0);
              }),
              tests::kChildExitedWell);
}

// Of a region with a lost range, only the rest is unmapped.
TEST(SlotBookMappingLimitTest, EmptyRegionGoesBackWithoutWhatWasLost) {
    EXPECT_EQ(tests::in_child([] {
                  SlotBook book(kSmall);
                  std::byte* const first = book.take(8 * kMiB);
                  std::byte* const lost = book.take(250 * kMiB);
                  std::byte* const last = book.take(6 * kMiB);
                  std::byte* const other = book.take(254 * kMiB);
                  if (book.region_count() != 3 || last != lost + 250 * kMiB) return 1;
                  {
                      const tests::MappingLimit limit(0);
                      book.give_back(lost, 250 * kMiB);
                  }
                  if (sys::reserve_hole(lost, kPageBytes) != 0) return 2;  // now taken by another mapping
                  book.give_back(last, 6 * kMiB);
                  book.give_back(other, 254 * kMiB);
                  book.give_back(first, 8 * kMiB);
                  if (book.region_count() != 1 || sys::is_mapped(last, kPageBytes)) return 3;
                  return sys::is_mapped(lost, kPageBytes) && !sys::is_mapped(other, kPageBytes) ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

// ---- against a model

/// A book, and a list of the ranges taken from it, each with a mark in its first and last page.
class ModelledBook {
public:
    explicit ModelledBook(const SlotBookLimits& limits)
        : before_(tests::reserved_address_bytes()), limits_(limits), book_(std::make_unique<SlotBook>(limits)) {}
    ~ModelledBook() {
        for (const auto& [address, bytes] : taken_) book_->give_back(address, bytes);
    }
    ModelledBook(const ModelledBook&) = delete;
    ModelledBook& operator=(const ModelledBook&) = delete;

    void take(std::size_t steps, std::size_t room_steps) {
        const std::size_t bytes = steps * kHugeBytes;
        std::byte* const at = book_->take(bytes, room_steps * kHugeBytes);
        RC_ASSERT(at != nullptr);
        add(at, bytes);
    }
    /// Claims a range near a taken one. Free room behind a taken range can be claimed; a range that overlaps another
    /// cannot.
    void claim(std::size_t which, std::ptrdiff_t steps_off, std::size_t steps) {
        if (taken_.empty()) return;
        const Entry& near = *pick(which);
        std::byte* const end = near.first + near.second;
        std::byte* const at = end + steps_off * static_cast<std::ptrdiff_t>(kHugeBytes);
        const std::size_t bytes = steps * kHugeBytes;
        const bool is_free_behind = at >= end && at + bytes <= end + book_->free_behind(end);
        const bool claimed = book_->take_at(at, bytes);
        RC_ASSERT(!claimed || !overlaps(at, bytes));
        RC_ASSERT(claimed || !is_free_behind);
        if (claimed) add(at, bytes);
    }
    void release(std::size_t which) {
        if (taken_.empty()) return;
        const auto chosen = pick(which);
        check_marks(*chosen);
        book_->give_back(chosen->first, chosen->second);
        taken_.erase(chosen);
    }
    void extend(std::size_t which, std::size_t steps) {
        if (taken_.empty()) return;
        Entry& chosen = *pick(which);
        std::byte* const end = chosen.first + chosen.second;
        const std::size_t bytes = steps * kHugeBytes;
        const std::size_t free = book_->free_behind(end);
        RC_ASSERT(!overlaps(end, free));
        RC_ASSERT(book_->extend(end, bytes) == (bytes <= free));
        if (bytes <= free) resize(chosen, chosen.second + bytes);
    }
    void shrink(std::size_t which, std::size_t steps, std::size_t room_steps) {
        if (taken_.empty()) return;
        Entry& chosen = *pick(which);
        const std::size_t kept = std::min(steps * kHugeBytes, chosen.second);
        const std::size_t given = chosen.second - kept;
        resize(chosen, kept);
        book_->give_back(chosen.first + kept, given, room_steps * kHugeBytes);
    }

    void check() const {
        std::size_t sum = 0;
        std::byte* last_end = nullptr;
        for (const auto& [address, bytes] : taken_) {
            RC_ASSERT(address >= last_end);
            last_end = address + bytes;
            sum += bytes;
            RC_ASSERT(sys::is_mapped(address, bytes));
        }
        RC_ASSERT(book_->taken_bytes() == sum);
    }
    /// Checks that exactly the free addresses of the book are reserved in the kernel.
    void check_kernel() const {
        const std::size_t marked = 2 * kPageBytes * taken_.size();
        const std::size_t landings = book_->region_count() * limits_.landing_bytes;
        RC_ASSERT(tests::reserved_address_bytes() - before_ + marked == book_->reserved_bytes() + landings);
    }
    void end() {
        while (!taken_.empty()) release(0);
        RC_ASSERT(book_->taken_bytes() == 0U);
        RC_ASSERT(book_->region_count() <= 1U);
        RC_ASSERT(book_->free_range_count() == book_->region_count());
        check_kernel();
    }

private:
    using Entries = std::map<std::byte*, std::size_t>;
    using Entry = Entries::value_type;

    static std::byte mark_of(const std::byte* address) {
        return static_cast<std::byte>((reinterpret_cast<std::uintptr_t>(address) / kHugeBytes * 7 + 1) & 0xff);
    }
    static void mark(const Entry& taken) {
        for (std::byte* const page : {taken.first, taken.first + taken.second - kPageBytes}) {
            RC_ASSERT(sys::map_memory_at(page, kPageBytes) == 0);
            *page = mark_of(taken.first);
        }
    }
    static void check_marks(const Entry& taken) {
        for (const std::byte* const page : {taken.first, taken.first + taken.second - kPageBytes}) {
            RC_ASSERT(*page == mark_of(taken.first));
        }
    }
    static void resize(Entry& taken, std::size_t bytes) {
        check_marks(taken);
        RC_ASSERT(sys::reserve_at(taken.first + taken.second - kPageBytes, kPageBytes) == 0);
        taken.second = bytes;
        mark(taken);
    }

    void add(std::byte* at, std::size_t bytes) {
        RC_ASSERT(!overlaps(at, bytes));
        mark(*taken_.emplace(at, bytes).first);
    }
    [[nodiscard]] bool overlaps(const std::byte* at, std::size_t bytes) const {
        return std::any_of(taken_.begin(), taken_.end(), [&](const auto& taken) {
            return at < taken.first + taken.second && taken.first < at + bytes;
        });
    }
    Entries::iterator pick(std::size_t which) {
        return std::next(taken_.begin(), static_cast<std::ptrdiff_t>(which % taken_.size()));
    }

    std::uint64_t before_;
    SlotBookLimits limits_;
    std::unique_ptr<SlotBook> book_;
    Entries taken_;
};

struct Step {
    unsigned kind;
    unsigned which;
    int off;
    unsigned steps;
    unsigned room;
};

Step any_step() {
    return {*rc::gen::inRange(0U, 8U), *rc::gen::inRange(0U, 1000U), *rc::gen::inRange(-20, 40),
            *rc::gen::inRange(1U, 20U), *rc::gen::inRange(0U, 100U)};
}

void run_step(ModelledBook& book, const Step& step) {
    switch (step.kind) {
        case 0:
        case 1:
            return book.take(step.steps, step.room);
        case 2:
            return book.take(step.steps, 0);
        case 3:
            return book.claim(step.which, step.off, step.steps);
        case 4:
            return book.extend(step.which, step.steps);
        case 5:
            return book.shrink(step.which, step.steps, step.room);
        default:
            return book.release(step.which);
    }
}

RC_GTEST_PROP(SlotBookPropertyTest, NothingOverlapsTheKernelAgreesAndAllComesTogetherAgain, ()) {
    ModelledBook book(*rc::gen::element(kSmall, kOneRegion));
    const int count = *rc::gen::inRange(0, 150);
    for (int i = 0; i < count; ++i) {
        run_step(book, any_step());
        book.check();
        if (i % 16 == 0) book.check_kernel();
    }
    book.end();
}

}  // namespace
