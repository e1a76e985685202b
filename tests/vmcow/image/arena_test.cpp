// Tests arenas: growth, huge pages, limits, freezing, and the private copy in a function process.
#include "vmcow/arena.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::arena_of;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::noise;
using tests::same_bytes;

constexpr std::size_t kMiB = std::size_t{1} << 20;

bool is_zero(std::span<const std::byte> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

std::uint64_t huge_in_smaps(const Arena& arena) {
    return sys::read_smaps(reinterpret_cast<std::uintptr_t>(arena.bytes().data()), arena.reserved_bytes())
        .huge_mapped_bytes;
}

/// Skips a test on a machine that has no huge pages for memfds.
#define SKIP_WITHOUT_HUGE_PAGES(arena)                                                          \
    if (const int refused = (arena).pages().collapse_error; refused != 0) {                     \
        GTEST_SKIP() << "no huge pages for memfds (MADV_COLLAPSE): " << std::strerror(refused); \
    }                                                                                           \
    static_assert(true)

TEST(ArenaTest, EmptyArenaIsAnEmptyImage) {
    Arena arena;
    EXPECT_EQ(arena.extent_bytes(), 0U);
    EXPECT_TRUE(arena.bytes().empty());
    EXPECT_EQ(sys::file_bytes(arena.fd()), 0U);
    EXPECT_NE(arena.allocate(0), nullptr);
    EXPECT_EQ(arena.append({}), 0U);
    const Snapshot frozen = std::move(arena).freeze();
    EXPECT_EQ(frozen.extent_bytes(), 0U);
    EXPECT_EQ(frozen.page_count(), PageCount{0});
    EXPECT_TRUE(frozen.bytes().empty());
    EXPECT_TRUE(frozen.map_private().bytes().empty());
}

TEST(ArenaTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([] { const Arena arena; }), EMFILE);
}

TEST(ArenaTest, GrowthNeverMovesWhatIsThere) {
    Arena arena;
    const auto content = noise(100);
    const std::byte* const first = arena.bytes().data();
    arena.append(content);
    for (std::size_t bytes = 1; bytes <= 16 * kMiB; bytes *= 2) {
        arena.allocate(bytes);
        ASSERT_EQ(arena.bytes().data(), first);
        ASSERT_TRUE(std::equal(content.begin(), content.end(), first));
    }
}

TEST(ArenaTest, AllocatedBytesAreZero) {
    Arena arena;
    for (const std::size_t bytes : {std::size_t{1}, kPageBytes, 3 * kMiB, std::size_t{5}}) {
        std::byte* const at = arena.allocate(bytes);
        EXPECT_TRUE(is_zero({at, bytes})) << bytes;
        std::memset(at, 0xff, bytes);
    }
    EXPECT_TRUE(is_zero({arena.allocate_sparse(5 * kMiB), 5 * kMiB}));
}

TEST(ArenaTest, AppendReturnsWhereTheBytesBegin) {
    Arena arena;
    const auto first = noise(1000, 1);
    const auto second = noise(40 * kMiB + 5, 2);
    EXPECT_EQ(arena.append(first), 0U);
    EXPECT_EQ(arena.append(second), 1000U);
    EXPECT_EQ(arena.extent_bytes(), first.size() + second.size());
    EXPECT_TRUE(same_bytes(first, arena.bytes().first(first.size())));
    EXPECT_TRUE(std::equal(second.begin(), second.end(), arena.bytes().begin() + 1000));
}

TEST(ArenaTest, AlignmentIsKept) {
    Arena arena;
    for (std::size_t alignment = 1; alignment <= kHugeBytes; alignment *= 2) {
        arena.allocate(1, 1);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.allocate(1, alignment)) % alignment, 0U) << alignment;
    }
    const auto numbers = arena.allocate_array<double>(3);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(numbers.data()) % alignof(double), 0U);
    EXPECT_EQ(numbers.size(), 3U);
}

TEST(ArenaDeathTest, AlignmentThatIsNoPowerOfTwoOrTooLargeIsABug) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_DEATH(Arena().allocate(1, 3), "alignment");
    EXPECT_DEATH(Arena().allocate(1, 2 * kHugeBytes), "alignment");
}

TEST(ArenaTest, PastTheReserveIsEnomemAndTheArenaIsAsBefore) {
    Arena arena({.reserve_bytes = 4 * kMiB});
    EXPECT_EQ(arena.reserved_bytes(), 4 * kMiB);
    const auto content = noise(3 * kMiB);
    arena.append(content);
    const auto limit = std::numeric_limits<std::size_t>::max();
    for (const std::size_t bytes : {kMiB + 1, 4 * kMiB, limit, limit - 3 * kMiB, limit - 4096}) {
        EXPECT_EQ(error_of([&] { arena.allocate(bytes); }), ENOMEM) << bytes;
        EXPECT_EQ(error_of([&] { arena.allocate_sparse(bytes); }), ENOMEM) << bytes;
    }
    EXPECT_EQ(error_of([&] { static_cast<void>(arena.allocate_array<std::uint64_t>(limit / 8 + 1)); }), ENOMEM);
    EXPECT_EQ(arena.extent_bytes(), content.size());
    EXPECT_TRUE(same_bytes(content, arena.bytes().first(content.size())));
    std::memset(arena.allocate(kMiB), 1, kMiB);
    EXPECT_EQ(arena.extent_bytes(), 4 * kMiB);
}

TEST(ArenaTest, FileSizeLimitIsEfbigAndTheArenaIsAsBefore) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  Arena arena;
                  arena.allocate(100);
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, kMiB);
                  if (error_of([&] { arena.allocate(kMiB); }) != EFBIG) return 1;
                  std::memset(arena.allocate(1000), 1, 1000);
                  return arena.extent_bytes() == 112 + 1000 ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST(ArenaTest, LessAddressSpaceThanAskedForIsSaid) {
    EXPECT_EQ(in_child([] {
                  std::vector<Slot> taken;
                  taken.reserve(100'000);
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 64 * kMiB);
                  for (std::size_t bytes = std::size_t{1} << 46; bytes >= 64 * kMiB; bytes /= 2) {
                      while (error_of([&] { taken.push_back(Slot::reserve(bytes)); }) == 0) continue;
                  }
                  Arena arena;
                  if (arena.reserved_bytes() >= 64 * kMiB) return 1;
                  arena.allocate(kMiB);
                  return error_of([&] { arena.allocate(arena.reserved_bytes()); }) == ENOMEM ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST(ArenaMappingLimitTest, NoMappingLeftIsEnomemAndTheArenaIsAsBefore) {
    EXPECT_EQ(in_child([] {
                  Arena arena;
                  std::memset(arena.allocate(10 * kPageBytes), 1, 10 * kPageBytes);
                  const std::uint64_t file_bytes = sys::file_bytes(arena.fd());
                  {
                      const tests::MappingLimit limit(0);
                      // Growing in place extends the existing mapping, so that it may succeed.
                      const int error = error_of([&] { arena.allocate(4 * kMiB); });
                      if (error != 0 && error != ENOMEM) return 1;
                      if (error == ENOMEM && arena.extent_bytes() != 10 * kPageBytes) return 2;
                      if (error == ENOMEM && sys::file_bytes(arena.fd()) != file_bytes) return 4;
                  }
                  std::memset(arena.allocate(4 * kMiB), 1, 4 * kMiB);
                  return arena.bytes()[10 * kPageBytes - 1] == std::byte{1} ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST(ArenaTest, LargeImageIsInHugePagesAsSmapsCounts) {
    const Arena arena = arena_of(noise(9 * kMiB));
    SKIP_WITHOUT_HUGE_PAGES(arena);
    EXPECT_EQ(arena.pages().huge_bytes, 10 * kMiB);
    EXPECT_EQ(arena.pages().small_bytes, 0U);
    EXPECT_EQ(huge_in_smaps(arena), 10 * kMiB);
}

TEST(ArenaTest, ImageThatIsFilledInSmallStepsIsInHugePagesToo) {
    Arena arena;
    const auto piece = noise(48 * 1024 + 1);
    while (arena.extent_bytes() < 8 * kMiB) arena.append(piece);
    SKIP_WITHOUT_HUGE_PAGES(arena);
    EXPECT_EQ(arena.pages().small_bytes, 0U);
    EXPECT_EQ(huge_in_smaps(arena), arena.pages().huge_bytes);
    EXPECT_GE(arena.pages().huge_bytes, arena.extent_bytes());
    for (std::size_t at = 0; at + piece.size() <= arena.extent_bytes(); at += piece.size()) {
        ASSERT_TRUE(std::equal(piece.begin(), piece.end(), arena.bytes().begin() + static_cast<std::ptrdiff_t>(at)));
    }
}

TEST(ArenaTest, ImageThatReachesTwoMiBExactlyIsAHugePage) {
    Arena arena;
    arena.append(noise(3 * kMiB / 2));
    arena.append(noise(kMiB / 2));
    SKIP_WITHOUT_HUGE_PAGES(arena);
    EXPECT_EQ(arena.pages().huge_bytes, 2 * kMiB);
}

TEST(ArenaTest, ImageBelowTwoMiBIsInSmallPages) {
    const Arena arena = arena_of(noise(2 * kMiB - kPageBytes));
    EXPECT_EQ(arena.pages().huge_bytes, 0U);
    EXPECT_EQ(arena.pages().collapse_error, 0);
    EXPECT_EQ(huge_in_smaps(arena), 0U);
}

TEST(ArenaTest, SmallPolicyNeverTakesHugePages) {
    const Arena arena = arena_of(noise(5 * kMiB), {.pages = PagePolicy::small});
    EXPECT_EQ(arena.pages().huge_bytes, 0U);
    EXPECT_EQ(arena.pages().collapse_error, 0);
    EXPECT_GE(arena.pages().small_bytes, 5 * kMiB);
}

TEST(ArenaTest, SparseImageHasNoPagesUntilTheyAreWritten) {
    Arena arena;
    std::byte* const at = arena.allocate_sparse(64 * kMiB);
    const auto resident = [&] {
        return sys::read_smaps(reinterpret_cast<std::uintptr_t>(at), arena.reserved_bytes()).resident_bytes;
    };
    EXPECT_EQ(resident(), 0U);
    at[20 * kMiB] = std::byte{1};
    EXPECT_GE(resident(), kPageBytes);
    EXPECT_LE(resident(), kHugeBytes);
}

TEST(ArenaTest, FreezeCutsTheFileToWholePagesOfTheExtent) {
    for (const std::size_t bytes : {std::size_t{1}, kPageBytes, kPageBytes + 1, 2 * kMiB, 3 * kMiB + 1}) {
        const auto content = noise(bytes);
        const Snapshot frozen = arena_of(content).freeze();
        EXPECT_EQ(frozen.extent_bytes(), bytes);
        EXPECT_EQ(sys::file_bytes(frozen.base_fd()), round_up(bytes, kPageBytes));
        EXPECT_TRUE(same_bytes(content, frozen.bytes()));
        const std::size_t padding = frozen.page_count().bytes() - bytes;
        EXPECT_TRUE(is_zero({frozen.bytes().data() + bytes, padding}));
    }
}

TEST(ArenaTest, FrozenImageStaysWhereItWasAndTheRestOfItsSlotIsFree) {
    Arena arena = arena_of(noise(kMiB));
    const std::byte* const at = arena.bytes().data();
    const std::size_t reserved = arena.reserved_bytes();
    const Snapshot frozen = std::move(arena).freeze();
    EXPECT_EQ(frozen.bytes().data(), at);
    // A stretch behind every slot is kept free.
    EXPECT_TRUE(Slot::claim(at + 2 * kHugeBytes, reserved - kHugeBytes).has_value());
    EXPECT_FALSE(Slot::claim(at, 1).has_value());
}

/// An arena that cannot be sealed, because its file has another mapping that is shared and writable.
class ArenaInUseTest : public testing::TestWithParam<std::size_t> {
protected:
    void SetUp() override {
        foreign_ = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena_.fd(), 0);
        ASSERT_NE(foreign_, MAP_FAILED);
    }
    void TearDown() override { let_go(); }
    void let_go() {
        if (foreign_ != MAP_FAILED) ::munmap(foreign_, kPageBytes);
        foreign_ = MAP_FAILED;
    }

    std::vector<std::byte> content_ = noise(GetParam());
    Arena arena_ = arena_of(content_);
    void* foreign_ = MAP_FAILED;
};

INSTANTIATE_TEST_SUITE_P(Sizes, ArenaInUseTest, testing::Values(1000, 100'000, 5 * kMiB + 10, 6 * kMiB));

TEST_P(ArenaInUseTest, FreezeIsEbusyAndTheArenaGoesOn) {
    EXPECT_EQ(error_of([&] { static_cast<void>(std::move(arena_).freeze()); }), EBUSY);
    EXPECT_TRUE(same_bytes(content_, arena_.bytes()));
    // Both counts are of this image alone, so neither may underflow or exceed its size.
    EXPECT_LE(arena_.pages().huge_bytes, round_up(arena_.extent_bytes(), kHugeBytes));
    EXPECT_LE(arena_.pages().small_bytes, round_up(arena_.extent_bytes(), kHugeBytes));

    const auto more = noise(7 * kMiB, 2);
    EXPECT_EQ(arena_.append(more), content_.size());
    if (arena_.pages().collapse_error == 0) {
        EXPECT_EQ(arena_.pages().huge_bytes, huge_in_smaps(arena_));
        EXPECT_EQ(arena_.pages().small_bytes, 0U);
    }
    let_go();
    content_.insert(content_.end(), more.begin(), more.end());
    const Snapshot frozen = std::move(arena_).freeze();
    EXPECT_TRUE(same_bytes(content_, frozen.bytes()));
}

TEST(ArenaMappingLimitTest, FreezeIsAllOrNothing) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1000}, 5 * kMiB + 10}) {
        EXPECT_EQ(in_child([&] {
                      const auto content = noise(size);
                      Arena arena = arena_of(content);
                      const auto same = [&](std::span<const std::byte> bytes) { return same_bytes(content, bytes); };
                      int error = 0;
                      {
                          const tests::MappingLimit limit(0);
                          error = error_of([&] {
                              const Snapshot frozen = std::move(arena).freeze();
                              if (!same(frozen.bytes())) ::_exit(1);
                          });
                      }
                      if (error == 0) return 0;
                      if (error != ENOMEM || !same(arena.bytes())) return 2;
                      std::memset(arena.allocate(100), 1, 100);  // a file that was cut would give SIGBUS here
                      std::memset(arena.allocate(8 * kMiB), 1, 8 * kMiB);
                      return 0;
                  }),
                  kChildExitedWell)
            << size;
    }
}

/// Runs `body` in a child that maps the images again, as a function process does.
tests::ChildEnd in_function_process(const std::function<int(ImagesInFork&)>& body) {
    ImagesInFork images;
    return in_child([&] { return images.map_again() != 0 ? 124 : body(images); });
}

TEST(ArenaTest, FunctionProcessHasAPrivateCopyAndItsChangesAreCounted) {
    auto content = noise(3 * kMiB);
    Arena arena = arena_of(content);
    EXPECT_EQ(in_function_process([&](ImagesInFork& images) {
                  if (!same_bytes(content, arena.bytes())) return 1;
                  arena.bytes()[0] ^= std::byte{1};
                  arena.bytes()[1] ^= std::byte{1};
                  volatile std::byte& same = arena.bytes()[2 * kMiB];
                  same = same;
                  return images.changes() == PageChanges{{2}, {1}, 2} ? 0 : 2;
              }),
              kChildExitedWell);
    EXPECT_TRUE(same_bytes(content, arena.bytes()));
}

// I3
TEST(ArenaTest, FunctionProcessCannotFreezeOrWriteTheCallersImage) {
    Arena arena = arena_of(noise(kPageBytes));
    EXPECT_EQ(in_function_process([&](ImagesInFork&) {
                  std::byte* const at = arena.bytes().data();
                  at[0] = std::byte{77};
                  if (error_of([&] { static_cast<void>(std::move(arena).freeze()); }) != EPERM) return 2;
                  if (::pwrite(arena.fd(), "x", 1, 0) != -1) return 3;
                  if (::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd(), 0) != MAP_FAILED) {
                      return 4;
                  }
                  // The refused calls have changed nothing.
                  return arena.bytes().data() == at && at[0] == std::byte{77} ? 0 : 5;
              }),
              kChildExitedWell);
}

TEST(ArenaTest, MovedArenaKeepsItsImage) {
    Arena first = arena_of(noise(100));
    const std::byte* const at = first.bytes().data();
    Arena second = std::move(first);
    EXPECT_EQ(second.bytes().data(), at);
    second = Arena();
    EXPECT_TRUE(Slot::claim(at, 1).has_value());
}

}  // namespace
