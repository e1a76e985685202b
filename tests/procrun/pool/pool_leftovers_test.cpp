// Processes and threads that a function leaves running: they end with its worker, and no later call meets them (I4).
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "procrun/worker/left_behind.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using procrun::Pool;
using tests::board;
using tests::kChildExitedWell;

class PoolLeftoversTest : public tests::SurvivalTest {};

pid_t spawn(const char* script) {
    std::array<char*, 4> argv{const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>(script), nullptr};
    pid_t pid = -1;
    return ::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, argv.data(), environ) == 0 ? pid : -1;
}

/// Returns 0 when this process has no children at all.
int child_that_is_there() {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    return pid < 0 && errno == ECHILD ? 0 : 1;
}

/// Starts a process in a session of its own whose parents are gone, as daemon(3) does.
pid_t start_daemon() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) std::abort();
    const pid_t first = ::fork();
    if (first == 0) {
        ::setsid();
        const pid_t second = ::fork();
        if (second == 0) {
            ::close(ends[0]);
            ::close(ends[1]);
            tests::hang();
        }
        static_cast<void>(::write(ends[1], &second, sizeof(second)));
        ::_exit(0);
    }
    ::waitpid(first, nullptr, 0);
    pid_t daemon = -1;
    static_cast<void>(::read(ends[0], &daemon, sizeof(daemon)));
    ::close(ends[0]);
    ::close(ends[1]);
    return daemon;
}

TEST_F(PoolLeftoversTest, DaemonEndsWithItsCall) {
    const auto result = pool_.call(start_daemon);
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    ASSERT_GT(result.value(), 0);
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(result.value()); }));
    expect_all_is_well();
}

// The function still runs when the pool ends, and its daemon must end with the pool.
TEST_F(PoolLeftoversTest, DaemonEndsWithThePool) {
    for (int round = 0; round < 10; ++round) {
        board().pids[0].store(0);
        {
            Pool pool(tests::workers(1));
            const auto future = pool.async([] {
                board().pids[0].store(start_daemon());
                return tests::hang();
            });
            ASSERT_TRUE(tests::eventually([] { return board().pids[0].load() > 0; }));
        }
        EXPECT_FALSE(tests::is_running(board().pids[0].load())) << round;
    }
}

TEST_F(PoolLeftoversTest, SpawnedProcessEndsWithItsCall) {
    const auto result = pool_.call([] { return spawn("exec sleep 1000"); });
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    ASSERT_GT(result.value(), 0);
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(result.value()); }));
    const auto by_system = pool_.call([] { return std::system("sleep 1000 & exit 3"); });
    ASSERT_TRUE(by_system.ok()) << by_system.outcome().describe();
    EXPECT_EQ(WEXITSTATUS(by_system.value()), 3);
    expect_all_is_well();
}

// No call meets a child, running or ended, of the call before.
TEST_F(PoolLeftoversTest, NoCallMeetsAChildOfAnother) {
    int wrong = 0;
    for (int round = 0; round < 60; ++round) {
        ASSERT_GT(pool_.call([] { return spawn("exit 0"); }).value(), 0);
        tests::sleep_ms(round % 4);
        wrong += pool_.call(child_that_is_there).value();
    }
    EXPECT_EQ(wrong, 0);
}

TEST_F(PoolLeftoversTest, ChildrenThatWereWaitedForCostNoWorker) {
    const pid_t worker = pool_.call(::getpid).value();
    const auto wait_for_one = [] {
        int status = 0;
        ::waitpid(spawn("exit 7"), &status, 0);
        return WEXITSTATUS(status);
    };
    EXPECT_EQ(pool_.call(wait_for_one).value(), 7);
    EXPECT_EQ(pool_.call([] { return procrun::fork_call([] { return 3; }).value(); }).value(), 3);
    EXPECT_EQ(pool_.call(::getpid).value(), worker);
}

// ---- threads that the kernel knows and libc does not

constexpr std::size_t kStackBytes = std::size_t{64} << 10;

/// Writes to its argument for ever, without the thread data of libc.
int write_for_ever(void* at) {
    auto* const word = static_cast<volatile long*>(at);
    while (true) *word = *word + 1;
}

int start_bare_thread(void* at) {
    void* const stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    constexpr int kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    return ::clone(write_for_ever, static_cast<char*>(stack) + kStackBytes, kThread, at);
}

/// Starts a process that shares its parent's memory as a thread does, but has a pid and a parent of its own.
int start_sharing_process(void* at) {
    void* const stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ::clone(write_for_ever, static_cast<char*>(stack) + kStackBytes, CLONE_VM | SIGCHLD, at);
}

template <int (*Start)(void*)>
void leave_writing(std::span<long> values) {
    if (Start(values.data()) <= 0) std::abort();
    while (*static_cast<volatile long*>(values.data()) < 1000) continue;
}

template <int (*Start)(void*)>
void expect_no_write_after_the_reply(Pool& pool) {
    auto result = pool.apply(leave_writing<Start>, tests::counting_arena(2));
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    const vmcow::Arena back = std::move(result).value();
    const auto* const word = static_cast<const volatile long*>(tests::longs_in(back).data());
    const long seen = *word;
    tests::sleep_ms(5);
    EXPECT_EQ(*word, seen);
}

TEST_F(PoolLeftoversTest, BareThreadStopsWritingToAMovedArenaAtTheReply) {
    expect_no_write_after_the_reply<start_bare_thread>(pool_);
    expect_all_is_well();
    expect_no_write_after_the_reply<start_sharing_process>(pool_);
    expect_all_is_well();
}

// ---- how it is noticed

/// ThreadSanitizer's own thread does not count. Where unshare(2) is forbidden, the link count of a directory tells.
TEST(LeftBehindTest, ThreadsAndChildrenAreNoticedWhateverTells) {
    for (const bool forbidden : {false, true}) {
        const tests::ChildEnd end = tests::in_child([&] {
            if (forbidden && !tests::forbid_call(SYS_unshare, EPERM)) return tests::kNotHere;
            const procrun::detail::LeftBehind left;
            if (left.has_threads() || left.has_children()) return 1;
            long word = 0;
            const pid_t child = ::fork();
            if (child == 0) tests::hang();
            if (!left.has_children()) return 2;
            vmcow::sys::signal_process(child, SIGKILL);
            ::waitpid(child, nullptr, 0);
            if (left.has_threads() || left.has_children()) return 3;
            if (start_bare_thread(&word) <= 0) return 4;
            return left.has_threads() ? 0 : 5;
        });
        if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
        EXPECT_EQ(end, kChildExitedWell) << forbidden;
    }
}

TEST(LeftBehindTest, ThreadThatWasJoinedIsNotLeft) {
    EXPECT_EQ(tests::in_child([] {
                  const procrun::detail::LeftBehind left;
                  for (int round = 0; round < 200; ++round) {
                      std::thread([] {}).join();
                      if (left.has_threads()) return 1;
                  }
                  return 0;
              }),
              kChildExitedWell);
}

}  // namespace
