// Functions that damage their values, fail or die: the caller gets an outcome and goes on.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "procrun/pool.hpp"
#include "tests/support/number_values.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/values_in_files.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::OutcomeKind;
using procrun::Pool;
using tests::kOneToThree;
using tests::Numbers;
using tests::push;
using tests::sum_of;
using vmcow::Value;

// ---- hostile functions

enum class Damage { magic, type, object_outside, object_unaligned, heap_size, all };

/// The object of a small value lies on the first page of its image, which begins with the header.
vmcow::detail::ValueHeader& header_around(Numbers& numbers) {
    const auto page = reinterpret_cast<std::uintptr_t>(&numbers) & ~(vmcow::kPageBytes - 1);
    return *reinterpret_cast<vmcow::detail::ValueHeader*>(page);
}

void damage(Numbers& numbers, Damage what) {
    auto& header = header_around(numbers);
    auto* const page = reinterpret_cast<std::byte*>(&header);
    auto* const heap = page + sizeof(header);
    if (what == Damage::magic) header.magic = 7;
    if (what == Damage::type) ++header.type;
    if (what == Damage::object_outside) header.object = std::uint64_t{1} << 50;
    if (what == Damage::object_unaligned) header.object += 1;
    if (what == Damage::heap_size) std::memset(heap, 0xff, 64);
    if (what == Damage::all) std::memset(page, 0xa5, vmcow::kPageBytes);
}

class HostileFunctionTest : public testing::TestWithParam<Damage> {
protected:
    Pool pool_{tests::workers(1)};
};

TEST_P(HostileFunctionTest, WhatItMakesOfAValueIsRefused) {
    const Value<Numbers> a{1, 2, 3};
    const auto result = pool_.apply(damage, a, GetParam());
    EXPECT_EQ(result.outcome().kind, OutcomeKind::result_lost) << result.outcome().describe();
    EXPECT_EQ(result.outcome().code, EBADMSG);
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_EQ(pool_.call(sum_of, a).value(), 6);
}

TEST_P(HostileFunctionTest, WhatItMakesOfAMovedValueCannotBeUsedButEnded) {
    const auto damaged = [&] { return pool_.apply(damage, tests::in_file({1, 2, 3}), GetParam()).value(); };
    EXPECT_EQ(tests::error_of([a = damaged()] { static_cast<void>(a.read()); }), EBADMSG);
    EXPECT_EQ(tests::error_of([a = damaged()]() mutable { a.edit([](Numbers&) {}); }), EBADMSG);
    EXPECT_EQ(tests::error_of([a = damaged()] { static_cast<void>(a.snapshot()); }), EBADMSG);
    EXPECT_EQ(tests::error_of([a = damaged()]() mutable {
                  const Value<Numbers> other = a;
                  a.edit([](Numbers& numbers) { numbers.push_back(4); });
              }),
              EBADMSG);
    const tests::TemporaryDirectory folder;
    EXPECT_EQ(tests::error_of([&, a = damaged()] { a.save(folder / "file"); }), EBADMSG);
    EXPECT_EQ(tests::error_of([&, a = damaged()] { static_cast<void>(pool_.async(sum_of, a)); }), EBADMSG);
    Value<Numbers> a = damaged();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(tests::error_of([&] { static_cast<void>(a.read()); }), EBADMSG);
    a = Value<Numbers>{4};
    EXPECT_EQ(pool_.call(sum_of, a).value(), 4);
}

// The next function gets the damaged value unchanged; using it can end that function's process alone.
TEST_P(HostileFunctionTest, ADamagedValueThatIsPassedOnHurtsNoCaller) {
    Value<Numbers> a = pool_.apply(damage, tests::in_file({1, 2, 3}), GetParam()).value();
    const auto look = [](const Numbers& numbers) { return numbers.size(); };
    const procrun::CallOptions options{.deadline = procrun::Deadline::in(std::chrono::seconds(1))};
    try {
        static_cast<void>(pool_.call(options, look, a));
        static_cast<void>(pool_.apply(options, push, std::move(a), 1L));
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), EBADMSG);
    }
    EXPECT_EQ(pool_.call(sum_of, Value<Numbers>{1, 2}).value(), 3);
}

std::string name_of(Damage damage) {
    const char* const names[] = {"Magic", "Type", "ObjectOutside", "ObjectUnaligned", "HeapSize", "All"};
    return names[static_cast<int>(damage)];
}
INSTANTIATE_TEST_SUITE_P(Damages, HostileFunctionTest,
                         testing::Values(Damage::magic, Damage::type, Damage::object_outside, Damage::object_unaligned,
                                         Damage::heap_size, Damage::all),
                         [](const auto& each) { return name_of(each.param); });

// ---- functions that do not get to their end

class ValueInPoolTest : public testing::Test {
protected:
    Pool pool_{tests::workers(1)};
};

TEST_F(ValueInPoolTest, AFunctionThatThrowsInTheMiddleChangesNothing) {
    const auto half = [](Numbers& numbers) {
        numbers.front() = 9;
        numbers.resize(100'000, 1);
        throw std::runtime_error("half way");
    };
    const Value<Numbers> a{1, 2, 3};
    for (int i = 0; i < 3; ++i) {
        const auto result = pool_.apply(half, a);
        EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
        EXPECT_EQ(result.outcome().text, "half way");
        EXPECT_EQ(*a, kOneToThree);
        EXPECT_EQ(pool_.call(sum_of, a).value(), 6);
    }
    const auto moved = pool_.apply(half, Value<Numbers>{1, 2, 3});
    EXPECT_EQ(moved.outcome().text, "half way; the moved value is gone");
}

TEST_F(ValueInPoolTest, AFunctionThatIsKilledWhileItsValueGrowsChangesNothing) {
    const auto grow_and_die = [](Numbers& numbers) {
        for (long i = 0;; ++i) {
            numbers.push_back(i);
            if (i == 300'000) vmcow::sys::signal_process(::getpid(), SIGKILL);
        }
    };
    Value<Numbers> a{1, 2, 3};
    EXPECT_EQ(pool_.apply(grow_and_die, a).outcome().kind, OutcomeKind::signaled);
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_EQ(pool_.apply(grow_and_die, std::move(a)).outcome().kind, OutcomeKind::signaled);
    a = Value<Numbers>{4};
    a = pool_.apply(push, std::move(a), 5L).value();
    EXPECT_EQ(*a, (Numbers{4, 5}));
}

TEST_F(ValueInPoolTest, OneValueCanBeGivenTwice) {
    const auto both = [](Numbers& a, const Numbers& b) {
        a.push_back(4);
        return static_cast<long>(a.size() * 10 + b.size());
    };
    Value<Numbers> a{1, 2, 3};
    EXPECT_EQ(pool_.call(both, a, a).value(), 43);
    const auto [changed, sizes] = pool_.apply(both, a, a).value();
    EXPECT_EQ(sizes, 43);
    EXPECT_EQ(*changed, (Numbers{1, 2, 3, 4}));
    const Value<Numbers> same = a;
    EXPECT_EQ(pool_.call(both, same, a).value(), 43);
    EXPECT_EQ(*a, kOneToThree);
}

TEST_F(ValueInPoolTest, AMovedValueThatNobodyTakesBackIsGone) {
    for (int i = 0; i < 20; ++i) {
        Value<Numbers> a{1, 2, 3};
        auto future = pool_.async_apply(push, std::move(a), 4L);
        if (i % 2 == 0) future.wait();
    }
    EXPECT_EQ(pool_.call(sum_of, Value<Numbers>{1}).value(), 1);
}

}  // namespace
