// The queue, futures and map of a pool: which call gets a worker and when, which is refused, and how idle workers end.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::answer;
using tests::Shared;
using tests::workers;
using vmcow::Arena;
using vmcow::Snapshot;

/// What functions and the test tell each other.
struct Gate {
    std::atomic<bool> open{false};
    std::atomic<int> entered{0};
    std::atomic<int> order{0};
};

/// A function that waits at the gate. Its result is the number of calls that have passed before.
auto wait_at(Gate* gate) {
    return procrun::by_bytes([gate] {
        gate->entered.fetch_add(1);
        while (!gate->open.load()) tests::sleep_ms(1);
        return gate->order.fetch_add(1);
    });
}

// ---- workers

TEST(PoolQueueTest, WorkersAreMadeOnDemandUpToTheLimit) {
    Shared<Gate> gate;
    Pool pool(workers(3));
    EXPECT_EQ(pool.status().workers, 0U);
    EXPECT_TRUE(pool.call(answer).ok());
    EXPECT_EQ(pool.status().workers, 1U);
    std::vector<procrun::CallFuture<int>> futures;
    for (int i = 0; i < 7; ++i) futures.push_back(pool.async(wait_at(gate.get())));
    EXPECT_TRUE(tests::eventually([&] { return gate->entered.load() == 3; }));
    EXPECT_EQ(pool.status().workers, 3U);
    EXPECT_EQ(pool.status().idle, 0U);
    EXPECT_EQ(pool.status().queued, 4U);
    gate->open.store(true);
    for (auto& future : futures) EXPECT_TRUE(future.get().ok());
    EXPECT_EQ(pool.status().workers, 3U);
    EXPECT_EQ(pool.status().queued, 0U);
}

// The functions are too slow for a spinning caller, so that the watcher sees their ends. Each answer must find the
// worker idle.
TEST(PoolQueueTest, WhoHasTheAnswerSeesItsWorkerIdle) {
    constexpr int kCalls = 300;
    const auto slow = [] {
        tests::sleep_ms(1);
        return 1;
    };
    Pool pool(workers(1));
    int busy = 0;
    for (int i = 0; i < kCalls; ++i) {
        EXPECT_TRUE(pool.async(slow).get().ok());
        if (pool.status().idle != 1) ++busy;
    }
    EXPECT_EQ(busy, 0);
    EXPECT_TRUE(pool.async(slow).get().ok());
    pool.trim();
    EXPECT_EQ(pool.status().workers, 0U);
}

TEST(PoolQueueTest, CallsThatWaitAreServedInTheirOrder) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    std::vector<procrun::CallFuture<int>> futures;
    for (int i = 0; i < 20; ++i) futures.push_back(pool.async(wait_at(gate.get())));
    gate->open.store(true);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get().value(), i);
}

TEST(PoolQueueTest, ThreadsThatWaitAreServedInTheirOrder) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    auto first = pool.async(wait_at(gate.get()));
    std::vector<std::thread> threads;
    std::array<int, 6> passed{};
    for (std::size_t i = 0; i < passed.size(); ++i) {
        threads.emplace_back([&, i] { passed[i] = pool.call(wait_at(gate.get())).value(); });
        EXPECT_TRUE(tests::eventually([&] { return pool.status().queued == i + 1; }));
    }
    gate->open.store(true);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(first.get().value(), 0);
    for (std::size_t i = 0; i < passed.size(); ++i) EXPECT_EQ(passed[i], static_cast<int>(i) + 1);
}

TEST(PoolQueueTest, QueueIsBounded) {
    Shared<Gate> gate;
    Pool pool({.workers = 1, .queue = 2});
    std::vector<procrun::CallFuture<int>> futures;
    for (int i = 0; i < 3; ++i) futures.push_back(pool.async(wait_at(gate.get())));
    const auto refused = pool.call(answer);
    EXPECT_EQ(refused.outcome().kind, OutcomeKind::not_started);
    EXPECT_EQ(refused.outcome().code, EAGAIN);
    EXPECT_NE(refused.outcome().text.find("queue"), std::string::npos);
    auto refused_too = pool.async(answer);
    EXPECT_EQ(refused_too.get().outcome().code, EAGAIN);
    gate->open.store(true);
    for (auto& future : futures) EXPECT_TRUE(future.get().ok());
    EXPECT_TRUE(pool.call(answer).ok());
}

// The outcome must tell that the arena is gone even when the call was refused before it reached a worker.
TEST(PoolQueueTest, MovedArenaThatIsRefusedIsSaidToBeGone) {
    Shared<Gate> gate;
    Pool pool({.workers = 1, .queue = 0});
    auto running = pool.async(wait_at(gate.get()));
    Arena arena = tests::counting_arena(2);
    const auto refused = pool.apply(tests::add_to_pages, std::move(arena), std::size_t{1}, 1L);
    EXPECT_EQ(refused.outcome().code, EAGAIN);
    EXPECT_NE(refused.outcome().text.find("the moved value is gone"), std::string::npos) << refused.outcome().text;
    gate->open.store(true);
}

TEST(PoolQueueTest, IdleWorkersEndAndGiveBackWhatTheyKept) {
    Pool pool({.workers = 2, .idle_time = 20ms});
    const Snapshot image = tests::counting_snapshot(4);
    for (int round = 0; round < 3; ++round) {
        EXPECT_TRUE(pool.call(tests::sum_and_add, image, std::size_t{4}, 1L).ok());
        const std::vector<pid_t> pids = pool.status().idle_pids;
        EXPECT_TRUE(tests::eventually([&] { return pool.status().workers == 0; }));
        for (const pid_t pid : pids) EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(pid); }));
    }
    EXPECT_TRUE(pool.call(answer).ok());
}

// A call that meets a worker at the very end of its idle time gets another worker and is not lost.
TEST(PoolQueueTest, CallsRaceWithTheEndOfIdleWorkers) {
    Pool pool({.workers = 1, .idle_time = 1ms});
    for (int i = 0; i < 300; ++i) {
        const auto result = pool.call(answer);
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        std::this_thread::sleep_for(std::chrono::microseconds(i * 10));
    }
}

TEST(PoolQueueTest, TrimEndsIdleWorkersOnly) {
    Shared<Gate> gate;
    Pool pool(workers(2));
    auto running = pool.async(wait_at(gate.get()));
    EXPECT_TRUE(pool.call(answer).ok());
    EXPECT_TRUE(tests::eventually([&] { return gate->entered.load() == 1; }));
    ASSERT_EQ(pool.status().idle_pids.size(), 1U);
    const pid_t idle = pool.status().idle_pids[0];
    pool.trim();
    EXPECT_EQ(pool.status().workers, 1U);
    EXPECT_FALSE(tests::is_running(idle));
    gate->open.store(true);
    EXPECT_TRUE(running.get().ok());
    EXPECT_TRUE(pool.call(answer).ok());
}

TEST(PoolQueueTest, TwoPoolsDoNotMeet) {
    Pool first(workers(1));
    Pool second(workers(1));
    const Snapshot image = tests::counting_snapshot(4);
    const Snapshot changed = first.apply(tests::add_to_pages, image, std::size_t{1}, 5L).value();
    Arena arena = first.apply(tests::add_to_pages, tests::counting_arena(2), std::size_t{2}, 1L).value();
    arena = second.apply(tests::add_to_pages, std::move(arena), std::size_t{2}, 1L).value();
    EXPECT_EQ(second.call(tests::sum, changed).value(), tests::sum(tests::longs_in(changed)));
    EXPECT_EQ(first.call(tests::sum, arena).value(), tests::sum(tests::longs_in(arena)));
    EXPECT_NE(first.call(::getpid).value(), second.call(::getpid).value());
    EXPECT_EQ(tests::longs_in(std::move(arena).freeze())[0], 2);
}

TEST(PoolQueueTest, ManyThreadsCallAtOnce) {
    for (const std::size_t count : {1U, 3U}) {
        Pool pool(workers(count));
        const Snapshot image = tests::counting_snapshot(16);
        const long total = tests::sum(tests::longs_in(image));
        std::atomic<int> wrong{0};
        std::vector<std::thread> threads;
        for (long id = 0; id < 8; ++id) {
            threads.emplace_back([&, id] {
                Snapshot mine = image;
                Arena arena = tests::counting_arena(2);
                for (long i = 1; i <= 50; ++i) {
                    const auto echo = [](long a, long b) { return a * 1000 + b; };
                    if (pool.call(echo, id, i).value() != id * 1000 + i) ++wrong;
                    if (pool.call(tests::sum, image).value() != total) ++wrong;
                    mine = pool.apply(tests::add_to_pages, mine, std::size_t{2}, id).value();
                    if (tests::longs_in(mine)[0] != i * id) ++wrong;
                    arena = pool.apply(tests::add_to_pages, std::move(arena), std::size_t{1}, id).value();
                    if (tests::longs_in(arena)[0] != i * id) ++wrong;
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(wrong.load(), 0);
        EXPECT_TRUE(tests::is_counting(tests::longs_in(image)));
    }
}

// The worker lets go of the arena for the other one and gets it again, so that there is a second loan. When the owner
// has the arena back, no process may write to it, whatever loan the worker holds.
TEST(PoolQueueTest, ArenaThatTakesTurnsWithAnotherOneCanBeFrozen) {
    Pool pool(workers(1));
    Arena one = tests::counting_arena(4);
    Arena other = tests::counting_arena(4);
    for (int round = 0; round < 3; ++round) {
        one = pool.apply(tests::add_to_pages, std::move(one), std::size_t{4}, 1L).value();
        other = pool.apply(tests::add_to_pages, std::move(other), std::size_t{4}, 1L).value();
    }
    one = pool.apply(tests::add_to_pages, std::move(one), std::size_t{4}, 1L).value();
    EXPECT_EQ(tests::longs_in(std::move(one).freeze())[0], 4);
    EXPECT_EQ(tests::longs_in(std::move(other).freeze())[0], 3);
}

TEST(PoolQueueTest, MovedArenaCanBeFrozenAtOnceWhileOthersCall) {
    Pool pool(workers(2));
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int id = 0; id < 4; ++id) {
        threads.emplace_back([&, id] {
            for (int i = 0; i < 200; ++i) {
                const auto freeze = [&](procrun::CallResult<Arena> result) {
                    const auto sealed = [&] { return std::move(result).value().freeze(); };
                    const int error = tests::error_of([&] { wrong += tests::longs_in(sealed())[0] == 1 ? 0 : 1; });
                    if (error != 0) ++wrong;
                };
                if (id % 2 == 0) {
                    freeze(pool.apply(tests::add_to_pages, tests::counting_arena(1), std::size_t{1}, 1L));
                } else {
                    freeze(pool.async_apply(tests::add_to_pages, tests::counting_arena(1), std::size_t{1}, 1L).get());
                }
                if (!pool.call(answer).ok()) ++wrong;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0);
}

// ---- futures

TEST(PoolQueueTest, WaitEndsAtItsTimeOrWithTheCall) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    auto future = pool.async(wait_at(gate.get()));
    EXPECT_TRUE(future.valid());
    EXPECT_FALSE(future.wait_for(20ms));
    EXPECT_TRUE(future.valid());
    gate->open.store(true);
    EXPECT_TRUE(future.wait_for(20s));
    EXPECT_TRUE(future.get().ok());
    EXPECT_FALSE(future.valid());
}

TEST(PoolQueueTest, AsyncSeesTheValueAsItWas) {
    Pool pool(workers(2));
    Snapshot value = tests::counting_snapshot(8);
    std::vector<procrun::CallFuture<long>> futures;
    for (int i = 0; i < 6; ++i) {
        futures.push_back(pool.async(tests::sum_and_add, value, std::size_t{1}, 100L));
        value = pool.apply(tests::add_to_pages, value, std::size_t{1}, 1L).value();
    }
    for (long i = 0; i < 6; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get().value(), i);
}

TEST(PoolQueueTest, AsyncApplyBringsTheImageBack) {
    Pool pool(workers(2));
    auto snapshot = pool.async_apply(tests::sum_and_add, tests::counting_snapshot(4), std::size_t{2}, 5L);
    auto arena = pool.async_apply(tests::add_to_pages, tests::counting_arena(4), std::size_t{2}, 6L);
    const auto [changed, before] = snapshot.get().value();
    EXPECT_EQ(before, static_cast<long>(tests::kLongsInPage));
    EXPECT_EQ(tests::longs_in(changed)[0], 5);
    Arena back = arena.get().value();
    EXPECT_EQ(tests::longs_in(back)[0], 6);
    EXPECT_EQ(tests::longs_in(std::move(back).freeze())[0], 6);
}

TEST(PoolQueueTest, CallIsTakenOutOfTheQueue) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    auto running = pool.async(wait_at(gate.get()));
    auto queued = pool.async(wait_at(gate.get()));
    queued.cancel();
    EXPECT_EQ(pool.status().queued, 0U);
    gate->open.store(true);
    EXPECT_TRUE(running.get().ok());
    const auto result = queued.get();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::cancelled);
    EXPECT_NE(result.outcome().text.find("queue"), std::string::npos);
    EXPECT_EQ(gate->entered.load(), 1);
}

TEST(PoolQueueTest, RunningCallIsCancelled) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    auto running = pool.async(wait_at(gate.get()));
    EXPECT_TRUE(tests::eventually([&] { return gate->entered.load() == 1; }));
    running.cancel();
    running.cancel();
    const auto result = running.get();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::cancelled);
    EXPECT_EQ(result.outcome().text, "in the function");
    EXPECT_TRUE(pool.call(answer).ok());
}

TEST(PoolQueueTest, CancelAfterTheEndChangesNothing) {
    Pool pool(workers(1));
    auto future = pool.async(answer);
    future.wait();
    future.cancel();
    EXPECT_EQ(future.get().value(), 42);
    EXPECT_EQ(pool.status().workers, 1U);
}

TEST(PoolQueueTest, AbandonedFutureCancelsItsCall) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    {
        auto abandoned = pool.async(wait_at(gate.get()));
        auto overwritten = pool.async(wait_at(gate.get()));
        overwritten = pool.async(wait_at(gate.get()));
        EXPECT_TRUE(tests::eventually([&] { return gate->entered.load() == 1; }));
    }
    EXPECT_EQ(pool.call(answer).value(), 42);
    EXPECT_EQ(gate->entered.load(), 1);
    EXPECT_EQ(pool.status().queued, 0U);
}

TEST(PoolQueueTest, FuturesOutliveThePool) {
    Shared<Gate> gate;
    std::vector<procrun::CallFuture<int>> futures;
    {
        Pool pool(workers(1));
        futures.push_back(pool.async(wait_at(gate.get())));
        futures.push_back(pool.async(answer));
        EXPECT_TRUE(tests::eventually([&] { return gate->entered.load() == 1; }));
    }
    for (auto& future : futures) {
        EXPECT_TRUE(future.wait_for(0s));
        const auto result = future.get();
        EXPECT_EQ(result.outcome().kind, OutcomeKind::cancelled);
        EXPECT_NE(result.outcome().describe(), "");
    }
}

TEST(PoolQueueTest, DeadlinePassesInTheQueue) {
    Shared<Gate> gate;
    Pool pool(workers(1));
    auto running = pool.async(wait_at(gate.get()));
    const auto in_time = [] { return CallOptions{.deadline = Deadline::in(20ms)}; };
    auto late = pool.async(in_time(), answer);
    const auto also_late = pool.call(in_time(), answer);
    EXPECT_EQ(also_late.outcome().kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(also_late.outcome().code, 0) << "no process was ended for it";
    EXPECT_EQ(late.get().outcome().kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(pool.status().queued, 0U);
    gate->open.store(true);
    EXPECT_TRUE(running.get().ok());
}

// ---- map

TEST(PoolQueueTest, MapKeepsTheOrderAndShowsItsProgress) {
    Pool pool(workers(2));
    const Snapshot image = tests::counting_snapshot(4);
    const auto pick = [](std::span<const long> values, int at) {
        if (at == 13) throw std::runtime_error("thirteen");
        tests::sleep_ms(at % 3);
        return values[static_cast<std::size_t>(at)];
    };
    std::vector<int> inputs(40);
    std::iota(inputs.begin(), inputs.end(), 0);
    std::vector<std::size_t> seen;
    std::size_t failed = 0;
    const auto results = pool.map(pick, image, inputs, [&](const procrun::MapProgress& progress) {
        EXPECT_EQ(progress.total, 40U);
        seen.push_back(progress.done);
        failed = progress.failed;
    });
    ASSERT_EQ(results.size(), 40U);
    ASSERT_EQ(seen.size(), 40U);
    for (std::size_t i = 0; i < 40; ++i) {
        EXPECT_EQ(seen[i], i + 1);
        if (i == 13) {
            EXPECT_EQ(results[i].outcome().text, "thirteen");
        } else {
            EXPECT_EQ(results[i].value(), static_cast<long>(i));
        }
    }
    EXPECT_EQ(failed, 1U);
    EXPECT_TRUE(pool.map(pick, image, std::vector<int>{}).empty());
}

TEST(PoolQueueTest, MapOfMoreThanTheQueueHoldsIsNotRefused) {
    Pool pool({.workers = 2, .queue = 1});
    const auto results = pool.map([](const long& a, int b) { return a + b; }, tests::counting_snapshot(1),
                                  std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8});
    for (std::size_t i = 0; i < results.size(); ++i) {
        ASSERT_TRUE(results[i].ok()) << i << ": " << results[i].outcome().describe();
        EXPECT_EQ(results[i].value(), static_cast<long>(i) + 1);
    }
}

// ---- where a pool is made

TEST(PoolQueueTest, PoolIsMadeBeforeTheFirstThread) {
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop.load()) tests::sleep_ms(1);
    });
    const auto make = [] { Pool pool; };
    EXPECT_EQ(tests::error_of(make), EPERM);
    EXPECT_NE(tests::message_of(make).find("before the first thread"), std::string::npos);
    stop.store(true);
    other.join();
}

// A joined thread stays listed in /proc for a moment; it can hold no lock.
TEST(PoolQueueTest, ThreadThatHasJustEndedIsNoObstacle) {
    for (int i = 0; i < 50; ++i) {
        std::thread([] {}).join();
        EXPECT_EQ(tests::message_of([] { Pool pool(workers(1)); }), "");
    }
}

// Other threads of the parent may hold a lock that the child needs, so that a call that cannot get a new pool is
// refused.
TEST(PoolQueueTest, ForkedChildWithThreadsCannotUseThePool) {
    Pool pool(workers(1));
    EXPECT_TRUE(pool.call(answer).ok());
    EXPECT_EQ(tests::in_child([&] {
                  std::atomic<bool> stop{false};
                  std::thread other([&] {
                      while (!stop.load()) tests::sleep_ms(1);
                  });
                  const auto result = pool.call(answer);
                  auto future = pool.async(answer);
                  const auto of_future = future.get();
                  const bool refused = result.outcome().kind == OutcomeKind::not_started &&
                                       result.outcome().code == EPERM && of_future.outcome().code == EPERM;
                  stop.store(true);
                  other.join();
                  return refused && pool.call(answer).value() == 42 ? 0 : 1;
              }),
              tests::kChildExitedWell);
    EXPECT_TRUE(pool.call(answer).ok()) << "the child's end is nothing to the pool";
}

// A function process can make a pool, which ends with the process.
TEST(PoolQueueTest, FunctionCanHaveAPoolOfItsOwn) {
    Pool pool(workers(1));
    const auto nested = [] {
        Pool inner(workers(1));
        return inner.call(answer).value() + 1;
    };
    const auto result = pool.call(nested);
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(result.value(), 43);
}

TEST(PoolQueueTest, IgnoredChildrenAreRefusedWithTheRemedy) {
    EXPECT_EQ(tests::in_child([] {
                  ::signal(SIGCHLD, SIG_IGN);
                  return tests::error_of([] { Pool pool; }) == ECHILD ? 0 : 1;
              }),
              tests::kChildExitedWell);
}

}  // namespace
