// Tests handing an arena over: one process gives it away, and another one continues to fill it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace {

using vmcow::Arena;
using vmcow::ArenaAccess;
using vmcow::DetachedArena;
using vmcow::kHugeBytes;
using vmcow::kPageBytes;

TEST(ArenaHandoverTest, WhoAdoptsItGoesOnInPlaceAndFreezesIt) {
    Arena made({.name = "made"});
    std::ranges::fill(made.allocate_array<int>(1000), 7);
    Arena taken = ArenaAccess::adopt(ArenaAccess::detach(std::move(made)));
    EXPECT_EQ(taken.extent_bytes(), 4000U);
    EXPECT_EQ(taken.name(), "made");
    std::span<int> more = taken.allocate_array<int>(1'000'000);
    more.back() = 8;
    const vmcow::Snapshot frozen = std::move(taken).freeze();
    const auto* const ints = reinterpret_cast<const int*>(frozen.bytes().data());
    EXPECT_EQ(ints[999], 7);
    EXPECT_EQ(ints[frozen.extent_bytes() / sizeof(int) - 1], 8);
}

TEST(ArenaHandoverTest, HugePagesStayHuge) {
    Arena made;
    std::ranges::fill(made.allocate_array<std::byte>(4 * kHugeBytes), std::byte{1});
    const vmcow::ImagePages before = made.pages();
    const Arena taken = ArenaAccess::adopt(ArenaAccess::detach(std::move(made)));
    EXPECT_EQ(taken.pages().huge_bytes, before.huge_bytes);
    EXPECT_EQ(taken.pages().small_bytes, before.small_bytes);
}

TEST(ArenaHandoverTest, AnEmptyOneIsEmptyThereToo) {
    Arena taken = ArenaAccess::adopt(ArenaAccess::detach(Arena()));
    EXPECT_EQ(taken.extent_bytes(), 0U);
    EXPECT_EQ(taken.allocate(1), taken.bytes().data());
}

DetachedArena detached(vmcow::sys::UniqueFd fd, std::uint64_t extent) {
    return {.fd = std::move(fd), .extent_bytes = extent, .reserve_bytes = kHugeBytes, .huge_bytes = 0, .name = "bad"};
}

int refusal(vmcow::sys::UniqueFd fd, std::uint64_t extent) {
    return tests::error_of([&] { static_cast<void>(ArenaAccess::adopt(detached(std::move(fd), extent))); });
}

vmcow::sys::UniqueFd memfd_of(std::uint64_t bytes) {
    vmcow::sys::UniqueFd fd = vmcow::sys::create_memfd("bad");
    vmcow::sys::resize_memfd(fd.get(), bytes, "bad");
    return fd;
}

TEST(ArenaHandoverTest, WhatIsNoFileToBeFilledIsRefused) {
    EXPECT_EQ(refusal(memfd_of(kPageBytes), 2 * kPageBytes), EBADMSG) << "shorter than its extent";
    EXPECT_EQ(refusal(memfd_of(kPageBytes + 1), 1), EBADMSG) << "ends within a page";
    EXPECT_EQ(refusal(memfd_of(2 * kHugeBytes), 1), EBADMSG) << "longer than there is room for";
    EXPECT_EQ(refusal(vmcow::sys::UniqueFd(open("/dev/zero", O_RDWR | O_CLOEXEC)), 1), EBADMSG);
    EXPECT_EQ(refusal(vmcow::sys::UniqueFd(), 1), EBADMSG);
    for (const int seal : {F_SEAL_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_SEAL, F_SEAL_FUTURE_WRITE}) {
        vmcow::sys::UniqueFd fd = memfd_of(kPageBytes);
        ASSERT_EQ(fcntl(fd.get(), F_ADD_SEALS, seal), 0);
        EXPECT_EQ(refusal(std::move(fd), 1), EBADMSG) << seal;
    }
    EXPECT_EQ(refusal(memfd_of(kPageBytes), std::uint64_t{1} << 62), ENOMEM) << "nothing is that long";
}

// ---- messages

struct Ends {
    vmcow::sys::UniqueFd ours;
    vmcow::sys::UniqueFd theirs;
};

Ends open_ends() {
    std::array<int, 2> fds{};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) vmcow::sys::throw_errno("socketpair");
    return {vmcow::sys::UniqueFd(fds[0]), vmcow::sys::UniqueFd(fds[1])};
}

TEST(ArenaMessageTest, ArrivesWithItsTypeAndNothingStaysBehind) {
    const Ends ends = open_ends();
    Arena arena({.name = "sent"});
    arena.allocate_array<char>(3)[0] = 'x';
    vmcow::send_arena(ends.ours.get(), {std::move(arena), 17});
    vmcow::TypedImage image = vmcow::unpack_image(vmcow::sys::receive_message(ends.theirs.get()).value());
    auto& taken = std::get<vmcow::TypedArena>(image);
    EXPECT_EQ(taken.type, 17U);
    EXPECT_EQ(taken.arena.bytes()[0], std::byte{'x'});
    EXPECT_EQ(taken.arena.extent_bytes(), 3U);
}

TEST(ArenaMessageTest, WhatIsCutOffOrHasNoFileIsRefused) {
    const Ends ends = open_ends();
    vmcow::send_arena(ends.ours.get(), {Arena(), 17});
    const vmcow::sys::Message whole = vmcow::sys::receive_message(ends.theirs.get()).value();
    for (std::size_t bytes = 0; bytes <= whole.bytes.size(); bytes += 8) {
        vmcow::sys::Message cut;
        cut.bytes.assign(whole.bytes.begin(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(bytes));
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(vmcow::unpack_image(std::move(cut))); }), EBADMSG) << bytes;
    }
}

TEST(ArenaMessageTest, IsNoneOfTheValuesThatACallerTakes) {
    const Ends ends = open_ends();
    vmcow::send_arena(ends.ours.get(), {Arena(), 17});
    vmcow::sys::Message message = vmcow::sys::receive_message(ends.theirs.get()).value();
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(vmcow::unpack_values(std::move(message))); }), EBADMSG);
}

}  // namespace
