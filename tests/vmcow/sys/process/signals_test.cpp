// Tests blocking signals, reading them from a descriptor, and threads without signals.
#include "vmcow/sys/process/signals.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <optional>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace vmcow::sys;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;

bool is_blocked(int number) {
    sigset_t mask;
    ::sigemptyset(&mask);
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    return ::sigismember(&mask, number) == 1;
}

constexpr std::array kUser{SIGUSR1, SIGUSR2};

TEST(BlockedSignalsTest, AllAreBlockedAndTheMaskComesBack) {
    const bool usr1_before = is_blocked(SIGUSR1);
    {
        const BlockedSignals blocked;
        for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGRTMIN, SIGRTMAX}) {
            EXPECT_TRUE(is_blocked(number)) << number;
        }
        EXPECT_FALSE(is_blocked(SIGKILL)) << "which nothing blocks";
    }
    EXPECT_EQ(is_blocked(SIGUSR1), usr1_before);
    EXPECT_FALSE(is_blocked(SIGTERM));
}

TEST(BlockedSignalsTest, NamedOnesAreBlockedBesideThoseThatWere) {
    constexpr std::array kFirst{SIGUSR1};
    constexpr std::array kSecond{SIGUSR2};
    const BlockedSignals outer(kFirst);
    {
        const BlockedSignals inner(kSecond);
        EXPECT_TRUE(is_blocked(SIGUSR1));
        EXPECT_TRUE(is_blocked(SIGUSR2));
        EXPECT_FALSE(is_blocked(SIGTERM));
    }
    EXPECT_TRUE(is_blocked(SIGUSR1));
    EXPECT_FALSE(is_blocked(SIGUSR2));
}

std::atomic<int> handled{0};

TEST(BlockedSignalsTest, SignalWaitsForTheEnd) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGUSR1, [](int) { ++handled; });
                  {
                      const BlockedSignals blocked;
                      static_cast<void>(::raise(SIGUSR1));
                      if (handled != 0) return 1;
                  }
                  return handled == 1 ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST(SignalDescriptorTest, SignalThatHasComeIsReadOnce) {
    SignalDescriptor signals(kUser);
    EXPECT_EQ(::fcntl(signals.fd(), F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(signals.take(), std::nullopt) << "and does not wait";
    static_cast<void>(::raise(SIGUSR1));
    static_cast<void>(::raise(SIGUSR1));
    pollfd entry{.fd = signals.fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&entry, 1, 0), 1);
    EXPECT_EQ(signals.take(), SIGUSR1);
    EXPECT_EQ(signals.take(), std::nullopt);
}

TEST(SignalDescriptorTest, SignalsAreBlockedWhileItLivesAndOthersAreNot) {
    {
        SignalDescriptor signals(kUser);
        EXPECT_TRUE(is_blocked(SIGUSR1));
        EXPECT_TRUE(is_blocked(SIGUSR2));
        EXPECT_FALSE(is_blocked(SIGTERM));
        static_cast<void>(::raise(SIGUSR2));
        static_cast<void>(::raise(SIGUSR1));
        signals.drain();
        EXPECT_EQ(signals.take(), std::nullopt);
    }
    EXPECT_FALSE(is_blocked(SIGUSR1));
}

// The default action of SIGUSR1 ends the process.
TEST(SignalDescriptorTest, SignalThatNobodyTookHasItsActionAtTheEnd) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGUSR1, SIG_DFL);
                  {
                      const SignalDescriptor signals(kUser);
                      static_cast<void>(::raise(SIGUSR1));
                  }
                  return 0;
              }),
              (tests::ChildEnd{-1, SIGUSR1}));
}

TEST(SignalDescriptorTest, NoDescriptorLeftIsEmfileAndNothingIsBlocked) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { const SignalDescriptor signals(kUser); }), EMFILE);
    EXPECT_FALSE(is_blocked(SIGUSR1));
}

TEST(SignalsTest, ChildUnblocksWhatItsParentHadBlocked) {
    const BlockedSignals blocked;
    EXPECT_EQ(in_child([] {
                  if (!is_blocked(SIGTERM)) return 1;
                  unblock_all_signals();
                  return is_blocked(SIGTERM) || is_blocked(SIGUSR1) ? 2 : 0;
              }),
              kChildExitedWell);
}

TEST(SignalsTest, IgnoredIsWhatHasThatAction) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGUSR1, SIG_IGN);
                  if (!is_ignored(SIGUSR1)) return 1;
                  tests::set_action(SIGUSR1, SIG_DFL);
                  if (is_ignored(SIGUSR1)) return 2;
                  tests::set_action(SIGUSR1, [](int) {});
                  return is_ignored(SIGUSR1) ? 3 : 0;
              }),
              kChildExitedWell);
    EXPECT_FALSE(is_ignored(10'000));
}

TEST(SignalsTest, ThreadWithoutSignalsRunsItsBodyAndLeavesTheCallersMask) {
    std::atomic<bool> all_blocked{false};
    start_without_signals([&] {
        all_blocked = is_blocked(SIGTERM) && is_blocked(SIGPIPE) && is_blocked(SIGRTMIN);
    }).join();
    EXPECT_TRUE(all_blocked);
    EXPECT_FALSE(is_blocked(SIGTERM));
}

// SIGPIPE would end the process, but the thread blocks it and ends with the signal pending.
TEST(SignalsTest, SignalOfTheThreadItselfEndsWithIt) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGPIPE, SIG_DFL);
                  std::array<int, 2> ends{};
                  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return 1;
                  ::close(ends[0]);
                  int error = 0;
                  start_without_signals([&] { error = ::write(ends[1], "x", 1) < 0 ? errno : 0; }).join();
                  return error == EPIPE ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST(SignalsTest, ThreadThatCannotBeStartedIsEagainAndLeavesTheCallersMask) {
    const tests::ChildEnd end = in_child([] {
        for (const int call : {SYS_clone, SYS_clone3}) {
            if (!tests::forbid_call(call, EAGAIN)) return tests::kNotHere;
        }
        if (error_of([] { start_without_signals([] {}).join(); }) != EAGAIN) return 1;
        return is_blocked(SIGTERM) ? 2 : 0;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, kChildExitedWell);
}

}  // namespace
