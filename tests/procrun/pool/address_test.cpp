// Address space: all living values share it, and it is free again when they are gone.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/procrun/pool/address_space.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/value.hpp"

namespace {

using tests::in_child;
using vmcow::Arena;
using vmcow::Value;
using Numbers = vmcow::vector<long>;

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kGiB = std::size_t{1} << 30;
/// What a process keeps reserved when nothing lives in it, including the part that children do not inherit.
constexpr std::uint64_t kFirstRegion = (std::uint64_t{1} << 40) + 64 * kMiB;

/// Empty, or the name of a limit that is too low for so many values.
std::string lacks_for(std::size_t values) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < values + 100) return "RLIMIT_NOFILE of " + std::to_string(values + 100);
    const std::size_t mappings = std::stoul(vmcow::sys::read_text_file("/proc/sys/vm/max_map_count"));
    if (mappings < 3 * values + 1000) return "vm.max_map_count of " + std::to_string(3 * values + 1000);
    return {};
}

/// Writes a word into every 64 MiB. Returns false when malloc refuses so much memory.
bool memory_works(std::size_t bytes) {
    const std::unique_ptr<void, void (*)(void*)> memory(std::malloc(bytes), std::free);
    if (!memory) return false;
    auto* const words = static_cast<volatile std::uint64_t*>(memory.get());
    for (std::size_t i = 0; i < bytes / 8; i += 8 * kMiB) words[i] = i;
    for (std::size_t i = 0; i < bytes / 8; i += 8 * kMiB) {
        if (words[i] != i) return false;
    }
    return true;
}

std::vector<Value<Numbers>> many_values(std::size_t count) {
    std::vector<Value<Numbers>> values;
    values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const auto n = static_cast<long>(i);
        values.push_back(Value<Numbers>{n, n + 1, n + 2});
    }
    return values;
}

std::size_t count_wrong(const std::vector<Value<Numbers>>& values) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const auto n = static_cast<long>(i);
        if (*values[i] != Numbers{n, n + 1, n + 2}) ++wrong;
    }
    return wrong;
}

TEST(AddressTest, TwelveThousandValuesLiveAndLeaveNoMoreThanTheFirstRegion) {
    constexpr std::size_t kCount = 12'000;
    if (const std::string lacking = lacks_for(kCount); !lacking.empty()) GTEST_SKIP() << "needs " << lacking;
    const std::uint64_t before = tests::reserved_address_bytes();
    {
        const std::vector<Value<Numbers>> values = many_values(kCount);
        EXPECT_EQ(count_wrong(values), 0U);
        EXPECT_TRUE(memory_works(kGiB)) << "while they live";
    }
    EXPECT_LE(tests::reserved_address_bytes(), before + kFirstRegion);
    EXPECT_TRUE(memory_works(kGiB));
}

TEST(AddressTest, EachOfManyValuesAndTheOldestCanGrow) {
    constexpr std::size_t kCount = 10'000;
    if (const std::string lacking = lacks_for(kCount); !lacking.empty()) GTEST_SKIP() << "needs " << lacking;
    Value<Numbers> first{7, 8, 9};
    std::vector<Value<Numbers>> values = many_values(kCount);
    const auto grow = [](Value<Numbers>& value, std::size_t count) {
        value.edit([&](Numbers& numbers) { numbers.resize(count, 5); });
        return value->size() == count && value->back() == 5;
    };
    EXPECT_TRUE(grow(first, 8'000'000));
    EXPECT_EQ(first->front(), 7);
    for (std::size_t i = 0; i < kCount; i += 1000) EXPECT_TRUE(grow(values[i], 400'000)) << i;
    EXPECT_TRUE(grow(values.back(), 4'000'000));
    Arena sparse;
    EXPECT_GE(sparse.reserved_bytes(), 4 * kGiB);
    EXPECT_EQ(tests::error_of([&] { sparse.allocate_sparse(4 * kGiB)[4 * kGiB - 1] = std::byte{1}; }), 0);
}

TEST(AddressTest, TwoBigArenasGrowInTurn) {
    std::vector<Arena> arenas(2);
    std::vector<std::byte*> first;
    for (Arena& arena : arenas) first.push_back(arena.allocate_sparse(1, 1));
    for (std::size_t gib = 0; gib < 8; ++gib) {
        for (Arena& arena : arenas) {
            std::byte* const more = arena.allocate_sparse(kGiB, 1);
            more[kGiB - 1] = static_cast<std::byte>(gib + 1);
        }
    }
    for (std::size_t i = 0; i < arenas.size(); ++i) {
        EXPECT_EQ(arenas[i].bytes().data(), first[i]) << "what was there has not moved";
        for (std::size_t gib = 0; gib < 8; ++gib) {
            EXPECT_EQ(arenas[i].bytes()[(gib + 1) * kGiB], static_cast<std::byte>(gib + 1));
        }
    }
    EXPECT_GE(arenas[0].reserved_bytes(), 16 * kGiB);
}

TEST(AddressTest, AnArenaAsLargeAsAsked) {
    Arena arena({.reserve_bytes = std::size_t{3} << 40});
    EXPECT_EQ(arena.reserved_bytes(), 3ULL << 40);
    const std::uint64_t before = tests::reserved_address_bytes();
    arena = Arena();
    EXPECT_LE(tests::reserved_address_bytes() + (2ULL << 40), before);
}

TEST(AddressTest, WhatOthersHaveIsEnomemAndSaysWhatToDo) {
    EXPECT_EQ(in_child([] {
                  vmcow::abandon_inherited_images();  // the parent's region goes with them
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + kGiB);
                  std::vector<Arena> arenas(4);
                  std::size_t room = 0;
                  for (const Arena& arena : arenas) room += arena.reserved_bytes();
                  if (room > 600 * kMiB) return 1;
                  Arena& arena = arenas[1];
                  std::byte* const at = arena.allocate(1000);
                  const std::size_t most = arena.reserved_bytes();
                  if (most < 32 * kMiB) return 2;
                  const std::string message = tests::message_of([&] { arena.allocate_sparse(most); });
                  if (message.find("'arena'") == std::string::npos) return 3;
                  if (message.find("drop or freeze some") == std::string::npos) return 4;
                  if (arena.extent_bytes() != 1000 || arena.bytes().data() != at) return 5;
                  // An arena can grow into the addresses of its neighbour once that neighbour is gone.
                  arenas.pop_back();
                  arenas.pop_back();
                  if (arena.reserved_bytes() <= most) return 6;
                  arena.allocate_sparse(most);
                  return 0;
              }),
              tests::kChildExitedWell);
}

// A process whose addresses are limited must keep some for other uses than values.
TEST(AddressTest, UnderALimitValuesLeaveTheProcessSome) {
    EXPECT_EQ(in_child([] {
                  vmcow::abandon_inherited_images();
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes() + 4 * kGiB);
                  const std::vector<Value<Numbers>> values = many_values(50);
                  if (count_wrong(values) != 0) return 1;
                  return memory_works(kGiB) ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

TEST(AddressTest, MakingAndDroppingAValueTakesNoAddresses) {
    static_cast<void>(Value<Numbers>{1, 2, 3});
    const std::uint64_t before = tests::reserved_address_bytes();
    for (int i = 0; i < 200; ++i) {
        Value<Numbers> value{1, 2, 3};
        const Value<Numbers> kept = value;
        value.edit([](Numbers& numbers) { numbers.resize(300'000, 1); });
    }
    EXPECT_LE(tests::reserved_address_bytes(), before + 8 * kMiB) << "but for chunks of deltas";
}

// ---- in other processes

TEST(AddressTest, AnArenaGrowsInAFunctionProcess) {
    Arena arena;
    std::byte* const begin = arena.allocate(1000, 1);
    begin[999] = std::byte{3};
    const auto grown = procrun::fork_call([&] {
        std::byte* const more = arena.allocate_sparse(3 * kGiB, 1);
        more[3 * kGiB - 1] = std::byte{4};
        arena.allocate(10 * kMiB, 1)[0] = std::byte{5};
        const bool good = begin[999] == std::byte{3} && more == begin + 1000 && more[3 * kGiB] == std::byte{5};
        return good ? arena.extent_bytes() : 0;
    });
    EXPECT_EQ(grown.value(), 1000 + 3 * kGiB + 10 * kMiB);
    EXPECT_EQ(arena.extent_bytes(), 1000U);
    arena.allocate_sparse(4 * kGiB, 1)[0] = std::byte{6};
    EXPECT_EQ(begin[1000], std::byte{6});
}

TEST(AddressTest, WorkersHaveArgumentsWhereTheCallerHasThemThoughThereAreManyRegions) {
    const std::vector<Value<Numbers>> values = many_values(300);
    std::vector<Value<long[]>> arguments;
    for (int i = 0; i < 3; ++i) arguments.emplace_back(std::size_t{300'000});  // too large for the page store
    procrun::Pool pool(tests::workers(1));
    const auto place = [](std::span<long> numbers) { return reinterpret_cast<std::uintptr_t>(numbers.data()); };
    for (const Value<long[]>& argument : arguments) {
        const vmcow::Snapshot snapshot = argument.snapshot();
        EXPECT_EQ(pool.call(place, snapshot).value(), reinterpret_cast<std::uintptr_t>(snapshot.bytes().data()));
    }
    EXPECT_EQ(count_wrong(values), 0U);
}

TEST(AddressTest, AWorkerThatGrowsItsArgumentsHasAddressesForThem) {
    procrun::Pool pool(tests::workers(1));
    const auto grow = [](Numbers& numbers) { numbers.resize(numbers.size() + 2'000'000, 3); };
    for (int i = 0; i < 20; ++i) {
        const Value<Numbers> value{1, 2, 3};
        const auto grown = pool.apply(grow, value);
        EXPECT_EQ(grown.value()->size(), 2'000'003U);
    }
}

// The mapping that is kept while a function might still write behind a moved value must be given back in the end.
TEST(AddressTest, AMovedValueThatIsBackTakesNoMoreThanItIs) {
    procrun::Pool pool(tests::workers(1));
    const auto push = [](Numbers& numbers) { numbers.push_back(4); };
    std::vector<Value<Numbers>> values;
    const std::uint64_t before = tests::mapped_memfd_bytes();
    for (int i = 0; i < 30; ++i) {
        Value<Numbers> value{1, 2, 3};
        values.push_back(pool.apply(push, std::move(value)).value());
        EXPECT_EQ(*values.back(), (Numbers{1, 2, 3, 4}));
    }
    EXPECT_LE(tests::mapped_memfd_bytes() - before, 30 * 4 * kMiB);
    for (Value<Numbers>& value : values) value.edit([](Numbers& numbers) { numbers.resize(500'000, 5); });
    for (const Value<Numbers>& value : values) EXPECT_EQ(value->size(), 500'000U);
}

}  // namespace
