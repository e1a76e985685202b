#include "vmcow/slot.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"
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
    EXPECT_TRUE(Slot::claim(slot.address() + 2 * kHugeBytes, 3 * kHugeBytes).has_value());
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
                  // All that is reserved already is taken first, so that what follows needs a new region.
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

}  // namespace
