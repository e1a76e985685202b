// Functions that damage their own worker, and attacks on the processes of a pool from outside (I3, I4).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "procrun/worker/zygote_client.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/sys/proc/thread_count.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::Pool;
using procrun::PoolOptions;
using tests::board;
using vmcow::Arena;
using vmcow::Snapshot;

class PoolEnemyTest : public tests::SurvivalTest {};

// ---- the channel

/// Finds the channel of this worker. Uses neither stdio nor an allocator, because the caller may unmap the result next.
std::span<std::byte> find_channel() {
    std::FILE* const maps = std::fopen("/proc/self/maps", "re");
    std::span<std::byte> found;
    char line[512];
    while (maps != nullptr && std::fgets(line, sizeof(line), maps) != nullptr) {
        unsigned long first = 0;
        unsigned long end = 0;
        if (std::strstr(line, "/memfd:vmcow:channel") == nullptr) continue;
        if (std::sscanf(line, "%lx-%lx", &first, &end) != 2) continue;
        found = {reinterpret_cast<std::byte*>(first), end - first};
    }
    if (maps != nullptr) std::fclose(maps);
    return found;
}

enum class Garbage { ones, zeros, noise };
enum class Then { go_back, die, hang };

/// Overwrites all memory that the worker and its caller share: the request, the reply, both states and every result.
int write_garbage(Garbage garbage, std::size_t most_bytes, Then then) {
    board().runs.fetch_add(1);
    std::span<std::byte> channel = find_channel();
    if (channel.empty()) return -1;
    channel = channel.first(std::min(channel.size(), most_bytes));
    if (garbage == Garbage::noise) {
        std::uint32_t state = 12345;
        for (std::byte& byte : channel) {
            state = state * 1664525U + 1013904223U;
            byte = static_cast<std::byte>(state >> 24U);
        }
    } else {
        std::memset(channel.data(), garbage == Garbage::ones ? 0xff : 0, channel.size());
    }
    if (then == Then::die) ::raise(SIGKILL);
    if (then == Then::hang) return tests::hang();
    return 42;
}

class PoolGarbageTest : public tests::SurvivalTest,
                        public testing::WithParamInterface<std::tuple<Garbage, std::size_t>> {};

TEST_P(PoolGarbageTest, GarbageBeforeTheReplyHarmsNobody) {
    const auto [garbage, bytes] = GetParam();
    for (int round = 1; round <= 3; ++round) {
        // The call must end before this deadline: a sleeping caller is woken although the worker no longer knows that
        // it sleeps.
        const Deadline deadline = Deadline::in(60s);
        const auto result = pool_.call(CallOptions{.deadline = deadline}, write_garbage, garbage, bytes, Then::go_back);
        EXPECT_FALSE(deadline.passed());
        EXPECT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(board().runs.load(), round);
        expect_all_is_well();
    }
}

TEST_P(PoolGarbageTest, GarbageBeforeTheEndIsNotMistakenForACallThatWasNotSeen) {
    const auto [garbage, bytes] = GetParam();
    for (int round = 1; round <= 3; ++round) {
        const auto result = pool_.call(write_garbage, garbage, bytes, Then::die);
        EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled) << result.outcome().describe();
        EXPECT_EQ(result.outcome().code, SIGKILL);
        EXPECT_EQ(board().runs.load(), round) << "the function was run again";
        expect_all_is_well();
    }
}

TEST_P(PoolGarbageTest, GarbageDoesNotKeepADeadlineFromPassing) {
    const auto [garbage, bytes] = GetParam();
    const auto result =
        pool_.call(CallOptions{.deadline = Deadline::in(200ms)}, write_garbage, garbage, bytes, Then::hang);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::deadline_passed) << result.outcome().describe();
    expect_all_is_well();
}

TEST_P(PoolGarbageTest, GarbageOverAMovedCallDoesNotBringTheArenaBackTwice) {
    const auto [garbage, bytes] = GetParam();
    const auto spoil = procrun::by_bytes([garbage = garbage, bytes = bytes](std::span<long> values, bool die) {
        values[0] = -1;
        return write_garbage(garbage, bytes, die ? Then::die : Then::go_back);
    });
    auto returned = pool_.apply(spoil, tests::counting_arena(2), false);
    ASSERT_TRUE(returned.ok()) << returned.outcome().describe();
    EXPECT_EQ(tests::longs_in(returned.value().first)[0], -1);
    EXPECT_EQ(tests::longs_in(std::move(returned).value().first.freeze())[0], -1);
    const auto died = pool_.apply(spoil, tests::counting_arena(2), true);
    EXPECT_EQ(died.outcome().kind, OutcomeKind::signaled);
    EXPECT_NE(died.outcome().text.find("the moved value is gone"), std::string::npos) << died.outcome().text;
    EXPECT_EQ(board().runs.load(), 2);
    expect_all_is_well();
}

std::string name_of_garbage(const testing::TestParamInfo<PoolGarbageTest::ParamType>& param) {
    constexpr std::array kNames{"Ones", "Zeros", "Noise"};
    const auto [garbage, bytes] = param.param;
    const std::string name = kNames[static_cast<std::size_t>(garbage)];
    return name + (bytes == vmcow::kPageBytes ? "InTheHead" : "Everywhere");
}

// The head alone, which holds the states, and the whole channel.
INSTANTIATE_TEST_SUITE_P(Pool, PoolGarbageTest,
                         testing::Combine(testing::Values(Garbage::ones, Garbage::zeros, Garbage::noise),
                                          testing::Values(vmcow::kPageBytes, procrun::detail::kCallMemoryBytes)),
                         name_of_garbage);

TEST_F(PoolEnemyTest, UnmappedChannelIsACrash) {
    const auto unmap = [] {
        tests::set_action(SIGSEGV, SIG_DFL);
        const auto channel = find_channel();
        ::munmap(channel.data(), channel.size());
    };
    const auto result = pool_.call(unmap);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled);
    EXPECT_EQ(result.outcome().code, SIGSEGV);
    EXPECT_EQ(result.outcome().text, "in the function");
    expect_all_is_well();
}

// ---- images

// A function makes a hole where its image was; the next call over that image must not run into the hole.
TEST_F(PoolEnemyTest, UnmappedImageIsNoTrapForTheNextCall) {
    const auto unmap = [](std::span<long> values, std::size_t first_page, std::size_t pages) {
        tests::set_action(SIGSEGV, SIG_DFL);
        ::munmap(values.data() + first_page * tests::kLongsInPage, pages * vmcow::kPageBytes);
    };
    for (const bool warm : {false, true}) {
        for (const std::size_t pages : {8U, 2U}) {
            if (warm) expect_all_is_well();
            static_cast<void>(pool_.call(unmap, image_, std::size_t{0}, pages));
            expect_all_is_well();
            static_cast<void>(pool_.call(unmap, image_, std::size_t{3}, std::size_t{1}));
            const auto all = [](std::span<long> values) { return tests::sum(values); };
            const auto result = pool_.call(all, image_);
            ASSERT_TRUE(result.ok()) << result.outcome().describe();
            EXPECT_EQ(result.value(), tests::sum(tests::longs_in(image_)));
            static_cast<void>(pool_.apply(unmap, tests::counting_arena(2), std::size_t{0}, std::size_t{2}));
            expect_all_is_well();
            pool_.trim();
        }
    }
}

TEST_F(PoolEnemyTest, ImageMadeReadOnlyIsNoTrapForTheNextCall) {
    const auto protect = [](std::span<long> values) {
        values[0] = -1;
        ::mprotect(values.data(), values.size_bytes(), PROT_READ);
    };
    for (int round = 0; round < 2; ++round) {
        static_cast<void>(pool_.call(protect, image_));
        expect_all_is_well();
    }
}

// The worker does not know of the second mapping of the moved arena; it must not outlive the owner's next use of the
// arena.
TEST_F(PoolEnemyTest, MovedArenaCanBeFrozenWhateverTheFunctionHasMapped) {
    const auto map_again = [](std::span<long> values) {
        return ::mremap(values.data(), 0, values.size_bytes(), MREMAP_MAYMOVE) != MAP_FAILED;
    };
    auto [arena, mapped] = pool_.apply(map_again, tests::counting_arena(2)).value();
    ASSERT_TRUE(mapped);
    EXPECT_EQ(tests::error_of([&, &back = arena] { static_cast<void>(std::move(back).freeze()); }), 0);
    expect_all_is_well();
}

// ---- descriptors

TEST_F(PoolEnemyTest, ClosedDescriptorsCostTheWorkerAndNotTheNextCall) {
    const auto close_all = [](unsigned first) { static_cast<void>(::syscall(SYS_close_range, first, ~0U, 0U)); };
    const auto write_and_close = [](std::span<long> values, unsigned first) {
        values[0] = -1;
        static_cast<void>(::syscall(SYS_close_range, first, ~0U, 0U));
    };
    for (int round = 0; round < 10; ++round) {
        for (const unsigned first : {0U, 3U}) {
            const auto result = pool_.call(close_all, first);
            EXPECT_NE(result.outcome().kind, OutcomeKind::deadline_passed);
            EXPECT_NE(result.outcome().describe(), "");
            const Snapshot fresh = tests::counting_snapshot(2);
            const auto next = pool_.call(tests::sum, fresh);
            ASSERT_TRUE(next.ok()) << next.outcome().describe();
            expect_all_is_well();
            static_cast<void>(pool_.call(write_and_close, image_, first));
            expect_all_is_well();
            const auto applied = pool_.apply(write_and_close, image_, first);
            if (applied.ok()) {
                EXPECT_EQ(tests::longs_in(applied.value())[0], -1);
            }
            expect_all_is_well();
        }
    }
}

// The function's own limit counts a worker's descriptors; the caller's limit does not.
TEST_F(PoolEnemyTest, FunctionThatUsesUpItsDescriptorsIsItsOwnLoss) {
    const auto use_up = [] {
        while (::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) continue;
        return tests::counting_snapshot(2);
    };
    const auto result = pool_.call(use_up);
    EXPECT_FALSE(result.ok());
    EXPECT_NE(result.outcome().describe().find("Too many open files"), std::string::npos)
        << result.outcome().describe();
    pool_.trim();  // the function's descriptors are still open, so that the worker cannot take new images
    expect_all_is_well();
}

TEST_F(PoolEnemyTest, CallerWithoutDescriptorsIsToldSo) {
    EXPECT_TRUE(pool_.call(tests::sum_and_add, image_, std::size_t{1}, 1L).ok());
    const auto long_result = [] { return std::vector<char>(100'000, 'x'); };
    {
        const DescriptorLimit none(0);
        // Calls that need no descriptor work.
        EXPECT_TRUE(pool_.call(tests::answer).ok());
        EXPECT_TRUE(pool_.call(tests::sum_and_add, image_, std::size_t{1}, 1L).ok());
        const auto lost = pool_.call(long_result);
        EXPECT_EQ(lost.outcome().kind, OutcomeKind::result_lost) << lost.outcome().describe();
        EXPECT_NE(lost.outcome().text, "");
        const auto unopened = pool_.call(tests::sum, arena_);
        EXPECT_EQ(unopened.outcome().kind, OutcomeKind::not_started) << unopened.outcome().describe();
        EXPECT_EQ(unopened.outcome().code, EMFILE);
    }
    expect_all_is_well();
    for (std::size_t free = 0; free < 12; ++free) {
        pool_.trim();
        const DescriptorLimit few(free);
        const auto result = pool_.call(long_result);
        if (!result.ok()) {
            EXPECT_EQ(result.outcome().code, EMFILE) << free << ": " << result.outcome().describe();
        }
    }
    expect_all_is_well();
}

// ---- the pool's other processes

// Workers end with their zygote: a call that runs meanwhile may be lost, and a later call notices nothing.
TEST_F(PoolEnemyTest, KilledZygoteIsReplaced) {
    for (int round = 0; round < 3; ++round) {
        EXPECT_TRUE(pool_.call(tests::answer).ok());
        const auto status = pool_.status();
        ASSERT_EQ(status.idle_pids.size(), 1U);
        ASSERT_EQ(vmcow::sys::try_signal_process(status.zygote_pid, SIGKILL), 0);
        EXPECT_TRUE(tests::eventually(
            [&] { return !tests::is_running(status.zygote_pid) && !tests::is_running(status.idle_pids[0]); }));
        expect_all_is_well();
        EXPECT_NE(pool_.status().zygote_pid, status.zygote_pid);
        pool_.trim();
        expect_all_is_well();
    }
}

TEST_F(PoolEnemyTest, CallThatRunsEndsWithItsZygote) {
    std::thread enemy([&] {
        while (board().runs.load() == 0) tests::sleep_ms(1);
        vmcow::sys::signal_process(pool_.status().zygote_pid, SIGKILL);
    });
    const auto result = pool_.call([] {
        board().runs.store(1);
        return tests::hang();
    });
    enemy.join();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled) << result.outcome().describe();
    EXPECT_EQ(result.outcome().code, SIGKILL);
    EXPECT_EQ(result.outcome().text, "in the function");
    expect_all_is_well();
}

TEST_F(PoolEnemyTest, KilledKeeperIsNotMissedUntilItIsNeeded) {
    expect_all_is_well();
    ASSERT_EQ(vmcow::sys::try_signal_process(pool_.status().keeper_pid, SIGKILL), 0);
    expect_all_is_well();
    pool_.trim();
    expect_all_is_well();
}

TEST_F(PoolEnemyTest, BothAreReplacedAsLongAsThereIsOneThread) {
    for (int round = 0; round < 3; ++round) {
        const auto status = pool_.status();
        vmcow::sys::signal_process(status.keeper_pid, SIGKILL);
        vmcow::sys::signal_process(status.zygote_pid, SIGKILL);
        pool_.trim();
        expect_all_is_well();
    }
}

TEST_F(PoolEnemyTest, BothAreRefusedWithTheRemedyWhenThereAreThreads) {
    std::thread other([] {
        while (!board().go_on.load()) tests::sleep_ms(1);
    });
    const auto status = pool_.status();
    vmcow::sys::signal_process(status.keeper_pid, SIGKILL);
    vmcow::sys::signal_process(status.zygote_pid, SIGKILL);
    EXPECT_TRUE(tests::eventually(
        [&] { return !tests::is_running(status.keeper_pid) && !tests::is_running(status.zygote_pid); }));
    pool_.trim();
    const auto refused = pool_.call(tests::answer);
    board().go_on.store(true);
    other.join();
    EXPECT_EQ(refused.outcome().kind, OutcomeKind::not_started) << refused.outcome().describe();
    EXPECT_EQ(refused.outcome().code, EPERM);
    EXPECT_NE(refused.outcome().text.find("thread"), std::string::npos) << refused.outcome().text;
    EXPECT_TRUE(tests::eventually([&] { return vmcow::sys::count_running_threads() == 1; }));
    expect_all_is_well();
}

/// Sums up the results of calls that several threads make while processes are killed at random.
struct Tally {
    std::atomic<int> returned{0};
    std::atomic<int> killed{0};
    std::atomic<int> wrong{0};

    [[nodiscard]] int all() const { return returned + killed + wrong; }

    template <class Result, class IsRight>
    void count(const Result& result, const IsRight& is_right) {
        if (result.ok()) {
            ++(is_right(result.value()) ? returned : wrong);
        } else {
            const auto& outcome = result.outcome();
            // A call is given up when several workers in a row have died before they saw it.
            const bool given_up = outcome.kind == OutcomeKind::not_started && outcome.code == EPIPE;
            const bool expected = given_up || (outcome.kind == OutcomeKind::signaled && outcome.code == SIGKILL);
            if (!expected && wrong++ == 0) ADD_FAILURE() << outcome.describe();
            ++killed;
        }
    }
};

void call_again_and_again(Pool& pool, const Snapshot& image, Tally& tally) {
    const long total = tests::sum(tests::longs_in(image));
    for (int i = 0; i < 150; ++i) {
        tally.count(pool.call(tests::answer), [](int value) { return value == 42; });
        tally.count(pool.call(tests::sum_and_add, image, std::size_t{2}, 1L), [](long value) { return value == 512; });
        const auto is_changed = [&](const Snapshot& value) { return tests::sum(tests::longs_in(value)) == total + 21; };
        tally.count(pool.apply(tests::add_to_pages, image, std::size_t{3}, 7L), is_changed);
        auto future = pool.async(tests::sum, image);
        tally.count(future.get(), [&](long value) { return value == total; });
        const auto is_moved = [](const Arena& value) { return tests::longs_in(value)[0] == 1; };
        tally.count(pool.apply(tests::add_to_pages, tests::counting_arena(2), std::size_t{1}, 1L), is_moved);
    }
}

// Whichever process is killed and whenever, each call has its right result or says that its process was killed.
TEST_F(PoolEnemyTest, CallsGoOnWhileProcessesAreKilled) {
    Pool pool(tests::workers(3));
    Tally tally;
    std::atomic<int> running{4};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            call_again_and_again(pool, image_, tally);
            --running;
        });
    }
    for (unsigned round = 0; running.load() > 0; ++round) {
        const auto status = pool.status();
        for (const pid_t pid : status.idle_pids) vmcow::sys::signal_process(pid, SIGKILL);
        if (round % 16 == 0) vmcow::sys::signal_process(status.zygote_pid, SIGKILL);
        // Some calls end between two rounds, also where a fork takes longer than the time between them.
        const int before = tally.all();
        for (int i = 0; i < 100 && running.load() > 0 && tally.all() < before + 4; ++i) tests::sleep_ms(3);
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(tally.wrong.load(), 0);
    EXPECT_GT(tally.returned.load(), 0);
    EXPECT_TRUE(tests::is_counting(tests::longs_in(image_)));
}

// ---- a caller that dies

// Workers in a call, idle workers, the processes that they have forked, and those that left their session and group.
TEST_F(PoolEnemyTest, NoProcessOutlivesItsCaller) {
    EXPECT_EQ(tests::in_child([] {
                  Pool pool(tests::workers(2));
                  const auto fork_away = [] {
                      const pid_t child = ::fork();
                      if (child == 0) {
                          ::setsid();
                          board().pids[2].store(::getpid());
                          tests::hang();
                      }
                      board().pids[1].store(::getpid());
                      tests::hang();
                  };
                  board().pids[3].store(pool.call(::getpid).value());
                  board().pids[4].store(pool.status().zygote_pid);
                  board().pids[5].store(pool.status().keeper_pid);
                  auto hanging = pool.async(fork_away);
                  auto more = pool.async([] {
                      board().pids[0].store(::getpid());
                      tests::hang();
                  });
                  while (board().pids[0].load() == 0 || board().pids[2].load() == 0) tests::sleep_ms(1);
                  return ::raise(SIGKILL);
              }),
              (tests::ChildEnd{-1, SIGKILL}));
    for (std::size_t i = 0; i < 6; ++i) {
        const pid_t pid = board().pids[i].load();
        ASSERT_GT(pid, 0) << i;
        EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(pid); })) << "process " << i << " of the list";
    }
}

// ---- memory

class PoolMappingLimitTest : public testing::Test {};

/// Runs `body` while all but `spare` bytes of the caller's address space are used up.
template <class Body>
auto with_little_address_space(std::size_t spare, Body&& body) {
    const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + spare);
    return body();
}

TEST_F(PoolMappingLimitTest, ResultThatDoesNotFitIsLost) {
    EXPECT_EQ(tests::in_child([] {
                  Pool pool(tests::workers(1));
                  const Snapshot image = tests::counting_snapshot(4);
                  if (!pool.call(tests::answer).ok()) return 1;
                  const auto large = [] { return std::vector<char>(std::size_t{64} << 20, 'x'); };
                  const auto made = [] { return tests::counting_snapshot(16'000); };
                  const auto lost = with_little_address_space(std::size_t{8} << 20, [&] { return pool.call(large); });
                  if (lost.outcome().kind != OutcomeKind::result_lost || lost.outcome().code != ENOMEM) return 2;
                  // Addresses that are already reserved for images may be enough for this one.
                  const auto mapped = with_little_address_space(std::size_t{8} << 20, [&] { return pool.call(made); });
                  if (!mapped.ok() && mapped.outcome().kind != OutcomeKind::result_lost) return 3;
                  if (!tests::is_counting(tests::longs_in(image))) return 4;
                  if (pool.call(tests::sum, image).value() != tests::sum(tests::longs_in(image))) return 5;
                  return pool.call(large).value().size() == std::size_t{64} << 20 ? 0 : 6;
              }),
              tests::kChildExitedWell);
}

TEST_F(PoolMappingLimitTest, CallerWithoutAddressSpaceIsToldSo) {
    EXPECT_EQ(tests::in_child([] {
                  Pool pool(tests::workers(1));
                  const Snapshot image = tests::counting_snapshot(4);
                  if (!pool.call(tests::sum, image).ok()) return 1;
                  const bool works = with_little_address_space(0, [&] { return pool.call(tests::sum, image).ok(); });
                  if (!works) return 2;
                  pool.trim();
                  const auto refused = with_little_address_space(0, [&] { return pool.call(tests::answer); });
                  if (!refused.ok() && refused.outcome().code != ENOMEM) return 3;
                  return pool.call(tests::sum, image).ok() ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

// A limit that is set in the function process belongs to it: a failed allocation is an exception of the function.
TEST_F(PoolMappingLimitTest, WorkerWithoutMemoryThrows) {
    EXPECT_EQ(tests::in_child([] {
                  Pool pool(tests::workers(1));
                  const auto greedy = [] {
                      const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + (std::size_t{8} << 20));
                      return std::vector<char>(std::size_t{64} << 20, 'x').size();
                  };
                  const auto result = pool.call(greedy);
                  if (result.outcome().kind != OutcomeKind::threw || result.outcome().text != "std::bad_alloc")
                      return 1;
                  return pool.call(tests::answer).ok() ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

}  // namespace
