// Tests slots: reserving, claiming, shrinking and giving back address ranges, and which of them a child may claim.
#include "vmcow/image/slot.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using tests::error_of;
using tests::in_child;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::uintptr_t number_of(const std::byte* address) { return reinterpret_cast<std::uintptr_t>(address); }

TEST(SlotTest, EmptySlotHasNothing) {
    const Slot slot;
    EXPECT_EQ(slot.address(), nullptr);
    EXPECT_EQ(slot.bytes(), 0U);
}

TEST(SlotTest, SizeIsRoundedUpToTwoMiB) {
    for (const auto& [wanted, granted] : {std::pair{std::size_t{0}, kHugeBytes},
                                          {std::size_t{1}, kHugeBytes},
                                          {kHugeBytes, kHugeBytes},
                                          {kHugeBytes + 1, 2 * kHugeBytes}}) {
        const Slot slot = Slot::reserve(wanted);
        EXPECT_EQ(slot.bytes(), granted) << wanted;
        EXPECT_EQ(number_of(slot.address()) % kHugeBytes, 0U);
    }
}

TEST(SlotTest, SlotsDoNotOverlap) {
    std::vector<Slot> slots;
    std::set<std::uintptr_t> starts;
    for (std::size_t i = 0; i < 1000; ++i) {
        slots.push_back(Slot::reserve((i % 3 + 1) * kHugeBytes));
        for (std::size_t at = 0; at < slots.back().bytes(); at += kHugeBytes) {
            EXPECT_TRUE(starts.insert(number_of(slots.back().address()) + at).second);
        }
    }
}

TEST(SlotTest, SelfMoveKeepsTheSlotAndMoveEmptiesTheSource) {
    Slot slot = Slot::reserve(1);
    std::byte* const address = slot.address();
    Slot& same = slot;
    slot = std::move(same);
    EXPECT_EQ(slot.address(), address);
    Slot other = Slot::reserve(1);
    std::byte* const given_back = other.address();
    other = std::move(slot);
    EXPECT_EQ(other.address(), address);
    EXPECT_EQ(slot.address(), nullptr);  // NOLINT(bugprone-use-after-move): what is left of it is the claim
    EXPECT_TRUE(Slot::claim(given_back, 1).has_value());
}

TEST(SlotTest, ClaimOfAFreeRangeGivesExactlyThat) {
    Slot slot = Slot::reserve(8 * kHugeBytes);
    std::byte* const address = slot.address();
    slot = Slot();
    const auto middle = Slot::claim(address + 2 * kHugeBytes, 3 * kHugeBytes);
    ASSERT_TRUE(middle.has_value());
    EXPECT_EQ(middle->address(), address + 2 * kHugeBytes);
    EXPECT_EQ(middle->bytes(), 3 * kHugeBytes);
    EXPECT_TRUE(Slot::claim(address, 2 * kHugeBytes).has_value());
    EXPECT_FALSE(Slot::claim(address, 2 * kHugeBytes + 1).has_value()) << "reaches into the taken range";
    EXPECT_TRUE(Slot::claim(address + 5 * kHugeBytes, 3 * kHugeBytes).has_value());
}

TEST(SlotTest, ClaimOfATakenRangeIsRefused) {
    const Slot slot = Slot::reserve(4 * kHugeBytes);
    EXPECT_FALSE(Slot::claim(slot.address(), 1).has_value());
    EXPECT_FALSE(Slot::claim(slot.address() + kHugeBytes, kHugeBytes).has_value());
    EXPECT_FALSE(Slot::claim(slot.address() + 3 * kHugeBytes, 2 * kHugeBytes).has_value());
}

TEST(SlotTest, ClaimOfNonsenseIsRefused) {
    const Slot slot = Slot::reserve(1);
    const int local = 0;
    const auto* const huge_aligned_stack =
        reinterpret_cast<const void*>(round_down(reinterpret_cast<std::uintptr_t>(&local), kHugeBytes));
    EXPECT_FALSE(Slot::claim(nullptr, 1).has_value());
    EXPECT_FALSE(Slot::claim(nullptr, 0).has_value());
    EXPECT_FALSE(Slot::claim(&local, 1).has_value()) << "not aligned";
    EXPECT_FALSE(Slot::claim(huge_aligned_stack, 1).has_value()) << "not reserved";
    EXPECT_FALSE(Slot::claim(slot.address() + kPageBytes, 1).has_value());
    EXPECT_FALSE(Slot::claim(slot.address(), SIZE_MAX).has_value());
    EXPECT_FALSE(Slot::claim(slot.address(), SIZE_MAX - kHugeBytes).has_value());
    EXPECT_FALSE(Slot::claim(slot.address(), std::size_t{1} << 47).has_value());
    const auto top = reinterpret_cast<const void*>(~(kHugeBytes - 1));
    EXPECT_FALSE(Slot::claim(top, kHugeBytes).has_value());
}

TEST(SlotTest, NeighboursThatAreGivenBackAreOneRangeAgain) {
    for (const auto& order : {std::vector{0, 1, 2}, {2, 1, 0}, {0, 2, 1}, {1, 0, 2}}) {
        Slot whole = Slot::reserve(3 * kHugeBytes);
        std::byte* const address = whole.address();
        whole = Slot();
        std::vector<Slot> parts;
        for (std::size_t i = 0; i < 3; ++i) {
            auto part = Slot::claim(address + i * kHugeBytes, kHugeBytes);
            ASSERT_TRUE(part.has_value());
            parts.push_back(std::move(*part));
        }
        for (const int part : order) parts[static_cast<std::size_t>(part)] = Slot();
        EXPECT_TRUE(Slot::claim(address, 3 * kHugeBytes).has_value());
    }
}

TEST(SlotTest, ShrinkGivesTheTailBack) {
    Slot slot = Slot::reserve(5 * kHugeBytes);
    slot.shrink(kHugeBytes + 1);
    EXPECT_EQ(slot.bytes(), 2 * kHugeBytes);
    EXPECT_FALSE(Slot::claim(slot.address() + 2 * kHugeBytes, kHugeBytes).has_value()) << "kept free behind it";
    EXPECT_TRUE(Slot::claim(slot.address() + 3 * kHugeBytes, 3 * kHugeBytes).has_value());
    slot.shrink(0);
    EXPECT_EQ(slot.bytes(), kHugeBytes) << "a slot is never empty";
    slot.shrink(kHugeBytes);
    EXPECT_EQ(slot.bytes(), kHugeBytes);
}

TEST(SlotTest, RangeThatIsGivenBackIsUnmapped) {
    const sys::UniqueFd image = sys::create_memfd("image");
    sys::resize_memfd(image.get(), kPageBytes, "image");
    Slot slot = Slot::reserve(1);
    std::byte* const address = slot.address();
    ASSERT_EQ(sys::map_file_at(address, kPageBytes, sys::MapMode::shared_write, image.get(), 0), 0);
    slot = Slot();
    EXPECT_EQ(in_child([&] {
                  tests::set_action(SIGSEGV, SIG_DFL);
                  return static_cast<int>(*const_cast<volatile std::byte*>(address));
              }),
              (tests::ChildEnd{-1, SIGSEGV}));
}

TEST(SlotTest, MoreThanTheAddressSpaceIsEnomem) {
    for (const std::size_t bytes :
         {SIZE_MAX, SIZE_MAX - kHugeBytes, std::size_t{1} << 47, (std::size_t{1} << 47) + 1}) {
        EXPECT_EQ(error_of([&] { static_cast<void>(Slot::reserve(bytes)); }), ENOMEM) << bytes;
    }
}

TEST(SlotTest, UnderALimitWhatIsLeftCanBeReservedAndThenEnomem) {
    EXPECT_EQ(in_child([] {
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 64 * kMiB);
                  std::vector<Slot> taken;
                  taken.reserve(100'000);
                  for (std::size_t bytes = std::size_t{1} << 46; bytes >= kHugeBytes; bytes /= 2) {
                      while (error_of([&] { taken.push_back(Slot::reserve(bytes)); }) == 0) continue;
                  }
                  std::byte* const last = taken.back().address();
                  if (error_of([] { static_cast<void>(Slot::reserve(1)); }) != ENOMEM) return 1;
                  taken.pop_back();
                  return Slot::reserve(1).address() == last ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

TEST(SlotTest, RegionIsAsLargeAsTheLimitAllows) {
    EXPECT_EQ(in_child([] {
                  // First takes all address space that is already reserved, so that the next slot needs a new region.
                  std::vector<Slot> taken;
                  taken.reserve(100'000);
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 64 * kMiB);
                  for (std::size_t bytes = std::size_t{1} << 46; bytes > 64 * kMiB; bytes /= 2) {
                      while (error_of([&] { taken.push_back(Slot::reserve(bytes)); }) == 0) continue;
                  }
                  return error_of([] { static_cast<void>(Slot::reserve(8 * kMiB)); });
              }),
              tests::kChildExitedWell);
}

TEST(SlotTest, ThreadsTakeAndGiveBackWithoutOverlap) {
    constexpr int kRounds = 500;
    std::vector<std::thread> threads;
    std::atomic<int> damaged = 0;
    for (unsigned char mark = 1; mark <= 4; ++mark) {
        threads.emplace_back([&damaged, mark] {
            const sys::UniqueFd image = sys::create_memfd("image");
            sys::resize_memfd(image.get(), kPageBytes, "image");
            for (int round = 0; round < kRounds; ++round) {
                const Slot slot = Slot::reserve(1);
                if (sys::map_file_at(slot.address(), kPageBytes, sys::MapMode::shared_write, image.get(), 0) != 0) {
                    ++damaged;
                    return;
                }
                *slot.address() = std::byte{mark};
                std::this_thread::yield();
                if (*slot.address() != std::byte{mark}) ++damaged;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(damaged, 0);
}

TEST(SlotTest, ChildFindsTheBookWholeWhileOtherThreadsUseIt) {
    std::atomic<bool> done = false;
    std::thread other([&] {
        while (!done) static_cast<void>(Slot::reserve(1));
    });
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(in_child([] { return Slot::reserve(1).address() == nullptr ? 1 : 0; }), tests::kChildExitedWell);
    }
    done = true;
    other.join();
}

// ---- a process that maps images at the addresses that they have in its parent

TEST(InheritedSlotTest, WhatTheParentHadCanOnlyBeClaimed) {
    const Slot taken = Slot::reserve(3 * kHugeBytes);
    std::byte* const free = Slot::reserve(4 * kHugeBytes).address();
    EXPECT_EQ(in_child([&] {
                  Slot::leave_inherited_to_claims();
                  // A new reservation must not lie where the parent may put an image later.
                  for (int i = 0; i < 10; ++i) {
                      const Slot own = Slot::reserve(kHugeBytes);
                      if (own.address() == taken.address() || own.address() == free) return 1;
                      const auto inherited = Slot::claim(own.address(), 1);
                      if (inherited) return 2;
                  }
                  auto first = Slot::claim(taken.address(), 3 * kHugeBytes);
                  auto second = Slot::claim(free, 4 * kHugeBytes);
                  if (!first || first->address() != taken.address() || !second) return 3;
                  if (Slot::claim(taken.address() + kHugeBytes, 1)) return 4;
                  // A range that was given back can be claimed again, but is not handed out.
                  first.reset();
                  second.reset();
                  const Slot own = Slot::reserve(3 * kHugeBytes);
                  if (own.address() == taken.address() || own.address() == free) return 5;
                  if (!Slot::claim(taken.address(), kHugeBytes)) return 6;
                  return Slot::claim(free, 4 * kHugeBytes) ? 0 : 7;
              }),
              tests::kChildExitedWell);
}

TEST(InheritedSlotTest, WhatIsNobodysStaysUnclaimable) {
    const Slot parents = Slot::reserve(1);
    EXPECT_EQ(in_child([&] {
                  Slot::leave_inherited_to_claims();
                  const int local = 0;
                  const auto stack = round_down(reinterpret_cast<std::uintptr_t>(&local), kHugeBytes);
                  for (const auto at : {std::uintptr_t{0}, stack, ~(kHugeBytes - 1)}) {
                      if (Slot::claim(reinterpret_cast<const void*>(at), 1)) return 1;
                  }
                  return Slot::claim(parents.address() + kPageBytes, 1) ? 2 : 0;
              }),
              tests::kChildExitedWell);
}

TEST(InheritedSlotTest, GrandchildCanClaimWhatBothHad) {
    const Slot grandparents = Slot::reserve(1);
    EXPECT_EQ(in_child([&] {
                  Slot::leave_inherited_to_claims();
                  const Slot parents = Slot::reserve(1);
                  const auto claimed = Slot::claim(grandparents.address(), 1);
                  const tests::ChildEnd end = in_child([&] {
                      Slot::leave_inherited_to_claims();
                      const Slot own = Slot::reserve(1);
                      if (own.address() == parents.address()) return 1;
                      if (!Slot::claim(grandparents.address(), 1)) return 2;
                      return Slot::claim(parents.address(), 1) ? 0 : 3;
                  });
                  return end == tests::kChildExitedWell ? 0 : 10 + end.exit_status;
              }),
              tests::kChildExitedWell);
}

TEST(InheritedSlotTest, ImageCanBeWhereTheParentHasIt) {
    const auto content = tests::noise(3 * kMiB);
    const Snapshot snapshot = tests::snapshot_of(content);
    const Arena arena = tests::arena_of(tests::noise(kMiB));
    EXPECT_EQ(
        in_child([&] {
            SnapshotParts parts = snapshot.parts();
            abandon_inherited_images();
            const auto* const at = reinterpret_cast<const std::byte*>(parts.slot_address);
            const Snapshot adopted = Snapshot::adopt(std::move(parts), "received");
            if (adopted.bytes().data() != at || !tests::same_bytes(adopted.bytes(), content)) return 1;
            // A process forked from here maps only the adopted image again, not those of the parent.
            ImagesInFork images;
            const tests::ChildEnd end = in_child([&] {
                if (images.map_again() != 0) return 1;
                if (!tests::same_bytes(adopted.bytes(), content)) return 2;
                return sys::reserve_hole(const_cast<std::byte*>(ArenaAccess::address(arena)), kPageBytes) == EEXIST ? 0
                                                                                                                    : 3;
            });
            return end == tests::kChildExitedWell ? 0 : 10 + end.exit_status;
        }),
        tests::kChildExitedWell);
}

/// Takes the rest of the region in which `first` is the only slot.
std::vector<Slot> take_rest_of_region(const Slot& first) {
    std::vector<Slot> taken;
    std::byte* end = first.address() + first.bytes() + kHugeBytes;  // a huge page behind each slot is kept free
    for (std::size_t step = std::size_t{1} << 40; step >= kHugeBytes; step /= 2) {
        while (auto slot = Slot::claim(end, step)) {
            end += step;
            taken.push_back(std::move(*slot));
        }
    }
    return taken;
}

TEST(InheritedSlotTest, WhatIsGivenBackIsNotHandedOutEvenWhenNothingElseIsLeft) {
    const Slot taken = Slot::reserve(3 * kHugeBytes);
    EXPECT_EQ(in_child([&] {
                  Slot::leave_inherited_to_claims();
                  const Slot own = Slot::reserve(1);
                  const std::vector<Slot> rest = take_rest_of_region(own);
                  if (rest.empty() || !Slot::claim(taken.address(), 3 * kHugeBytes)) return 1;
                  const Slot next = Slot::reserve(kHugeBytes);
                  const bool inherited =
                      next.address() >= taken.address() && next.address() < taken.address() + 3 * kHugeBytes;
                  return inherited || !Slot::claim(taken.address(), 3 * kHugeBytes) ? 2 : 0;
              }),
              tests::kChildExitedWell);
}

// Memory that a child's fork handlers map must lie in the landing, not in the address range of an image.
TEST(InheritedSlotTest, LandingLiesAboveEverySlotAndIsNotInherited) {
    EXPECT_EQ(in_child([] {
                  // Makes a new region, whatever the parent has used of the inherited one.
                  Slot::leave_inherited_to_claims();
                  const Slot own = Slot::reserve(1);
                  const std::vector<Slot> rest = take_rest_of_region(own);
                  std::byte* const landing = rest.back().address() + rest.back().bytes();
                  if (sys::reserve_hole(landing, kPageBytes) != EEXIST) return 1;
                  const tests::ChildEnd child = in_child([&] { return sys::reserve_hole(landing, kPageBytes); });
                  return child == tests::kChildExitedWell ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

}  // namespace
