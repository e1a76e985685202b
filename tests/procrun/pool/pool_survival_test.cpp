// Workers that end at any step or fail in any way: the outcome names it, the caller's values are as before, the next
// call works, and nothing is left behind (I3, I4).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

class PoolSurvivalTest : public tests::SurvivalTest {};

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::CallStep;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::board;
using vmcow::Arena;
using vmcow::Snapshot;

// ---- ends of a function

void crash(int how) {
    if (how == SIGSEGV || how == SIGABRT) tests::set_action(how, SIG_DFL);
    if (how == SIGABRT) std::abort();
    ::raise(how);
}

/// Uses its frame after the recursive call, so that the compiler cannot make a loop of it.
std::uint64_t recurse_for_ever(std::uint64_t depth) {
    std::array<volatile std::uint64_t, 512> frame{};
    if (depth == ~std::uint64_t{0}) return 0;
    frame[depth % 512] = depth;
    return recurse_for_ever(depth + 1) + frame[(depth + 1) % 512];
}

void overflow_stack() {
    tests::set_action(SIGSEGV, SIG_DFL);
    board().runs.store(static_cast<int>(recurse_for_ever(0)));
}

TEST_F(PoolSurvivalTest, SignalsEndTheCallAlone) {
    for (const int number : {SIGSEGV, SIGABRT, SIGKILL, SIGTERM, SIGUSR1}) {
        const auto result = pool_.call(crash, number);
        EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled);
        EXPECT_EQ(result.outcome().code, number);
        EXPECT_EQ(result.outcome().text, "in the function");
        EXPECT_FALSE(result.cost().copied.has_value()) << "a process that has ended cannot be counted";
        expect_all_is_well();
    }
}

TEST_F(PoolSurvivalTest, StackOverflowIsASignal) {
    const auto result = pool_.call(overflow_stack);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled);
    EXPECT_EQ(result.outcome().code, SIGSEGV);
    expect_all_is_well();
}

TEST_F(PoolSurvivalTest, CrashAfterWritesLeavesTheValuesAsTheyWere) {
    const auto write_and_die = [](std::span<long> snapshot, std::span<long> arena) {
        for (long& value : snapshot) value = -1;
        for (long& value : arena) value = -1;
        ::raise(SIGKILL);
    };
    for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(pool_.call(write_and_die, image_, arena_).outcome().code, SIGKILL);
        EXPECT_EQ(pool_.apply(write_and_die, image_, image_).outcome().code, SIGKILL);
        expect_all_is_well();
    }
}

TEST_F(PoolSurvivalTest, ExitIsAnOutcomeWithItsStatus) {
    const auto quick = pool_.call([] { ::_exit(3); });
    EXPECT_EQ(quick.outcome().kind, OutcomeKind::exited);
    EXPECT_EQ(quick.outcome().code, 3);
    const auto zero = pool_.call([] { ::_exit(0); });
    EXPECT_EQ(zero.outcome().kind, OutcomeKind::exited);
    EXPECT_FALSE(zero.ok());
    const auto with_handlers = pool_.call([] { std::exit(4); });
    EXPECT_EQ(with_handlers.outcome().kind, OutcomeKind::exited);
    EXPECT_EQ(with_handlers.outcome().code, 4);
    expect_all_is_well();
}

TEST_F(PoolSurvivalTest, HangEndsAtTheDeadline) {
    const auto hang_stubbornly = [](std::span<long> values) {
        for (int number = 1; number < 32; ++number) ::signal(number, SIG_IGN);
        values[0] = -1;
        return tests::hang();
    };
    const auto soon = [] { return CallOptions{.deadline = Deadline::in(30ms)}; };
    ASSERT_TRUE(pool_.call(tests::answer).ok());  // the time to fork a worker counts, too
    const auto result = pool_.call(soon(), hang_stubbornly, image_);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(result.outcome().code, SIGKILL);
    expect_all_is_well();
    auto future = pool_.async(soon(), hang_stubbornly, image_);
    EXPECT_EQ(future.get().outcome().kind, OutcomeKind::deadline_passed);
    const auto stopped = pool_.call(soon(), [] { ::raise(SIGSTOP); });
    EXPECT_EQ(stopped.outcome().kind, OutcomeKind::deadline_passed);
    expect_all_is_well();
}

TEST_F(PoolSurvivalTest, ThrowingAnythingIsAnOutcome) {
    struct Unknown {
        int value;
    };
    const auto result = pool_.call([] { throw Unknown{3}; });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_NE(result.outcome().text, "");
    expect_all_is_well();
    EXPECT_EQ(pool_.status().workers, 1U);
    const auto from_noexcept = pool_.call([]() noexcept {
        tests::set_action(SIGABRT, SIG_DFL);
        std::terminate();
    });
    EXPECT_EQ(from_noexcept.outcome().code, SIGABRT);
    expect_all_is_well();
}

// ---- killed at every step

enum class Way { by_value, apply, moved };

procrun::Outcome run_way(Pool& pool, Way way, const Snapshot& image, const Arena& arena) {
    const auto work = [](std::span<long> values, std::span<const long> other, std::string text) {
        tests::add_to_pages(values, 4, other[1] + static_cast<long>(text.size()));
    };
    if (way == Way::by_value) return pool.call(work, image, arena, "text").outcome();
    if (way == Way::apply) {
        const auto result = pool.apply(work, image, arena, "text");
        if (result.ok()) {
            EXPECT_EQ(tests::longs_in(result.value())[0], 5);
        }
        return result.outcome();
    }
    const auto result = pool.apply(work, tests::counting_arena(8), arena, "text");
    if (result.ok()) {
        EXPECT_EQ(tests::longs_in(result.value())[0], 5);
    }
    return result.outcome();
}

void expect_killed_at(Way way, CallStep step, const procrun::Outcome& outcome) {
    const std::string at = std::to_string(static_cast<int>(way)) + " " + procrun::describe(step);
    if (step >= CallStep::replied) {  // for `idle`: it dies before it has seen the call, or after the end
        EXPECT_EQ(outcome.kind, OutcomeKind::returned) << at << ": " << outcome.describe();
        return;
    }
    EXPECT_EQ(outcome.kind, OutcomeKind::signaled) << at;
    EXPECT_EQ(outcome.code, SIGKILL) << at;
    const std::string text = procrun::describe(step);
    EXPECT_EQ(outcome.text, way == Way::moved ? text + "; the moved value is gone" : text) << at;
}

TEST_F(PoolSurvivalTest, DeathAtEachStepIsAnOutcomeThatNamesTheStep) {
    for (const Way way : {Way::by_value, Way::apply, Way::moved}) {
        board().steps.store(0);
        ASSERT_EQ(run_way(pool_, way, image_, arena_).kind, OutcomeKind::returned);
        ASSERT_EQ(run_way(pool_, way, image_, arena_).kind, OutcomeKind::returned);
        ASSERT_TRUE(tests::eventually([] { return (board().steps.load() >> int(CallStep::idle) & 1U) != 0; }));
        const std::uint32_t taken = board().steps.load();
        for (int step = static_cast<int>(CallStep::received); step <= static_cast<int>(CallStep::idle); ++step) {
            if ((taken >> step & 1U) == 0) continue;
            for (const bool warm : {false, true}) {
                pool_.trim();
                if (warm) {
                    static_cast<void>(run_way(pool_, way, image_, arena_));
                    tests::sleep_ms(2);  // the worker is idle by then, so that only a later call takes it to this step
                }
                board().fatal_step.store(step);
                expect_killed_at(way, static_cast<CallStep>(step), run_way(pool_, way, image_, arena_));
                board().fatal_step.store(-1);
                expect_all_is_well();
            }
        }
        const auto all_of = {CallStep::received, CallStep::mapping, CallStep::mapped,   CallStep::reading,
                             CallStep::running,  CallStep::ran,     CallStep::replying, CallStep::replied};
        for (const CallStep step : all_of) EXPECT_NE(taken >> static_cast<int>(step) & 1U, 0U) << describe(step);
        EXPECT_EQ(way == Way::apply, (taken >> static_cast<int>(CallStep::writing_out) & 1U) != 0);
    }
}

// A worker that dies after its reply must not be chosen for the next call.
TEST_F(PoolSurvivalTest, DeathBetweenCallsIsNotNoticedByTheNextOne) {
    for (int round = 0; round < 5; ++round) {
        expect_all_is_well();
        const auto pids = pool_.status().idle_pids;
        ASSERT_EQ(pids.size(), 1U);
        ASSERT_EQ(vmcow::sys::try_signal_process(pids[0], SIGKILL), 0);
        if (round % 2 == 0) {
            EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(pids[0]); }));
        }
        const auto result = pool_.call(tests::sum_and_add, image_, std::size_t{1}, 1L);
        EXPECT_TRUE(result.ok()) << result.outcome().describe();
        Arena moved = tests::counting_arena(2);
        moved = pool_.apply(tests::add_to_pages, std::move(moved), std::size_t{1}, 1L).value();
        vmcow::sys::signal_process(pool_.status().idle_pids[0], SIGKILL);
        moved = pool_.apply(tests::add_to_pages, std::move(moved), std::size_t{1}, 1L).value();
        EXPECT_EQ(tests::longs_in(moved)[0], 2);
    }
}

// The call is run once or not at all: a worker that has begun the call is never replaced silently.
TEST_F(PoolSurvivalTest, FunctionIsNotRunTwice) {
    const auto count_and_die = [] {
        board().runs.fetch_add(1);
        ::raise(SIGKILL);
    };
    for (int round = 1; round <= 5; ++round) {
        EXPECT_EQ(pool_.call(count_and_die).outcome().code, SIGKILL);
        EXPECT_EQ(board().runs.load(), round);
    }
    expect_all_is_well();
}

// ---- what a function leaves behind

TEST_F(PoolSurvivalTest, ForkedChildEndsWithItsWorker) {
    // The child has no image, because images are kept out of what a worker forks.
    const auto fork_and_return = [](std::span<long> values) {
        const pid_t child = ::fork();
        if (child == 0) tests::hang();
        values[0] = -7;
        board().pids[0].store(::getpid());
        return child;
    };
    const auto of_snapshot = pool_.call(fork_and_return, image_);
    ASSERT_TRUE(of_snapshot.ok()) << of_snapshot.outcome().describe();
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(of_snapshot.value()); }));
    EXPECT_FALSE(tests::is_running(board().pids[0].load())) << "one that has children left takes no other call";
    const auto of_arena = pool_.apply(fork_and_return, tests::counting_arena(4));
    ASSERT_TRUE(of_arena.ok()) << of_arena.outcome().describe();
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(of_arena.value().second); }));
    expect_all_is_well();
}

TEST_F(PoolSurvivalTest, ChildThatHasEndedCostsNothing) {
    const auto fork_and_wait = [] {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(5);
        int status = 0;
        ::waitpid(child, &status, 0);
        return WEXITSTATUS(status);
    };
    EXPECT_EQ(pool_.call(fork_and_wait).value(), 5);
    EXPECT_EQ(pool_.status().workers, 1U);
    // The child runs on while its parent returns, and then leaves through the end of main.
    const auto fork_and_part = [] { return ::fork() == 0 ? 1 : 0; };
    const auto result = pool_.call(fork_and_part);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::returned);
    expect_all_is_well();
}

TEST_F(PoolSurvivalTest, ThreadsThatAreLeftBehindEndWithTheWorker) {
    const auto leave_thread = [] {
        std::thread([] { tests::hang(); }).detach();
        return ::getpid();
    };
    const auto result = pool_.call(leave_thread);
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(result.value()); }));
    expect_all_is_well();
    // A joined thread is no reason to end the worker.
    EXPECT_TRUE(pool_.call([] { std::thread([] {}).join(); }).ok());
    expect_all_is_well();
}

// A thread goes on writing to the moved arena. When the owner has the arena back, no process may write to it.
TEST_F(PoolSurvivalTest, ThreadStopsWritingToAMovedArenaAtTheReply) {
    const auto leave_writer = [](std::span<long> values) {
        std::thread([values] {
            for (volatile long& value = values[0];;) value = value + 1;
        }).detach();
        while (*static_cast<volatile long*>(&values[0]) < 1000) continue;
    };
    for (int round = 0; round < 3; ++round) {
        auto result = pool_.apply(leave_writer, tests::counting_arena(2));
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        Arena back = std::move(result).value();
        const long seen = *static_cast<const volatile long*>(tests::longs_in(back).data());
        EXPECT_GE(seen, 1000);
        tests::sleep_ms(5);
        EXPECT_EQ(*static_cast<const volatile long*>(tests::longs_in(back).data()), seen);
        EXPECT_EQ(tests::longs_in(std::move(back).freeze())[0], seen);
    }
    expect_all_is_well();
}

// ---- output

/// Replaces the standard output by one that cannot be written to, and prints `bytes` bytes.
void print_in_vain(bool to_full_disk, std::size_t bytes) {
    if (to_full_disk) {
        const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
        ::dup2(full, STDOUT_FILENO);
        ::close(full);
    } else {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
        ::dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
    }
    std::cout << std::string(bytes, 'x');
}

// A few bytes, which are written at the end of the call, and more than a buffer holds.
TEST_F(PoolSurvivalTest, OutputThatCannotBeWrittenIsTheCallsError) {
    for (const bool to_full_disk : {true, false}) {
        for (const std::size_t bytes : {std::size_t{10}, std::size_t{100'000}}) {
            const procrun::Outcome outcome = pool_.call(print_in_vain, to_full_disk, bytes).outcome();
            if (to_full_disk) {
                EXPECT_EQ(outcome.kind, OutcomeKind::threw) << bytes << ": " << outcome.describe();
                EXPECT_NE(outcome.text.find("printed"), std::string::npos) << outcome.text;
            } else {  // SIGPIPE ends the worker, as it would end any process
                EXPECT_EQ(outcome.kind, OutcomeKind::signaled) << bytes << ": " << outcome.describe();
                EXPECT_EQ(outcome.code, SIGPIPE);
            }
            expect_all_is_well();
            // The failed output must not silence later calls of the worker.
            EXPECT_TRUE(pool_.call([] { return std::cout.good() && std::ferror(stdout) == 0; }).value());
            pool_.trim();
        }
    }
}

}  // namespace
