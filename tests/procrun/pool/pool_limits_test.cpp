// Limits of a call in a pool, and what its outcome says when it exceeds one.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallLimits;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using procrun::PoolOptions;
using vmcow::Arena;
using vmcow::PageCount;
using vmcow::Snapshot;

CallOptions within(const CallLimits& limits) { return {.deadline = Deadline::in(60s), .limits = limits}; }

/// Runs every call of a test on one worker, whose limits are polled.
class PoolLimitsTest : public testing::Test {
protected:
    template <class Result>
    static void expect_exceeded(const Result& result, const std::string& what) {
        EXPECT_FALSE(result.ok());
        EXPECT_EQ(result.outcome().kind, OutcomeKind::limit_exceeded) << result.outcome().describe();
        EXPECT_NE(result.outcome().text.find(what), std::string::npos) << result.outcome().text;
    }
    void expect_calls_work() {
        const auto limited = pool_.call(within({.processor_time = 30s,
                                                .copied_pages = PageCount{1000},
                                                .open_files = 100,
                                                .memory_bytes = std::uint64_t{1} << 30}),
                                        tests::sum_and_add, image_, std::size_t{4}, 1L);
        EXPECT_TRUE(limited.ok()) << limited.outcome().describe();
        EXPECT_EQ(limited.cost().unwatched, "");
        const auto unlimited = pool_.call(tests::sum_and_add, image_, std::size_t{4}, 1L);
        EXPECT_TRUE(unlimited.ok()) << unlimited.outcome().describe();
        EXPECT_FALSE(unlimited.cost().memory_limit_by.has_value());
        EXPECT_TRUE(tests::is_counting(tests::longs_in(image_)));
    }

    Pool pool_{PoolOptions{.workers = 1, .copy_costs = vmcow::CopyCosts{}, .use_cgroup = false}};
    Snapshot image_ = tests::counting_snapshot(64);
};

// ---- processor time

void burn() {
    volatile long turns = 0;
    while (true) turns = turns + 1;
}

long used_ms() {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000 + used.tv_nsec / 1'000'000;
}

/// Uses `ms` of processor time and returns.
long burn_ms(long ms) {
    const long start = used_ms();
    while (used_ms() < start + ms) continue;
    return ms;
}

TEST_F(PoolLimitsTest, ProcessorTimeIsLimited) {
    for (int round = 0; round < 2; ++round) {
        const auto result = pool_.call(within({.processor_time = 30ms}), burn);
        expect_exceeded(result, "processor time");
        EXPECT_NE(result.outcome().text.find("of at most 30"), std::string::npos) << result.outcome().text;
        expect_calls_work();
        auto future = pool_.async(within({.processor_time = 30ms}), burn);
        expect_exceeded(future.get(), "processor time");
        expect_calls_work();
    }
}

// The processor time of earlier calls on the worker does not count, and a sleeping call uses none.
TEST_F(PoolLimitsTest, ProcessorTimeIsTheCallsOwn) {
    EXPECT_EQ(pool_.call(burn_ms, 300L).value(), 300);
    const auto result = pool_.call(within({.processor_time = 200ms}), [] { tests::sleep_ms(300); });
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
}

// A call that ends between two polls of its caller is judged by its total.
TEST_F(PoolLimitsTest, ProcessorTimeIsExactAtTheEnd) {
    expect_exceeded(pool_.call(within({.processor_time = 1ns}), burn_ms, 1L), "processor time");
    expect_calls_work();
}

// ---- copied pages

TEST_F(PoolLimitsTest, CopiedPagesAreLimited) {
    const Snapshot large = tests::counting_snapshot(10'000);
    const auto write_all_and_stay = [](std::span<long> values, bool stay) {
        tests::add_to_pages(values, 10'000, 1);
        while (stay) tests::sleep_ms(100);
    };
    for (const bool stay : {true, false}) {
        const auto result = pool_.call(within({.copied_pages = PageCount{100}}), write_all_and_stay, large, stay);
        expect_exceeded(result, "copied pages");
        EXPECT_NE(result.outcome().text.find("of at most 100"), std::string::npos) << result.outcome().text;
        const auto applied = pool_.apply(within({.copied_pages = PageCount{100}}), write_all_and_stay, large, stay);
        expect_exceeded(applied, "copied pages");
        EXPECT_TRUE(tests::is_counting(tests::longs_in(large)));
        expect_calls_work();
    }
    const auto allowed = pool_.call(within({.copied_pages = PageCount{10'000}}), write_all_and_stay, large, false);
    EXPECT_TRUE(allowed.ok()) << allowed.outcome().describe();
}

TEST_F(PoolLimitsTest, CopiedPagesAreExactAtTheEnd) {
    const auto call = [&](std::size_t written, std::uint64_t limit) {
        pool_.trim();  // pages that a worker keeps are not copied again
        return pool_.call(within({.copied_pages = PageCount{limit}}), tests::sum_and_add, image_, written, 1L);
    };
    EXPECT_TRUE(call(10, 10).ok());
    expect_exceeded(call(11, 10), "copied pages: 11 of at most 10");
    EXPECT_TRUE(call(0, 0).ok());
    expect_exceeded(call(1, 0), "copied pages: 1 of at most 0");
    expect_calls_work();
}

// Pages that earlier calls have left with the worker need no copy.
TEST_F(PoolLimitsTest, ResidentPagesAreNotCopiedAgain) {
    EXPECT_TRUE(pool_.call(tests::sum_and_add, image_, std::size_t{10}, 1L).ok());
    const auto result =
        pool_.call(within({.copied_pages = PageCount{0}}), tests::sum_and_add, image_, std::size_t{10}, 1L);
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(result.cost().refreshed->value, 10U);
}

// ---- open files

void open_files(std::uint32_t count) {
    std::vector<vmcow::sys::UniqueFd> files;
    for (std::uint32_t i = 0; i < count; ++i) {
        files.push_back(vmcow::sys::open_file("/dev/null", O_RDONLY));
    }
}

TEST_F(PoolLimitsTest, OpenFilesAreLimited) {
    for (int round = 0; round < 3; ++round) {
        const auto result = pool_.call(within({.open_files = 8}), open_files, 9U);
        expect_exceeded(result, "open files: at most 8");
        EXPECT_EQ(result.outcome().code, EMFILE);
        EXPECT_TRUE(pool_.call(within({.open_files = 8}), open_files, 8U).ok());
        EXPECT_TRUE(pool_.call(within({.open_files = 0}), open_files, 0U).ok());
        EXPECT_TRUE(pool_.call(open_files, 100U).ok()) << "the limit ends with its call";
        EXPECT_EQ(pool_.status().workers, 1U);
        expect_calls_work();
    }
}

// The limit counts what the function opens. A worker opens files itself to learn a new image or to send a long result.
TEST_F(PoolLimitsTest, OpenFilesOfTheWorkerItselfAreNotCounted) {
    const auto work = [](std::span<const long> values, std::vector<char> bytes) {
        bytes.push_back(static_cast<char>(values[1]));
        return bytes;
    };
    for (int round = 0; round < 3; ++round) {
        const auto result =
            pool_.call(within({.open_files = 0}), work, tests::counting_snapshot(2), std::vector<char>(100'000, 'x'));
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.value().size(), 100'001U);
    }
}

// ---- memory

/// Allocates and touches memory, and keeps it if `stay`, so that the caller sees it.
void take_memory(std::size_t bytes, bool stay) {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(at, 1, bytes);
    while (stay) tests::sleep_ms(10);
    ::munmap(at, bytes);
}

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST_F(PoolLimitsTest, MemoryIsLimitedByPolling) {
    const CallOptions little = within({.memory_bytes = 16 * kMiB});
    for (int round = 0; round < 2; ++round) {
        const auto result = pool_.call(little, take_memory, 64 * kMiB, true);
        expect_exceeded(result, "memory");
        EXPECT_NE(result.outcome().text.find("of at most 16.0"), std::string::npos) << result.outcome().text;
        EXPECT_NE(result.outcome().text.find("(polled)"), std::string::npos) << result.outcome().text;
        EXPECT_EQ(result.cost().memory_limit_by, procrun::MemoryLimitBy::polling);
        const auto allowed = pool_.call(little, take_memory, 4 * kMiB, false);
        EXPECT_TRUE(allowed.ok()) << allowed.outcome().describe();
        EXPECT_EQ(allowed.cost().memory_limit_by, procrun::MemoryLimitBy::polling);
        expect_calls_work();
    }
    // Memory that the worker kept from earlier calls does not count.
    EXPECT_TRUE(pool_.call([] { static std::vector<char> kept(32 * kMiB, 'x'); }).ok());
    const auto result = pool_.call(little, take_memory, 4 * kMiB, false);
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
}

// Where a cgroup is delegated the kernel ends the call, otherwise its caller does: the outcome says which.
TEST_F(PoolLimitsTest, MemoryLimitSaysWhoHasWatchedIt) {
    Pool pool(tests::workers(1));
    const CallOptions little = within({.memory_bytes = 16 * kMiB});
    const auto result = pool.call(little, take_memory, 64 * kMiB, true);
    expect_exceeded(result, "memory");
    ASSERT_TRUE(result.cost().memory_limit_by.has_value());
    const bool by_cgroup = *result.cost().memory_limit_by == procrun::MemoryLimitBy::cgroup;
    EXPECT_NE(result.outcome().text.find(by_cgroup ? "(cgroup)" : "(polled)"), std::string::npos)
        << result.outcome().text;
    EXPECT_TRUE(pool.call(take_memory, 64 * kMiB, false).ok()) << "the next call has no limit";
}

// ---- deadline

TEST_F(PoolLimitsTest, DeadlinePassesInTheQueueAsWell) {
    const tests::Shared<std::atomic<bool>> go_on;
    Pool pool(tests::workers(1));
    auto running = pool.async(procrun::by_bytes([flag = go_on.get()] {
        while (!flag->load()) tests::sleep_ms(1);
    }));
    const auto late = pool.call(CallOptions{.deadline = Deadline::in(10ms)}, tests::answer);
    EXPECT_EQ(late.outcome().kind, OutcomeKind::deadline_passed);
    EXPECT_NE(late.outcome().describe(), "");
    go_on->store(true);
    EXPECT_TRUE(running.get().ok());
    EXPECT_TRUE(pool.call(CallOptions{.deadline = Deadline::in(60s)}, tests::answer).ok());
}

TEST_F(PoolLimitsTest, MovedArenaOfACallBeyondItsLimitIsGone) {
    const auto work = [](std::span<long> values) {
        values[0] = 1;
        burn();
    };
    const auto result = pool_.apply(within({.processor_time = 10ms}), work, tests::counting_arena(2));
    expect_exceeded(result, "processor time");
    EXPECT_NE(result.outcome().text.find("the moved value is gone"), std::string::npos) << result.outcome().text;
    expect_calls_work();
}

}  // namespace
