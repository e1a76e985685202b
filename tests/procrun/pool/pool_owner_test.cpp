// Children that the caller forks itself have copies of its pools and futures. Whatever a child does with them, the
// caller's processes go on.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "procrun/pool.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::ChildEnd;
using tests::kChildExitedWell;

/// Longer than any step that does not hang; SIGALRM then ends the child.
constexpr unsigned kHangSeconds = 10;

/// Does what tests::in_child does, but the child ends as programs do: static objects are destroyed.
ChildEnd in_child_that_exits(const std::function<int()>& body) {
    return tests::in_child([&] {
        ::alarm(kHangSeconds);
        std::exit(body());
        return 0;
    });
}

ChildEnd in_child_with_alarm(const std::function<int()>& body) {
    return tests::in_child([&] {
        ::alarm(kHangSeconds);
        return body();
    });
}

class PoolOwnerTest : public tests::SurvivalTest {
protected:
    /// Checks that the worker that was idle serves the next call in time.
    void expect_untouched(pid_t worker) {
        const auto next = pool_.call(CallOptions{.deadline = Deadline::in(5s)}, ::getpid);
        ASSERT_TRUE(next.ok()) << next.outcome().describe();
        EXPECT_EQ(next.value(), worker);
        expect_all_is_well();
    }
    [[nodiscard]] pid_t worker() { return pool_.call(::getpid).value(); }
};

TEST_F(PoolOwnerTest, ChildThatExitsWithAStaticPoolLeavesTheWorkersAlone) {
    EXPECT_EQ(in_child_with_alarm([] {
                  static Pool pool(tests::workers(1));
                  const pid_t worker = pool.call(::getpid).value();
                  if (in_child_that_exits([] { return 0; }) != kChildExitedWell) return 1;
                  if (in_child_that_exits([] { return 0; }) != kChildExitedWell) return 2;
                  const auto next = pool.call(CallOptions{.deadline = Deadline::in(5s)}, ::getpid);
                  return next.ok() && next.value() == worker ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST_F(PoolOwnerTest, DestructorInAChildLeavesTheWorkersAlone) {
    auto pool = std::make_unique<Pool>(tests::workers(2));
    const pid_t worker = pool->call(::getpid).value();
    EXPECT_EQ(in_child_with_alarm([&] {
                  pool.reset();
                  return 0;
              }),
              kChildExitedWell);
    EXPECT_EQ(pool->call(::getpid).value(), worker);
}

TEST_F(PoolOwnerTest, EveryMemberInAChildLeavesTheWorkersAlone) {
    const pid_t mine = worker();
    EXPECT_EQ(in_child_with_alarm([&] {
                  pool_.trim();
                  if (pool_.status().workers != 0) return 1;
                  // The child's calls go to workers of the child.
                  const auto worker = pool_.call(::getpid);
                  if (!worker.ok() || worker.value() == mine) return 2;
                  if (pool_.async(::getpid).get().value() == mine) return 3;
                  if (pool_.status().workers != 1) return 4;
                  pool_.trim();
                  return pool_.status().workers == 0 ? 0 : 5;
              }),
              kChildExitedWell);
    expect_untouched(mine);
}

TEST_F(PoolOwnerTest, ChildWithoutForkHandlersLeavesTheWorkersAlone) {
    const pid_t mine = worker();
    const auto child = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0UL));
    if (child == 0) {
        ::alarm(kHangSeconds);
        pool_.trim();
        const auto worker = pool_.call(::getpid);
        ::_exit(worker.ok() && worker.value() != mine ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    expect_untouched(mine);
}

TEST_F(PoolOwnerTest, FutureInAChildCancelsNothing) {
    const auto slow = [] {
        while (!tests::board().go_on.load()) tests::sleep_ms(1);
        return 42;
    };
    auto future = std::make_unique<procrun::CallFuture<int>>(pool_.async(slow));
    auto other = std::make_unique<procrun::CallFuture<int>>(pool_.async(tests::answer));
    EXPECT_EQ(in_child_with_alarm([&] {
                  if (other->get().outcome().code != EPERM) return 1;
                  other.reset();
                  future->cancel();
                  future.reset();
                  return 0;
              }),
              kChildExitedWell);
    tests::board().go_on.store(true);
    EXPECT_EQ(future->get().value(), 42);
    EXPECT_EQ(other->get().value(), 42);
}

// The child must not destroy a condition variable on which another thread waited at the fork.
TEST_F(PoolOwnerTest, ChildThatIsForkedWhileThreadsWaitEndsAsWell) {
    const auto slow = [] {
        while (!tests::board().go_on.load()) tests::sleep_ms(1);
        return 42;
    };
    auto pool = std::make_unique<Pool>(tests::workers(1));
    auto future = std::make_unique<procrun::CallFuture<int>>(pool->async(slow));
    std::thread waiting([&] { EXPECT_EQ(future->get().value(), 42); });
    std::thread queued([&] { EXPECT_TRUE(pool->call(tests::answer).ok()); });
    EXPECT_TRUE(tests::eventually([&] { return pool->status().queued == 1; }));
    EXPECT_EQ(in_child_with_alarm([&] {
                  future.reset();
                  pool.reset();
                  return 0;
              }),
              kChildExitedWell);
    tests::board().go_on.store(true);
    waiting.join();
    queued.join();
}

// The child takes an arena that is on loan to the parent's worker; it must not recall that worker.
TEST_F(PoolOwnerTest, LoanInAChildCallsNobodyBack) {
    vmcow::Arena arena = pool_.apply(tests::add_to_pages, tests::counting_arena(2), std::size_t{1}, 5L).value();
    const pid_t mine = worker();
    EXPECT_EQ(in_child_with_alarm([&] {
                  static_cast<void>(arena.extent_bytes());
                  vmcow::Arena taken = std::move(arena);
                  pool_.trim();
                  return 0;
              }),
              kChildExitedWell);
    EXPECT_EQ(tests::longs_in(arena)[0], 5);
    expect_untouched(mine);
}

}  // namespace
