// Doorbell and SpinBudget: how long a side spins, how it sleeps and is woken, and that no ring is lost.
#include "procrun/worker/doorbell.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <thread>
#include <utility>

#include "pipes/pipe.hpp"
#include "procrun/worker/call_clock.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace procrun::detail;
using pipes::Pipe;
using tests::in_child;
using tests::kChildExitedWell;

/// The state of one side: a word to wait for, whether the side sleeps, and the pipe that wakes it.
struct Bell {
    explicit Bell(std::size_t bytes = 4096) : pipe(Pipe::open(bytes)) {
        for (const int fd : {pipe.read_end().get(), pipe.write_end().get()}) {
            EXPECT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        }
    }

    int ring(std::uint64_t number) { return procrun::detail::ring(word, number, asleep, pipe.write_end().get()); }
    [[nodiscard]] bool announce_sleep(std::uint64_t wanted) {
        return procrun::detail::announce_sleep(word, wanted, asleep);
    }
    [[nodiscard]] bool end_sleep() { return procrun::detail::end_sleep(asleep, pipe.read_end().get()); }
    /// Sleeps until `wanted` is there. Returns false when no ring has come for so long that it must have been lost.
    [[nodiscard]] bool wait_for(std::uint64_t wanted) {
        while (announce_sleep(wanted)) {
            pollfd readable{pipe.read_end().get(), POLLIN, 0};
            if (::poll(&readable, 1, 30'000) != 1 || !end_sleep()) return false;
        }
        return true;
    }

    std::atomic<std::uint64_t> word{0};
    std::atomic<std::uint32_t> asleep{0};
    Pipe pipe;
};

TEST(SpinBudgetTest, FollowsWhenThingsCameAndNotALoneException) {
    SpinBudget budget;
    EXPECT_EQ(budget.ns(), SpinBudget::kMostNs);
    budget.record_wait(SpinBudget::kMostNs);
    EXPECT_EQ(budget.ns(), SpinBudget::kMostNs) << "one late arrival";
    for (int i = 0; i < 100; ++i) budget.record_wait(SpinBudget::kMostNs * 2);
    EXPECT_EQ(budget.ns(), SpinBudget::kLeastNs);
    budget.record_wait(0);
    EXPECT_EQ(budget.ns(), SpinBudget::kLeastNs) << "one early arrival";
    budget.record_wait(SpinBudget::kMostNs - 1);  // spinning for the least budget would never have found it
    EXPECT_EQ(budget.ns(), SpinBudget::kMostNs);
    for (int i = 0; i < 100; ++i) budget.record_wait(-1);  // the other side's clock may be a little ahead
    EXPECT_EQ(budget.ns(), SpinBudget::kMostNs);
}

TEST(SpinUntilTest, WordThatIsThereIsSeenWithoutSpinning) {
    const std::atomic<std::uint64_t> word{7};
    EXPECT_TRUE(spin_until(word, 7, 0));
    EXPECT_FALSE(spin_until(word, 8, 0));
}

TEST(SpinUntilTest, GivesUpOnlyAfterItsTime) {
    const std::atomic<std::uint64_t> word{7};
    const std::int64_t started = now_ns();
    EXPECT_FALSE(spin_until(word, 8, 200'000));
    EXPECT_GE(now_ns() - started, 200'000);
}

TEST(SpinUntilTest, WordOfAnotherThreadIsSeen) {
    std::atomic<std::uint64_t> word{0};
    std::thread other([&] { word.store(5, std::memory_order_release); });
    EXPECT_TRUE(spin_until(word, 5, std::int64_t{30} * 1'000'000'000));
    other.join();
}

TEST(DoorbellTest, NobodyWhoIsAwakeIsWokenUp) {
    Bell bell;
    EXPECT_EQ(bell.ring(1), 0);
    EXPECT_EQ(bell.word, 1U);
    EXPECT_EQ(pipes::queued_bytes(bell.pipe.read_end().get()), 0U);
}

TEST(DoorbellTest, SleeperIsWokenUpByOneByte) {
    Bell bell;
    EXPECT_TRUE(bell.announce_sleep(1));
    EXPECT_EQ(bell.ring(1), 0);
    EXPECT_EQ(bell.ring(2), 0) << "it is up already";
    EXPECT_EQ(pipes::queued_bytes(bell.pipe.read_end().get()), 1U);
    EXPECT_TRUE(bell.end_sleep());
    EXPECT_EQ(bell.asleep, 0U);
    EXPECT_EQ(pipes::queued_bytes(bell.pipe.read_end().get()), 0U);
}

TEST(DoorbellTest, NobodyLiesDownWhoHasBeenRungFor) {
    Bell bell;
    EXPECT_EQ(bell.ring(1), 0);
    EXPECT_FALSE(bell.announce_sleep(1));
    EXPECT_EQ(bell.asleep, 0U);
    EXPECT_TRUE(bell.announce_sleep(2));
}

TEST(DoorbellTest, GettingUpWithoutABellIsNoEnd) {
    Bell bell;
    EXPECT_TRUE(bell.announce_sleep(1));
    EXPECT_TRUE(bell.end_sleep()) << "its patience was at an end, and the other side is there";
    EXPECT_EQ(bell.asleep, 0U);
}

TEST(DoorbellTest, AllBytesThatAreThereAreTakenAtOnce) {
    Bell bell;
    EXPECT_EQ(::write(bell.pipe.write_end().get(), "abcde", 5), 5);
    EXPECT_TRUE(bell.end_sleep());
    EXPECT_EQ(pipes::queued_bytes(bell.pipe.read_end().get()), 0U);
}

// A side that does not read, because it hangs or is hostile, must not block the other side.
TEST(DoorbellTest, FullPipeIsNoErrorAndDoesNotBlock) {
    Bell bell;
    const std::array<char, 4096> bytes{};
    while (::write(bell.pipe.write_end().get(), bytes.data(), bytes.size()) > 0) continue;
    while (::write(bell.pipe.write_end().get(), bytes.data(), 1) > 0) continue;
    ASSERT_EQ(errno, EAGAIN);
    EXPECT_TRUE(bell.announce_sleep(1));
    EXPECT_EQ(bell.ring(1), 0);
    EXPECT_EQ(bell.word, 1U);
    EXPECT_TRUE(bell.wait_for(1));
}

TEST(DoorbellTest, RingingForSomebodyWhoIsGoneIsEpipe) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGPIPE, SIG_IGN);
                  Bell bell;
                  bell.pipe.take_read_end().reset();
                  if (bell.ring(1) != 0) return 1;  // the other side is awake, so that nothing is written
                  if (!bell.announce_sleep(2)) return 2;
                  if (bell.ring(2) != EPIPE) return 3;
                  return bell.word == 2 ? 0 : 4;
              }),
              kChildExitedWell);
}

TEST(DoorbellTest, RingingThroughAClosedDescriptorIsEbadf) {
    Bell bell;
    bell.pipe.take_write_end().reset();
    EXPECT_TRUE(bell.announce_sleep(1));
    EXPECT_EQ(bell.ring(1), EBADF);
}

TEST(DoorbellTest, EndOfTheOtherSideIsNoticedButNotBeforeWhatItHasRung) {
    Bell bell;
    EXPECT_TRUE(bell.announce_sleep(1));
    EXPECT_EQ(bell.ring(1), 0);
    bell.pipe.take_write_end().reset();
    EXPECT_TRUE(bell.end_sleep());
    EXPECT_FALSE(bell.end_sleep());
    bell.pipe.take_read_end().reset();
    EXPECT_FALSE(bell.end_sleep()) << "nor is there anything to come from a closed descriptor";
}

/// Two threads that ring each other in turn. `before_sleep` runs at the point where a ring could be lost.
template <class BeforeSleep>
void play_ping_pong(std::uint64_t rounds, BeforeSleep before_sleep) {
    Bell here;
    Bell there;
    std::atomic<bool> lost = false;
    std::thread other([&] {
        for (std::uint64_t number = 1; number <= rounds && !lost; ++number) {
            before_sleep(number);
            if (!there.wait_for(number)) lost = true;
            if (here.ring(number) != 0) lost = true;
        }
    });
    for (std::uint64_t number = 1; number <= rounds && !lost; ++number) {
        if (there.ring(number) != 0) lost = true;
        before_sleep(number + 1);
        if (!here.wait_for(number)) lost = true;
    }
    other.join();
    EXPECT_FALSE(lost);
    EXPECT_EQ(here.word, rounds);
}

TEST(DoorbellTest, NoRingIsLostWhenBothSidesAlwaysSleep) {
    play_ping_pong(20'000, [](std::uint64_t) {});
}

TEST(DoorbellTest, NoRingIsLostWhenOneComesWhileTheOtherLiesDown) {
    play_ping_pong(5'000, [](std::uint64_t number) {
        for (std::uint64_t spins = 0; spins < number % 97; ++spins) static_cast<void>(now_ns());
        if (number % 13 == 0) std::this_thread::yield();
    });
}

// Either the sleeper sees the number or the ringer sees the sleeper. Each side must store its own word before it reads
// the other's.
TEST(DoorbellTest, NeitherSideMissesTheOtherAtTheSameMoment) {
    constexpr std::uint64_t kRounds = 30'000;
    Bell bell;
    std::atomic<std::uint64_t> begun{0};
    std::atomic<std::uint64_t> rung{0};
    std::atomic<bool> stopped{false};
    const auto wait_until = [&](const std::atomic<std::uint64_t>& word, std::uint64_t number) {
        for (int spins = 0; word.load(std::memory_order_acquire) != number && !stopped; ++spins) {
            if (spins > 1000) std::this_thread::yield();
        }
    };
    std::thread other([&] {
        for (std::uint64_t number = 1; number <= kRounds; ++number) {
            wait_until(begun, number);
            if (stopped) return;
            static_cast<void>(bell.ring(number));
            rung.store(number, std::memory_order_release);
        }
    });
    std::uint64_t lost = 0;
    // On a busy machine a round takes a time slice, so that fewer rounds fit into the time.
    const std::int64_t end = now_ns() + std::int64_t{3} * 1'000'000'000;
    for (std::uint64_t number = 1; number <= kRounds && now_ns() < end; ++number) {
        begun.store(number, std::memory_order_release);
        for (std::uint64_t looks = 0; looks < number % 64; ++looks) {
            static_cast<void>(bell.asleep.load(std::memory_order_acquire));
        }
        const bool lies = bell.announce_sleep(number);
        wait_until(rung, number);
        if (lies && bell.asleep == 1) ++lost;
        EXPECT_TRUE(bell.end_sleep());
    }
    stopped = true;
    other.join();
    EXPECT_EQ(lost, 0U);
}

// One side rings many times while the other looks now and then: the last number is always seen.
TEST(DoorbellTest, LastOfManyRingsIsSeen) {
    Bell bell;
    for (std::uint64_t round = 1; round <= 300; ++round) {
        const std::uint64_t last = round * 50;
        std::thread other([&] {
            for (std::uint64_t number = last - 49; number <= last; ++number) static_cast<void>(bell.ring(number));
        });
        EXPECT_TRUE(bell.wait_for(last)) << round;
        other.join();
    }
}

TEST(ProcessorTest, ThereIsOneAndItIsAmongThoseThatMayBeUsed) {
    EXPECT_GE(usable_processors(), 1U);
    EXPECT_EQ(in_child([] {
                  cpu_set_t one;
                  CPU_ZERO(&one);
                  CPU_SET(this_processor(), &one);
                  if (::sched_setaffinity(0, sizeof(one), &one) != 0) return 1;
                  if (usable_processors() != 1) return 2;
                  return CPU_ISSET(this_processor(), &one) ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST(NowTest, TimeNeverGoesBack) {
    std::int64_t before = now_ns();
    for (int i = 0; i < 1000; ++i) {
        const std::int64_t now = now_ns();
        ASSERT_GE(now, before);
        before = now;
    }
}

}  // namespace
