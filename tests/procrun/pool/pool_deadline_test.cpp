// Deadlines hold and pools end whichever process is stopped. The times that are asserted tell a hang: they lie far
// above what is promised, and below what an unbounded wait takes.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "procrun/worker/call_clock.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::board;
using tests::kChildExitedWell;

constexpr std::chrono::milliseconds kDeadline{500};
constexpr std::chrono::milliseconds kHang{2500};

CallOptions soon() { return {.deadline = Deadline::in(kDeadline)}; }

bool is_over_in_time(const std::function<void()>& action) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    return std::chrono::steady_clock::now() - begin < kHang;
}

/// Sends SIGSTOP again and again, so that a process that someone continues stops again.
class Stopper {
public:
    explicit Stopper(std::vector<pid_t> pids)
        : thread_([this, pids = std::move(pids)] {
              while (!done_) {
                  for (const pid_t pid : pids) vmcow::sys::signal_process(pid, SIGSTOP);
                  tests::sleep_ms(1);
              }
          }) {}
    ~Stopper() {
        done_ = true;
        thread_.join();
    }
    Stopper(const Stopper&) = delete;
    Stopper& operator=(const Stopper&) = delete;

private:
    std::atomic<bool> done_{false};
    std::thread thread_;
};

class PoolDeadlineTest : public tests::SurvivalTest {};

TEST_F(PoolDeadlineTest, StoppedZygoteIsContinued) {
    const auto status = pool_.status();
    vmcow::sys::signal_process(status.zygote_pid, SIGSTOP);
    const auto result = pool_.call(soon(), tests::answer);
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(pool_.status().zygote_pid, status.zygote_pid);
    expect_all_is_well();
}

TEST_F(PoolDeadlineTest, ZygoteThatStaysStoppedDoesNotHoldACallUp) {
    {
        const Stopper stopper({pool_.status().zygote_pid});
        EXPECT_TRUE(is_over_in_time([&] {
            const auto result = pool_.call(soon(), tests::answer);
            if (!result.ok()) {
                EXPECT_EQ(result.outcome().kind, OutcomeKind::deadline_passed) << result.outcome().describe();
            }
        }));
        // A call without a deadline waits until the worker is replaced.
        const auto patient = pool_.call(tests::answer);
        EXPECT_TRUE(patient.ok()) << patient.outcome().describe();
    }
    pool_.trim();
    expect_all_is_well();
}

TEST_F(PoolDeadlineTest, StoppedKeeperDoesNotHoldACallUp) {
    const auto status = pool_.status();
    vmcow::sys::signal_process(status.keeper_pid, SIGSTOP);
    vmcow::sys::signal_process(status.zygote_pid, SIGKILL);
    EXPECT_TRUE(is_over_in_time([&] {
        const auto result = pool_.call(soon(), tests::answer);
        EXPECT_TRUE(result.ok()) << result.outcome().describe();
    }));
    expect_all_is_well();
}

// One thread that waits for the zygote must not hold the others past their deadlines.
TEST_F(PoolDeadlineTest, CallersInTurnKeepTheirDeadlines) {
    Pool pool(tests::workers(4));
    const Stopper stopper({pool.status().zygote_pid});
    std::vector<std::thread> callers;
    std::atomic<int> late{0};
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([&] {
            if (!is_over_in_time([&] { static_cast<void>(pool.call(soon(), tests::answer)); })) ++late;
        });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(late, 0);
}

// A call that comes while a worker is made for another call waits in the queue, where no other thread would find it.
TEST_F(PoolDeadlineTest, CallBehindAnAsynchronousOneThatGetsNoWorkerIsServed) {
    std::atomic<bool> served{false};
    std::thread behind;
    {
        const Stopper stopper({pool_.status().zygote_pid});
        behind = std::thread([&] {
            static_cast<void>(tests::eventually([&] { return pool_.status().workers == 1; }));
            served = pool_.call(CallOptions{.deadline = Deadline::in(20s)}, tests::answer).ok();
        });
        static_cast<void>(pool_.async(soon(), tests::answer).get());
    }
    behind.join();
    EXPECT_TRUE(served);
}

TEST_F(PoolDeadlineTest, WorkerThatEndsWhileItsZygoteIsStoppedIsNotWaitedForLong) {
    ASSERT_TRUE(pool_.call(tests::answer).ok());
    const Stopper stopper({pool_.status().zygote_pid});
    EXPECT_TRUE(is_over_in_time([&] {
        const auto result = pool_.call(soon(), [] { ::raise(SIGKILL); });
        EXPECT_FALSE(result.ok());
        EXPECT_NE(result.outcome().kind, OutcomeKind::returned);
    }));
}

TEST_F(PoolDeadlineTest, StoppedWorkerLetsGoByItsEnd) {
    vmcow::Arena arena = pool_.apply(tests::add_to_pages, tests::counting_arena(2), std::size_t{1}, 5L).value();
    vmcow::sys::signal_process(pool_.status().idle_pids.at(0), SIGSTOP);
    EXPECT_TRUE(is_over_in_time([&] { EXPECT_EQ(tests::longs_in(arena)[0], 5); }));
    expect_all_is_well();
    // A call with a deadline takes the same path.
    arena = pool_.apply(tests::add_to_pages, std::move(arena), std::size_t{1}, 5L).value();
    vmcow::sys::signal_process(pool_.status().idle_pids.at(0), SIGSTOP);
    EXPECT_TRUE(is_over_in_time([&] { static_cast<void>(pool_.call(soon(), tests::sum, image_)); }));
    expect_all_is_well();
}

/// Leaves a thread behind and returns at `end_ns`.
void leave_thread_until(std::int64_t end_ns) {
    std::thread([] { tests::hang(); }).detach();
    while (procrun::detail::now_ns() < end_ns) continue;
}

// The worker is ended for the thread that it leaves and for its deadline at the same time.
TEST_F(PoolDeadlineTest, FunctionThatLeavesAThreadNearItsDeadlineIsEndedOnce) {
    for (int round = -5; round <= 10; ++round) {
        const std::int64_t end_ns = procrun::detail::now_ns() + 20'000'000 + round * 300'000;
        EXPECT_TRUE(is_over_in_time([&] {
            const CallOptions options{.deadline = Deadline::in(20ms)};
            const OutcomeKind kind = pool_.call(options, leave_thread_until, end_ns).outcome().kind;
            EXPECT_TRUE(kind == OutcomeKind::returned || kind == OutcomeKind::deadline_passed);
        })) << round;
    }
    expect_all_is_well();
}

// ---- the end

enum Who : unsigned { kWorker = 1, kZygote = 2, kKeeper = 4, kAll = 7 };

void end_with_stopped(unsigned who, bool again) {
    std::vector<pid_t> pids;
    EXPECT_TRUE(is_over_in_time([&] {
        auto pool = std::make_unique<Pool>(tests::workers(1));
        const pid_t worker = pool->call(::getpid).value();
        const auto status = pool->status();
        pids = {worker, status.zygote_pid, status.keeper_pid};
        std::vector<pid_t> stopped;
        for (unsigned i = 0; i < pids.size(); ++i) {
            if ((who >> i & 1U) != 0) stopped.push_back(pids[i]);
        }
        for (const pid_t pid : stopped) vmcow::sys::signal_process(pid, SIGSTOP);
        const auto stopper = again ? std::make_unique<Stopper>(stopped) : nullptr;
        pool.reset();
    })) << who;
    EXPECT_TRUE(tests::eventually([&] { return std::none_of(pids.begin(), pids.end(), tests::is_running); })) << who;
}

// The pool ends while a worker is being made, and knows neither of a waiting call nor of a running one then. The zygote
// is asked for one second how the first worker has ended, and for another second for a new worker.
TEST_F(PoolDeadlineTest, PoolEndsWhileAWorkerIsMadeForACallOfItsQueue) {
    EXPECT_EQ(tests::in_child([] {
                  ::alarm(20);
                  auto pool = std::make_unique<Pool>(tests::workers(1));
                  auto first = pool->async([] {
                      while (!board().go_on.load()) tests::sleep_ms(1);
                      ::raise(SIGKILL);
                  });
                  auto behind = pool->async(tests::hang);
                  const Stopper stopper({pool->status().zygote_pid});
                  board().go_on.store(true);
                  tests::sleep_ms(1500);
                  pool.reset();
                  return behind.get().outcome().kind == OutcomeKind::cancelled ? 0 : 1;
              }),
              kChildExitedWell);
}

TEST_F(PoolDeadlineTest, PoolEndsWhoeverIsStopped) {
    for (unsigned who = 1; who <= kAll; ++who) end_with_stopped(who, false);
}

TEST_F(PoolDeadlineTest, PoolEndsWhoeverStaysStopped) {
    for (const unsigned who : {unsigned{kKeeper}, unsigned{kAll}}) end_with_stopped(who, true);
}

}  // namespace
