// Calls within calls: a function passes its arguments by value to further functions, at any depth.
#include <gtest/gtest.h>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pass_on.hpp"
#include "procrun/pool.hpp"
#include "procrun/worker/static_wait.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"
#include "vmcow/view.hpp"

namespace {

using procrun::fork_call;
using procrun::Pool;
using vmcow::Arena;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::Snapshot;
using vmcow::Value;
using vmcow::View;

constexpr int kDepth = 10;
constexpr std::size_t kPages = 64;
constexpr std::size_t kLongs = kPageBytes / sizeof(long);

/// The page copies of each level, the outermost first; -1 where a level has failed.
using Copied = std::vector<std::int64_t>;

/// Writes to page `level` of `pages`, and lets a function process do the same one level deeper.
Copied write_level_by_level(std::span<long> pages, int level, int depth) {
    auto result = fork_call([&] {
        pages[static_cast<std::size_t>(level) * kLongs] = level + 1;
        Copied deeper;
        if (level + 1 < depth) deeper = write_level_by_level(pages, level + 1, depth);
        // The writes of the levels above are visible here, those of the levels below are not.
        for (int each = 0; each < depth; ++each) {
            const long seen = pages[static_cast<std::size_t>(each) * kLongs];
            if (seen != (each <= level ? each + 1 : 0)) return Copied{-1};
        }
        return deeper;
    });
    if (!result.ok()) {
        ADD_FAILURE() << "level " << level << ": " << result.outcome().describe();
        return {-1};
    }
    Copied copied{static_cast<std::int64_t>(result.cost().copied.value_or(PageCount{999}).value)};
    const Copied deeper = std::move(result).value();
    copied.insert(copied.end(), deeper.begin(), deeper.end());
    return copied;
}

Arena zeroed_arena(std::size_t pages = kPages) {
    Arena arena({.name = "nested"});
    static_cast<void>(arena.allocate_array<long>(pages * kLongs));
    return arena;
}

std::span<long> longs_of(Arena& arena) {
    return {reinterpret_cast<long*>(arena.bytes().data()), arena.bytes().size() / sizeof(long)};
}

/// Each of the ten levels copies the one page that it writes, and copies no page again that a level above has written.
const Copied kOnePageALevel(kDepth, 1);

TEST(NestedForkCallTest, TenLevelsWriteToOneArena) {
    Arena arena = zeroed_arena();
    EXPECT_EQ(write_level_by_level(longs_of(arena), 0, kDepth), kOnePageALevel);
    EXPECT_EQ(longs_of(arena)[0], 0);
}

TEST(NestedForkCallTest, TenLevelsWriteToOneView) {
    View view = zeroed_arena().freeze().map_private();
    EXPECT_EQ(write_level_by_level(view.as<long>(), 0, kDepth), kOnePageALevel);
    EXPECT_EQ(view.as<long>()[0], 0);
}

TEST(NestedForkCallTest, TenLevelsWriteToOneValue) {
    Value<long[]> value(kPages * kLongs);
    value.edit([](std::span<long> pages) { EXPECT_EQ(write_level_by_level(pages, 0, kDepth), kOnePageALevel); });
    const Value<long[]> shared = value;
    value.edit([](std::span<long> pages) { EXPECT_EQ(write_level_by_level(pages, 0, kDepth), kOnePageALevel); });
    EXPECT_EQ(value.read()[0] + shared.read()[0], 0);
}

/// Returns how deep functions can nest that do nothing but call.
int depth_reached(int depth) {
    if (depth == 0) return 0;
    const auto result = fork_call([depth] { return depth_reached(depth - 1); });
    if (!result.ok()) ADD_FAILURE() << depth << " from the bottom: " << result.outcome().describe();
    return result.ok() ? result.value() + 1 : 0;
}

TEST(NestedForkCallTest, CallsNestBesideEverythingThatAProcessCanHaveMapped) {
    const Value<std::array<long, 3>> small(std::array<long, 3>{1, 2, 3});
    const Value<vmcow::vector<long>> object(vmcow::vector<long>{1, 2, 3});
    const Value<long[]> frozen(std::size_t{5000});
    const Value<long[]> other = frozen;
    Value<long[]> edited = frozen;
    edited.edit([](std::span<long> all) { all[4000] = 1; });
    const Snapshot stored = edited.snapshot();  // a delta in the page store
    const Value<long[]> part_of = frozen;
    const auto part = part_of.part(10, 2000);
    Arena empty;
    EXPECT_EQ(depth_reached(kDepth), kDepth);
    EXPECT_EQ(fork_call([&] {
                  return fork_call([&] { return small.read()[1] + object.read()[2] + edited.read()[4000]; }).value();
              }).value(),
              6);
}

class NestedPoolTest : public testing::Test {
protected:
    Pool pool_{tests::workers(1)};
};

// A function process does not have the channel of a pool's worker, but its addresses stay reserved at every depth.
TEST_F(NestedPoolTest, CallsNestBesideAPoolWithWorkers) {
    ASSERT_EQ(pool_.call([] { return 1; }).value(), 1);
    EXPECT_EQ(depth_reached(kDepth), kDepth);
    EXPECT_EQ(pool_.call([] { return 2; }).value(), 2);
}

TEST_F(NestedPoolTest, APoolsFunctionCallsAtAnyDepth) {
    EXPECT_EQ(pool_.call([] { return depth_reached(kDepth); }).value(), kDepth);
    EXPECT_EQ(pool_.call([] { return depth_reached(kDepth); }).value(), kDepth);
}

// ---- the argument is passed on

Copied pass_on(std::span<long> pages) {
    pages[kPages * kLongs - 1] = 7;  // passed on as a page, which the levels below do not copy
    return write_level_by_level(pages, 0, kDepth);
}

TEST_F(NestedPoolTest, AFunctionPassesASnapshotOn) {
    const Snapshot frozen = zeroed_arena().freeze();
    EXPECT_EQ(pool_.call(pass_on, frozen).value(), kOnePageALevel);
    EXPECT_EQ(pool_.call(pass_on, frozen).value(), kOnePageALevel);  // over pages that the worker has kept
}

TEST_F(NestedPoolTest, AFunctionPassesALentArenaOn) {
    Arena arena = zeroed_arena();
    EXPECT_EQ(pool_.call(pass_on, arena).value(), kOnePageALevel);
    longs_of(arena)[5] = 5;
    EXPECT_EQ(
        pool_.call([](std::span<long> pages) { return fork_call([&] { return pages[5]; }).value(); }, arena).value(),
        5);
    EXPECT_EQ(longs_of(arena)[0], 0);
}

TEST_F(NestedPoolTest, AFunctionPassesAMovedArenaOn) {
    Arena arena = zeroed_arena();
    auto applied = pool_.apply(pass_on, std::move(arena));
    ASSERT_TRUE(applied.ok()) << applied.outcome().describe();
    auto [changed, copied] = std::move(applied).value();
    EXPECT_EQ(copied, kOnePageALevel);
    EXPECT_EQ(longs_of(changed)[0], 0);  // the levels below had their own copies
    EXPECT_EQ(longs_of(changed)[kPages * kLongs - 1], 7);
    // Sealing succeeds only when no writable mapping is left.
    EXPECT_EQ(std::move(changed).freeze().page_count(), PageCount{kPages});
}

TEST_F(NestedPoolTest, AFunctionPassesOnWhatItCannotWriteTo) {
    const Snapshot frozen = tests::snapshot_of(tests::noise(kPages * kPageBytes));
    const auto sum = [](std::span<const unsigned char> bytes) {
        return fork_call(
                   [&] { return fork_call([&] { return std::accumulate(bytes.begin(), bytes.end(), 0L); }).value(); })
            .value();
    };
    const auto bytes = frozen.bytes();
    long expected = 0;
    for (const std::byte each : bytes) expected += std::to_integer<long>(each);
    EXPECT_EQ(pool_.call(sum, frozen).value(), expected);
    View view(frozen);
    tests::write_pages(view, {3, 9});
    const Snapshot layered = view.capture();
    EXPECT_EQ(pool_.call(sum, layered).ok(), true);
}

// The receiver of a part, and the functions that it calls, must not see what else lies on the pages of the part.
TEST_F(NestedPoolTest, AFunctionPassesAPartOnWithoutItsNeighbours) {
    Value<long[]> value(kPages * kLongs);
    value.edit([](std::span<long> all) { std::iota(all.begin(), all.end(), 1L); });
    const auto around = [](std::span<const long> part) {
        return fork_call([&] { return std::make_pair(part[0], *(part.data() - 1) + part.data()[part.size()]); })
            .value();
    };
    const std::size_t first = 10;
    const std::size_t count = 20 * kLongs;
    EXPECT_EQ(pool_.call(around, value.part(first, count)).value(), std::make_pair(11L, 0L));
}

struct Document {
    vmcow::vector<long> numbers;
    vmcow::string title;
};

// An object with containers is passed on as it is, and may grow in the receiver.
std::pair<long, long> push_below(Document& document) {
    document.numbers.push_back(4);
    const long below = fork_call([&] {
                           for (int i = 0; i < 100'000; ++i) document.numbers.push_back(1);
                           document.title += ", changed below";
                           return fork_call([&] {
                                      document.numbers.push_back(1);
                                      return std::accumulate(document.numbers.begin(), document.numbers.end(), 0L);
                                  })
                               .value();
                       }).value();
    return {below, std::accumulate(document.numbers.begin(), document.numbers.end(), 0L)};
}

TEST_F(NestedPoolTest, AFunctionPassesAnObjectWithContainersOn) {
    Value<Document> value;
    value.edit([](Document& document) { document.numbers = {1, 2, 3}; });
    const std::pair<long, long> expected{10 + 100'001, 10};
    EXPECT_EQ(pool_.call(push_below, value).value(), expected);
    const Value<Document> shared = value;  // now a snapshot
    EXPECT_EQ(pool_.call(push_below, shared).value(), expected);
    auto [applied, sums] = pool_.apply(push_below, shared).value();
    EXPECT_EQ(sums, expected);
    EXPECT_EQ(applied.read().numbers.size(), 4U);
    EXPECT_EQ(applied.read().title, "");
    EXPECT_EQ(value.read().numbers.size(), 3U);
}

// A child that a function forks by itself has no images, but their addresses stay free in it.
TEST_F(NestedPoolTest, AFailureBelowIsAnOutcomeAndNothingElse) {
    const Snapshot frozen = zeroed_arena().freeze();
    const auto fail_below = [](std::span<long> pages) {
        pages[0] = 1;
        const auto result = fork_call([&] {
            pages[0] = 2;
            std::raise(SIGKILL);
        });
        return std::make_pair(static_cast<int>(result.outcome().code), pages[0]);
    };
    for (int i = 0; i < 3; ++i) EXPECT_EQ(pool_.call(fail_below, frozen).value(), std::make_pair(SIGKILL, 1L));
}

// ---- pools within functions

/// Writes to page `level`, and passes the pages on to a pool that this function makes, `deeper` times.
Copied write_in_pools(std::span<long> pages, int level, int depth) {
    pages[static_cast<std::size_t>(level) * kLongs] = level + 1;
    for (int each = 0; each < depth; ++each) {
        const long seen = pages[static_cast<std::size_t>(each) * kLongs];
        if (seen != (each <= level ? each + 1 : 0)) return {-1};
    }
    if (level + 1 == depth) return {};
    Pool below{tests::workers(1)};
    auto result = below.call(write_in_pools, pages, level + 1, depth);
    if (!result.ok()) {
        std::fprintf(stderr, "level %d: %s\n", level, result.outcome().describe().c_str());
        return {-2};
    }
    Copied copied{static_cast<std::int64_t>(result.cost().copied.value_or(PageCount{999}).value)};
    const Copied deeper = std::move(result).value();
    copied.insert(copied.end(), deeper.begin(), deeper.end());
    if (pages[static_cast<std::size_t>(level + 1) * kLongs] != 0) return {-3};  // the argument was passed on as a copy
    return copied;
}

/// The result of three levels of pools: each level copies the page that it writes.
const Copied kThreeLevels{1, 1};

TEST_F(NestedPoolTest, AFunctionPassesItsArgumentOnToPoolsOfItsOwn) {
    const Snapshot frozen = zeroed_arena().freeze();
    EXPECT_EQ(pool_.call(write_in_pools, frozen, 0, 3).value(), kThreeLevels);
    Arena arena = zeroed_arena();
    EXPECT_EQ(pool_.call(write_in_pools, arena, 0, 3).value(), kThreeLevels);
    EXPECT_EQ(longs_of(arena)[0], 0);
    Value<long[]> value(kPages * kLongs);
    EXPECT_EQ(pool_.call(write_in_pools, value, 0, 3).value(), kThreeLevels);
    auto [moved, copied] = pool_.apply(write_in_pools, std::move(arena), 0, 3).value();
    EXPECT_EQ(copied, kThreeLevels);
    EXPECT_EQ(longs_of(moved)[0], 1);
    EXPECT_EQ(longs_of(moved)[kLongs], 0);
}

std::pair<long, std::size_t> push_in_pool(Document& document, int depth) {
    document.numbers.push_back(depth);
    if (depth == 0) {
        return {std::accumulate(document.numbers.begin(), document.numbers.end(), 0L), document.numbers.size()};
    }
    Pool below{tests::workers(1)};
    const auto sum = below.call(push_in_pool, procrun::pass_on(document), depth - 1).value();
    return {sum.first, sum.second + document.numbers.size()};
}

TEST_F(NestedPoolTest, AFunctionPassesAnObjectWithContainersOnToPoolsOfItsOwn) {
    Value<Document> value;
    value.edit([](Document& document) { document.numbers = {10, 20}; });
    const std::pair<long, std::size_t> expected{30 + 2 + 1, 5 + 4 + 3};
    EXPECT_EQ(pool_.call(push_in_pool, value, 2).value(), expected);
    const Value<Document> shared = value;
    EXPECT_EQ(pool_.call(push_in_pool, shared, 2).value(), expected);
    EXPECT_EQ(value.read().numbers.size(), 2U);
}

long sum_of(std::span<const long> values) { return std::accumulate(values.begin(), values.end(), 0L); }

TEST_F(NestedPoolTest, WhatLiesInNoImageIsCopiedAndPartsAreParts) {
    const std::vector<long> plain{1, 2, 3};
    EXPECT_EQ(pool_.call(sum_of, procrun::pass_on(std::span(plain))).value(), 6);
    EXPECT_EQ(pool_.call(sum_of, std::span(plain)).value(), 6);
    EXPECT_EQ(pool_.async(sum_of, std::span<const long>(plain)).get().value(), 6);
    EXPECT_EQ(pool_.call(sum_of, std::span<long>()).value(), 0);
    EXPECT_EQ(pool_.call(sum_of, procrun::pass_on(std::span<const long>())).value(), 0);
    View view = tests::counting_snapshot(kPages).map_private();
    const std::span<long> all = view.as<long>();
    all[5000] += 1;
    EXPECT_EQ(pool_.call(sum_of, procrun::pass_on(all.subspan(4999, 3))).value(), 3 * 5000 + 1);
    EXPECT_EQ(pool_.call(sum_of, procrun::pass_on(all)).value(), sum_of(all));
    EXPECT_EQ(pool_.async(sum_of, procrun::pass_on(all)).get().value(), sum_of(all));
}

using Numbers = vmcow::vector<long>;

void set_second(std::span<long> all) { all[1] = 20; }
void push_one(Numbers& numbers) { numbers.push_back(1); }
long sum_of_numbers(const Numbers& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0L); }

// A function process has its caller's images as private copies over their files. What it has changed there must go to
// its own pools too, of whatever size the image is and however it is given.
TEST(NestedForkCallTest, APoolOfAFunctionProcessIsGivenWhatTheFunctionHasChanged) {
    for (const std::size_t count : std::array<std::size_t, 6>{3, 200, 2000, 20'000, 100'000, 400'000}) {
        Value<long[]> array(count);
        Value<Numbers> numbers(Numbers(count, 0L));
        Arena arena({.reserve_bytes = count * sizeof(long)});
        static_cast<void>(arena.allocate(count * sizeof(long)));
        const auto result = fork_call([&]() -> std::vector<long> {
            array.edit([](std::span<long> all) { all.front() = all.back() = 1; });
            numbers.edit([](Numbers& all) { all.front() = all.back() = 1; });
            longs_of(arena).front() = longs_of(arena)[count - 1] = 1;
            Pool pool(tests::workers(1));
            std::vector<long> sums{pool.call(sum_of, array).value(), pool.call(sum_of_numbers, numbers).value(),
                                   pool.call(sum_of, arena).value()};
            auto later = pool.async(sum_of, array);
            array.edit([](std::span<long> all) { all[0] = 100; });
            sums.push_back(later.get().value());
            sums.push_back(sum_of(pool.apply(set_second, std::move(array)).value().read()));
            const Value<Numbers> longer = pool.apply(push_one, std::move(numbers)).value();
            sums.push_back(sum_of_numbers(*longer));
            Arena changed = pool.apply(set_second, std::move(arena)).value();
            sums.push_back(sum_of(longs_of(changed).first(count)));
            return sums;
        });
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.value(), (std::vector<long>{2, 2, 2, 2, 121, 3, 22})) << count;
        EXPECT_EQ(sum_of(array.read()), 0);
        EXPECT_EQ(sum_of_numbers(*numbers), 0);
        EXPECT_EQ(sum_of(longs_of(arena).first(count)), 0);
    }
}

// An arena that can still change is read in place while the caller waits, and copied when the caller goes on.
TEST_F(NestedPoolTest, AnAsynchronousCallHasWhatThereWasAtItsStart) {
    Arena arena = zeroed_arena();
    longs_of(arena)[3] = 1;
    const auto slow = [](std::span<const long> values) {
        tests::sleep_ms(50);
        return values[3];
    };
    auto future = pool_.async(slow, procrun::pass_on(longs_of(arena)));
    longs_of(arena)[3] = 2;
    EXPECT_EQ(future.get().value(), 1);
    EXPECT_EQ(pool_.call(slow, procrun::pass_on(longs_of(arena))).value(), 2);
    longs_of(arena)[3] = 3;
    EXPECT_EQ(pool_.call(slow, procrun::pass_on(longs_of(arena))).value(), 3);
}

// ---- the pool that runs a function, used in it

Pool* global_pool = nullptr;

int own_depth(int depth) {
    if (depth == 0) return 0;
    const auto result = global_pool->call(own_depth, depth - 1);
    if (!result.ok()) std::fprintf(stderr, "depth %d: %s\n", depth, result.outcome().describe().c_str());
    return result.ok() ? result.value() + 1 : -100;
}

TEST(PoolInItsOwnFunctionTest, ItIsAPoolOfTheFunctionProcess) {
    alignas(Pool) std::byte memory[sizeof(Pool)];
    global_pool = reinterpret_cast<Pool*>(memory);  // set before the pool is made, as the name of a global variable is
    new (memory) Pool(tests::workers(1));
    EXPECT_EQ(global_pool->call(own_depth, 3).value(), 3);
    EXPECT_EQ(global_pool->call(own_depth, 3).value(), 3);  // the pool lives on in the worker, as variables do
    EXPECT_EQ(fork_call([] { return own_depth(2); }).value(), 2);
    EXPECT_EQ(global_pool->call([] { return global_pool->async(own_depth, 1).get().value(); }).value(), 1);
    global_pool->~Pool();
    global_pool = nullptr;
}

Pool& local_pool() {
    static Pool pool(tests::workers(1));
    return pool;
}

/// Whether /proc tells which system call a child is in.
bool kernel_tells_calls() {
    const pid_t pid = ::fork();
    if (pid == 0) ::pause();
    std::ifstream file("/proc/" + std::to_string(pid) + "/syscall");
    std::string word;
    const bool tells = static_cast<bool>(file >> word);
    vmcow::sys::signal_process(pid, SIGKILL);
    return ::waitpid(pid, nullptr, 0) == pid && tells;
}

// The workers are forked while the variable is being made, so that there is no pool yet to call. In a process that has
// had threads, libstdc++ waits for another thread to finish the variable, and the caller notices that wait.
TEST(PoolInItsOwnFunctionTest, AStaticVariableOfAFunctionIsRefusedWithASentence) {
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the thread sanitizer waits for static variables in its own way, until the deadline";
#endif
    for (const bool had_threads : {false, true}) {
        if (had_threads && !kernel_tells_calls()) continue;
        const auto end = tests::in_child([&] {
            if (had_threads) std::thread([] {}).join();
            const procrun::CallOptions options{.deadline = procrun::Deadline::in(std::chrono::seconds(20))};
            const auto result = local_pool().call(options, [] { return local_pool().call([] { return 1; }).value(); });
            if (result.ok()) return 1;
            const std::string said = result.outcome().describe();
            if (said.find("static variable of a function") == std::string::npos) {
                std::fprintf(stderr, "%s\n", said.c_str());
                return 2;
            }
            return local_pool().call([] { return 3; }).value() == 3 ? 0 : 3;
        });
        EXPECT_EQ(end, tests::kChildExitedWell) << had_threads;
    }
}

// ---- a worker that waits for ever because of that, and one that does not

/// A system call that /proc shows is believed only of a process with one thread.
TEST(StaticWaitTest, OnlyAWaitThatNobodyCanEndIsOne) {
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "each process has a thread of the thread sanitizer besides its own";
#endif
    EXPECT_FALSE(procrun::detail::waits_for_static_variable(0)) << "no process";
    EXPECT_FALSE(procrun::detail::waits_for_static_variable(::getpid())) << "one that runs";
    if (!kernel_tells_calls()) GTEST_SKIP() << "/proc/PID/syscall cannot be read here";
    for (const bool alone : {true, false}) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            if (!alone) std::thread([] { ::pause(); }).detach();
            unsigned word = 1U << 8 | 1U << 16;
            ::syscall(SYS_futex, &word, FUTEX_WAIT, word, nullptr);
            ::_exit(1);
        }
        ASSERT_GT(pid, 0);
        if (alone) {
            EXPECT_TRUE(tests::eventually([&] { return procrun::detail::waits_for_static_variable(pid); }));
        } else {
            tests::sleep_ms(100);
            EXPECT_FALSE(procrun::detail::waits_for_static_variable(pid)) << "its other thread may be making it";
        }
        vmcow::sys::signal_process(pid, SIGKILL);
        EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
    }
}

}  // namespace
