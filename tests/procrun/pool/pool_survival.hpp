#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace tests {

/// What functions and the tests tell each other. One for the whole program, so that a plain function can reach it.
struct Board {
    std::atomic<int> fatal_step{-1};      ///< the worker is killed at this step, once
    std::atomic<std::uint32_t> steps{0};  ///< the steps that were taken, as bits
    std::atomic<int> runs{0};             ///< how often a function has run
    std::array<std::atomic<pid_t>, 8> pids{};
    std::atomic<bool> go_on{false};
};

/// Made before the first pool, so that all workers share it.
inline const Shared<Board> kBoard;
[[nodiscard]] inline Board& board() { return *kBoard; }

inline void report_or_die(procrun::CallStep step) {
    board().steps.fetch_or(1U << static_cast<unsigned>(step));
    int fatal = static_cast<int>(step);
    if (board().fatal_step.compare_exchange_strong(fatal, -1)) vmcow::sys::signal_process(::getpid(), SIGKILL);
}

/// A pool of one worker, and values that no call may change.
class SurvivalTest : public testing::Test {
protected:
    SurvivalTest() {
        Board& fresh = board();
        fresh.fatal_step.store(-1);
        fresh.steps.store(0);
        fresh.runs.store(0);
        fresh.go_on.store(false);
        for (auto& pid : fresh.pids) pid.store(0);
    }

    /// Checks that the values are unchanged and that calls of all kinds work.
    void expect_all_is_well() {
        EXPECT_TRUE(is_counting(longs_in(image_)));
        EXPECT_TRUE(is_counting(longs_in(arena_)));
        const auto null = pool_.call(answer);
        EXPECT_TRUE(null.ok()) << null.outcome().describe();
        for (int round = 0; round < 2; ++round) {
            const auto by_value = pool_.call(sum_and_add, image_, std::size_t{4}, 3L);
            ASSERT_TRUE(by_value.ok()) << by_value.outcome().describe();
            EXPECT_EQ(by_value.value(), 512 + 1024 + 1536);
        }
        const auto lent = pool_.call(sum, arena_);
        ASSERT_TRUE(lent.ok()) << lent.outcome().describe();
        EXPECT_EQ(lent.value(), sum(longs_in(arena_)));
        const auto applied = pool_.apply(add_to_pages, image_, std::size_t{2}, 7L);
        ASSERT_TRUE(applied.ok()) << applied.outcome().describe();
        EXPECT_EQ(longs_in(applied.value())[0], 7);
        const auto moved = pool_.apply(add_to_pages, counting_arena(2), std::size_t{2}, 7L);
        ASSERT_TRUE(moved.ok()) << moved.outcome().describe();
        EXPECT_EQ(longs_in(moved.value())[0], 7);
        EXPECT_TRUE(is_counting(longs_in(image_)));
    }

    procrun::Pool pool_{procrun::PoolOptions{.workers = 1, .at_step = report_or_die}};
    vmcow::Snapshot image_ = counting_snapshot(8);
    vmcow::Arena arena_ = counting_arena(8);
};

}  // namespace tests
