// Tests what the library alone may do with an arena: lending its image to another process and calling it back.
#include "vmcow/image/arena_access.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using namespace vmcow;
using tests::arena_of;
using tests::error_of;
using tests::noise;

TEST(ArenaTest, ImageIdIsAnotherWheneverTheFileHasGrown) {
    Arena first;
    const Arena second;
    EXPECT_NE(ArenaAccess::image_id(first), ArenaAccess::image_id(second));
    std::uint64_t id = ArenaAccess::image_id(first);
    std::size_t mapped = ArenaAccess::mapped_bytes(first);
    for (int i = 0; i < 60; ++i) {
        first.allocate(100'000);
        EXPECT_EQ(ArenaAccess::image_id(first) != id, ArenaAccess::mapped_bytes(first) != mapped)
            << "one changes with the other";
        EXPECT_EQ(ArenaAccess::mapped_bytes(first), sys::file_bytes(first.fd()));
        id = ArenaAccess::image_id(first);
        mapped = ArenaAccess::mapped_bytes(first);
    }
    EXPECT_EQ(ArenaAccess::address(first), first.bytes().data());
    const Arena moved = std::move(first);
    EXPECT_EQ(ArenaAccess::image_id(moved), id);
}

// I3
TEST(ArenaTest, ReadOnlyDescriptorShowsTheImageAndCannotBeUsedForWriting) {
    Arena arena = arena_of(noise(3 * kPageBytes));
    const int fd = ArenaAccess::read_only_fd(arena);
    EXPECT_EQ(ArenaAccess::read_only_fd(arena), fd) << "one, opened when it is first asked for";
    EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    EXPECT_EQ(errno, EACCES);
    EXPECT_EQ(::ftruncate(fd, 0), -1);
    arena.bytes()[5] = std::byte{77};
    std::byte seen{};
    ASSERT_EQ(::pread(fd, &seen, 1, 5), 1);
    EXPECT_EQ(seen, std::byte{77});
}

TEST(ArenaTest, NoDescriptorLeftForReadingIsEmfileAndItCanBeAskedForAgain) {
    const Arena arena = arena_of(noise(100));
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(error_of([&] { static_cast<void>(ArenaAccess::read_only_fd(arena)); }), EMFILE);
    }
    EXPECT_GE(ArenaAccess::read_only_fd(arena), 0);
}

TEST(ArenaTest, LivenessEndsWithTheImage) {
    std::weak_ptr<const void> alive;
    {
        Arena first = arena_of(noise(100));
        alive = ArenaAccess::liveness(first);
        Arena second = std::move(first);
        EXPECT_FALSE(alive.expired());
        EXPECT_EQ(error_of([&] { second.allocate(second.reserved_bytes() + 1); }), ENOMEM);
        EXPECT_FALSE(alive.expired());
    }
    EXPECT_TRUE(alive.expired());
    Arena arena = arena_of(noise(100));
    alive = ArenaAccess::liveness(arena);
    const Snapshot frozen = std::move(arena).freeze();
    EXPECT_TRUE(alive.expired()) << "frozen, it is another image";
}

TEST(ReadOnlyImageTest, LentFileShowsWhatItsOwnerWrites) {
    Arena arena = arena_of(noise(2 * kPageBytes), {.pages = PagePolicy::small});
    const ReadOnlyImage first(sys::duplicate(ArenaAccess::read_only_fd(arena)),
                              Slot::reserve(ArenaAccess::mapped_bytes(arena)), "lent", FileState::borrowed);
    const ReadOnlyImage second(sys::duplicate(ArenaAccess::read_only_fd(arena)),
                               Slot::reserve(ArenaAccess::mapped_bytes(arena)), "lent", FileState::borrowed);
    EXPECT_NE(first.id(), second.id());
    EXPECT_EQ(first.bytes(), ArenaAccess::mapped_bytes(arena));
    arena.bytes()[kPageBytes] = std::byte{77};
    EXPECT_EQ(first.data()[kPageBytes], std::byte{77});
    EXPECT_EQ(second.data()[kPageBytes], std::byte{77});
}

// I1
TEST(ReadOnlyImageDeathTest, FileThatCanChangeIsNotImmutable) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    Arena arena = arena_of(noise(100));
    EXPECT_DEATH(ReadOnlyImage(sys::duplicate(arena.fd()), Slot::reserve(ArenaAccess::mapped_bytes(arena)), "open"),
                 "I1");
}

/// A loan that counts how often it is called back.
class CountedLoan final : public Loan {
public:
    explicit CountedLoan(int& calls) : calls_(calls) {}
    void recall() noexcept override { ++calls_; }
    [[nodiscard]] const void* holder() const noexcept override { return this; }

private:
    int& calls_;
};

// I3: before the owner looks at the arena, no other process may be able to write to it any more.
TEST(ArenaLoanTest, IsCalledBackOnceBeforeTheArenaIsUsed) {
    const std::vector<std::pair<const char*, std::function<void(Arena&)>>> uses = {
        {"bytes", [](Arena& arena) { static_cast<void>(arena.bytes()); }},
        {"const bytes", [](Arena& arena) { static_cast<void>(std::as_const(arena).bytes()); }},
        {"allocate", [](Arena& arena) { arena.allocate(1); }},
        {"allocate_sparse", [](Arena& arena) { arena.allocate_sparse(1); }},
        {"allocate_array", [](Arena& arena) { static_cast<void>(arena.allocate_array<int>(1)); }},
        {"append", [](Arena& arena) { arena.append(noise(10)); }},
        {"fd", [](Arena& arena) { static_cast<void>(arena.fd()); }},
        {"freeze", [](Arena& arena) { static_cast<void>(std::move(arena).freeze()); }},
        {"move from it", [](Arena& arena) { static_cast<void>(Arena(std::move(arena)).bytes()); }},
        {"move into it", [](Arena& arena) { arena = Arena(); }},
        {"the end", [](Arena& arena) { const Arena ending = std::move(arena); }},
    };
    for (const auto& [name, use] : uses) {
        int calls = 0;
        Arena arena = arena_of(noise(100));
        ArenaAccess::set_loan(arena, std::make_shared<CountedLoan>(calls));
        use(arena);
        EXPECT_EQ(calls, 1) << name;
    }
}

TEST(ArenaLoanTest, AskingWhatItIsDoesNotCallItBack) {
    int calls = 0;
    Arena arena = arena_of(noise(100));
    ArenaAccess::set_loan(arena, std::make_shared<CountedLoan>(calls));
    static_cast<void>(ArenaAccess::image_id(arena));
    static_cast<void>(ArenaAccess::mapped_bytes(arena));
    static_cast<void>(ArenaAccess::address(arena));
    static_cast<void>(ArenaAccess::read_only_fd(arena));
    static_cast<void>(ArenaAccess::liveness(arena));
    static_cast<void>(arena.name());
    static_cast<void>(arena.extent_bytes());
    static_cast<void>(arena.reserved_bytes());
    static_cast<void>(arena.pages());
    EXPECT_EQ(calls, 0);
    static_cast<void>(arena.bytes());
    static_cast<void>(arena.bytes());
    EXPECT_EQ(calls, 1) << "once";
}

TEST(ArenaLoanTest, LoanThatIsTakenAwayIsNotCalledBack) {
    int calls = 0;
    Arena arena = arena_of(noise(100));
    EXPECT_EQ(ArenaAccess::take_loan(arena), nullptr);
    ArenaAccess::set_loan(arena, std::make_shared<CountedLoan>(calls));
    const std::shared_ptr<Loan> loan = ArenaAccess::take_loan(arena);
    EXPECT_NE(loan, nullptr);
    static_cast<void>(arena.bytes());
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(ArenaAccess::take_loan(arena), nullptr);
}

TEST(ArenaLoanTest, ArenaThatIsAssignedCallsBackWhatItHadAndKeepsWhatComes) {
    int old_calls = 0;
    int new_calls = 0;
    Arena arena = arena_of(noise(100));
    ArenaAccess::set_loan(arena, std::make_shared<CountedLoan>(old_calls));
    Arena other = arena_of(noise(100));
    ArenaAccess::set_loan(other, std::make_shared<CountedLoan>(new_calls));
    arena = std::move(other);
    EXPECT_EQ(old_calls, 1);
    EXPECT_EQ(new_calls, 0);
    static_cast<void>(arena.bytes());
    EXPECT_EQ(new_calls, 1);
}

}  // namespace
