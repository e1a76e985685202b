// What a line of /proc/PID/syscall says of a stage (BlockedCall), and how often stages are looked at (LookPace).
#include "procrun/observe/blocked_call.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "procrun/observe/look_pace.hpp"

namespace {

using procrun::BlockedCall;
using procrun::kind_of_kernel_function;
using procrun::LookPace;
using procrun::parse_blocked_call;
using Kind = BlockedCall::Kind;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A line of /proc/PID/syscall of a 64-bit program with these first arguments.
std::string line_of(long number, const std::string& first, const std::string& second = "0x0",
                    const std::string& third = "0x0") {
    return fmt::format("{} {} {} {} 0x0 0x0 0x0 0x7ffd307af428 0x7f5b844e12ad\n", number, first, second, third);
}

TEST(BlockedCallTest, CallsAreKnownByTheirDescriptors) {
    EXPECT_EQ(parse_blocked_call(line_of(SYS_read, "0x0")), (BlockedCall{.kind = Kind::reads, .in = 0}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_readv, "0x11")), (BlockedCall{.kind = Kind::reads, .in = 17}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_write, "0x1")), (BlockedCall{.kind = Kind::writes, .out = 1}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_fsync, "0x1")), (BlockedCall{.kind = Kind::writes, .out = 1}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_splice, "0x3", "0x0", "0x1")),
              (BlockedCall{.kind = Kind::moves, .in = 3, .out = 1}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_tee, "0x3", "0x4")),
              (BlockedCall{.kind = Kind::moves, .in = 3, .out = 4}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_sendfile, "0x1", "0x3")),
              (BlockedCall{.kind = Kind::moves, .in = 3, .out = 1}));
}

/// The kernel ignores the upper half of a register when a call takes an int.
TEST(BlockedCallTest, OnlyTheLowerHalfOfADescriptorCounts) {
    EXPECT_EQ(parse_blocked_call(line_of(SYS_read, "0xdeadbeef00000002")), (BlockedCall{.kind = Kind::reads, .in = 2}));
}

TEST(BlockedCallTest, PollsAndWaitsHaveNoDescriptor) {
    EXPECT_EQ(parse_blocked_call(line_of(SYS_ppoll, "0x7f00")), (BlockedCall{.kind = Kind::polls}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_epoll_pwait, "0x5")), (BlockedCall{.kind = Kind::polls}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_io_uring_enter, "0x5")), (BlockedCall{.kind = Kind::polls}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_futex, "0x7f00")), (BlockedCall{.kind = Kind::waits}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_clock_nanosleep, "0x0")), (BlockedCall{.kind = Kind::waits}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_wait4, "0x0")), (BlockedCall{.kind = Kind::waits}));
    EXPECT_EQ(parse_blocked_call(line_of(SYS_restart_syscall, "0x0")), (BlockedCall{.kind = Kind::unclear}));
}

TEST(BlockedCallTest, ThreadsInNoCallRunOrWaitForAPageOrHaveEnded) {
    EXPECT_EQ(parse_blocked_call("running\n"), (BlockedCall{.kind = Kind::none}));
    EXPECT_EQ(parse_blocked_call("-1 0x7ffd307af428 0x7f5b844e12ad\n"), (BlockedCall{.kind = Kind::waits}));
    EXPECT_EQ(parse_blocked_call("-1 0x0 0x0\n"), (BlockedCall{.kind = Kind::ended}));
}

/// Call 3 is read(2) in a 32-bit program and close(2) in a 64-bit one.
TEST(BlockedCallTest, NumbersOfA32BitProgramAreNotTakenForOurs) {
    EXPECT_EQ(parse_blocked_call("1 0x0 0x0 0x0 0x0 0x0 0x0 0xffd307a8 0xf7f5b844\n"),
              (BlockedCall{.kind = Kind::unclear}));
}

TEST(BlockedCallTest, WhatIsNoSuchLineIsNothing) {
    for (const std::string text :
         {"", "\n", "x", "0", "0 0x0", "0 0x0 0x0 0x0 0x0 0x0", "0 zero", "0x", "99999999999999999999 0x0"}) {
        EXPECT_FALSE(parse_blocked_call(text)) << text;
    }
}

TEST(BlockedCallTest, KernelFunctionsAreKnownUnderTheirOldAndNewNames) {
    EXPECT_EQ(kind_of_kernel_function("pipe_read"), Kind::reads);
    EXPECT_EQ(kind_of_kernel_function("anon_pipe_read"), Kind::reads);
    EXPECT_EQ(kind_of_kernel_function("pipe_write"), Kind::writes);
    EXPECT_EQ(kind_of_kernel_function("do_wait"), Kind::unclear);
    EXPECT_EQ(kind_of_kernel_function("0"), Kind::unclear);
}

/// The interval that a pace leaves at `age` when looks have cost nothing.
LookPace::Clock::duration interval_at(LookPace::Clock::duration age, std::uint32_t seed = 1) {
    const LookPace::Clock::time_point start{};
    LookPace pace(start, seed);
    pace.looked(start + age, {});
    return pace.next_look() - (start + age);
}

TEST(LookPaceTest, LooksGetRarerWithAge) {
    for (std::uint32_t seed = 1; seed < 50; ++seed) {
        EXPECT_GE(interval_at(milliseconds{1}, seed), std::chrono::microseconds{500});
        EXPECT_LE(interval_at(milliseconds{1}, seed), std::chrono::microseconds{1500});
        EXPECT_GE(interval_at(seconds{8}, seed), milliseconds{5});
        EXPECT_LE(interval_at(seconds{8}, seed), milliseconds{15});
        EXPECT_LE(interval_at(std::chrono::hours{24}, seed), milliseconds{150});
    }
}

TEST(LookPaceTest, IntervalsHaveNoRhythmButAreTheSameForOneSeed) {
    const LookPace::Clock::time_point start{};
    LookPace pace(start, 7);
    LookPace same(start, 7);
    std::set<LookPace::Clock::duration> intervals;
    for (int i = 0; i < 100; ++i) {
        const auto now = pace.next_look();
        pace.looked(now, {});
        same.looked(now, {});
        intervals.insert(pace.next_look() - now);
        EXPECT_EQ(pace.next_look(), same.next_look());
    }
    EXPECT_GT(intervals.size(), 90U);
}

/// Looks take 1 ms each, as they do with a thousand stages, over ten seconds.
TEST(LookPaceTest, DearLooksTakeAHundredthOfAProcessor) {
    const LookPace::Clock::time_point start{};
    LookPace pace(start);
    int looks = 0;
    for (; pace.next_look() < start + seconds{10}; ++looks) pace.looked(pace.next_look(), milliseconds{1});
    EXPECT_GE(looks, 60);
    EXPECT_LE(looks, 125);
}

}  // namespace
