// A very large number of calls: the counts of descriptors, mappings and pages do not grow.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/held_by.hpp"
#include "tests/support/images.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::Pool;
using tests::Held;
using tests::held_by;
using vmcow::Arena;
using vmcow::Snapshot;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// The caller and its one worker.
struct Both {
    Held caller;
    Held worker;
};

Both held_with(Pool& pool) {
    const auto pids = pool.status().idle_pids;
    if (pids.size() != 1) throw std::logic_error("there is not one idle worker");
    return {held_by(::getpid()), held_by(pids[0])};
}

/// The slack allows for memory that an allocator keeps and a mapping more or less; a leak of one thing in a thousand
/// calls exceeds it.
void expect_flat(const char* who, const Held& before, const Held& after) {
    constexpr std::size_t kSlack = 4;
    const std::uint64_t slack_kib = kSanitized ? 64 << 10 : 512;
    EXPECT_LE(after.descriptors, before.descriptors + kSlack) << who;
    EXPECT_LE(after.mappings, before.mappings + (kSanitized ? 256 : kSlack)) << who;
    EXPECT_LE(after.anonymous_kib, before.anonymous_kib + slack_kib) << who;
}

void expect_flat(const Both& before, const Both& after) {
    expect_flat("caller", before.caller, after.caller);
    expect_flat("worker", before.worker, after.worker);
}

/// Calls until `most` calls are done or `time` is over. Returns the number of calls.
template <class Call>
std::size_t repeat(std::size_t most, std::chrono::seconds time, Call&& call) {
    const auto end = std::chrono::steady_clock::now() + time;
    std::size_t done = 0;
    while (done < most && (done % 256 != 0 || std::chrono::steady_clock::now() < end)) call(done++);
    testing::Test::RecordProperty("calls", std::to_string(done));
    std::cout << "[   CALLS  ] " << done << '\n';
    return done;
}

TEST(PoolSoakTest, AMillionNullCallsHoldNothing) {
    Pool pool(tests::workers(1));
    std::size_t wrong = 0;
    const auto call = [&](std::size_t) {
        if (pool.call(tests::answer).value() != 42) ++wrong;
    };
    repeat(10'000, 5s, call);
    const Both before = held_with(pool);
    EXPECT_GT(repeat(kSanitized ? 50'000 : 1'000'000, 30s, call), 0U);
    expect_flat(before, held_with(pool));
    EXPECT_EQ(wrong, 0U);
}

/// Makes calls of each kind in turn, each with the values that the calls before have returned.
class Mixture {
public:
    explicit Mixture(Pool& pool) : pool_(pool) {}

    void call(std::size_t number) {
        const long amount = static_cast<long>(number % 7) + 1;
        const std::size_t pages = number % 13 + 1;
        switch (number % 10) {
            case 0:
                return require(pool_.call(tests::sum_and_add, image_, pages, amount).ok());
            case 1:
                chain_ = pool_.apply(tests::add_to_pages, number % 100 < 90 ? chain_ : image_, pages, amount).value();
                return;
            case 2:
                arena_ = pool_.apply(tests::add_to_pages, std::move(arena_), pages, amount).value();
                return;
            case 3:
                return require(pool_.call(tests::sum, arena_).value() == tests::sum(tests::longs_in(arena_)));
            case 4:
                return require(pool_.call(tests::sum_and_add, chain_, pages, amount).ok());
            case 5: {
                const std::vector<char> sent(number % 50'000, 'x');
                return require(pool_.call([](std::vector<char> bytes) { return bytes; }, sent).value() == sent);
            }
            case 6: {
                const auto thrown = pool_.call([]() -> int { throw std::runtime_error("x"); });
                return require(thrown.outcome().text == "x");
            }
            case 7: {
                const Snapshot made = pool_.call([] { return tests::counting_snapshot(3); }).value();
                return require(pool_.call(tests::sum, made).ok());
            }
            case 8: {
                auto future = pool_.async(tests::sum_and_add, chain_, pages, amount);
                return require(number % 20 == 8 ? future.get().ok() : true);
            }
            default: {
                Arena fresh = tests::counting_arena(3);
                fresh = pool_.apply(tests::add_to_pages, std::move(fresh), std::size_t{3}, amount).value();
                return require(tests::longs_in(std::move(fresh).freeze())[0] == amount);
            }
        }
    }

private:
    static void require(bool is_so) {
        if (!is_so) throw std::logic_error("a call went wrong");
    }

    Pool& pool_;
    Snapshot image_ = tests::counting_snapshot(64);
    Snapshot chain_ = image_;
    Arena arena_ = tests::counting_arena(64);
};

/// What is held when no value is left. A last call lets the worker forget values that have ended here. How many chunks
/// and deltas of living values it knows would depend on the kind of the last call.
Both held_after(Pool& pool, std::size_t most, std::chrono::seconds time) {
    {
        Mixture mixture(pool);
        EXPECT_GT(repeat(most, time, [&](std::size_t number) { mixture.call(number); }), 0U);
    }
    // An abandoned call may still be running.
    static_cast<void>(tests::eventually([&] { return pool.status().idle_pids.size() == 1; }));
    static_cast<void>(pool.call(tests::answer));
    return held_with(pool);
}

TEST(PoolSoakTest, MixedCallsHoldNothing) {
    Pool pool(tests::workers(1));
    const Both before = held_after(pool, 2'000, 20s);
    expect_flat(before, held_after(pool, kSanitized ? 2'000 : 20'000, 30s));
}

// A worker that is replaced again and again leaves nothing behind.
TEST(PoolSoakTest, ManyWorkersLeaveNothing) {
    Pool pool(tests::workers(1));
    const Snapshot image = tests::counting_snapshot(8);
    const auto call = [&](std::size_t) {
        const auto die = [](std::span<long> values) {
            values[0] = 1;
            ::_exit(1);
        };
        EXPECT_FALSE(pool.call(die, image).ok());
    };
    repeat(100, 10s, call);
    static_cast<void>(pool.call(tests::answer));
    const Both before = held_with(pool);
    const Held zygote_before = held_by(pool.status().zygote_pid);
    repeat(kSanitized ? 200 : 2'000, 20s, call);
    static_cast<void>(pool.call(tests::answer));
    expect_flat(before, held_with(pool));
    // The zygote reaps workers with a delay, and holds a descriptor of each until then.
    static_cast<void>(
        tests::eventually([&] { return held_by(pool.status().zygote_pid).descriptors <= zygote_before.descriptors; }));
    expect_flat("zygote", zygote_before, held_by(pool.status().zygote_pid));
}

}  // namespace
