// Values whose owner or machine has run out of descriptors, memory or file size, and values that are misused.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/number_values.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/values_in_files.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/value.hpp"
#include "vmcow/view.hpp"

namespace {

using procrun::OutcomeKind;
using procrun::Pool;
using tests::kOneToThree;
using tests::Numbers;
using tests::push;
using tests::sum_of;
using vmcow::Value;

void push_to(Value<Numbers>& value, long number) {
    value.edit([&](Numbers& numbers) { numbers.push_back(number); });
}

/// A sanitizer opens descriptors when it sees an object of a type for the first time.
void use_everything_once() {
    const tests::TemporaryDirectory folder;
    Value<Numbers> a{1, 2, 3};
    const Value<Numbers> b = a;
    for (int i = 0; i < 2; ++i) {
        push_to(a, 4);
        const Value<Numbers> c = a;
        a.save(folder / std::to_string(i));
        push_to(a, 5);
        const auto loaded = Value<Numbers>::load(folder / std::to_string(i));
        static_cast<void>(loaded.read());
    }
    const Value<long[]> array(std::size_t{100'000});
    EXPECT_EQ(array.part(1000, 50'000).read()[0] + array.part(1, 1).read()[0], 0);
    const Value<int> five(std::in_place, 5);
    EXPECT_EQ(*five, 5);
}

/// Does `action` with 0, 1, 2 … descriptors left, until it succeeds. Returns how often it failed; each failure must be
/// EMFILE, and `is_as_before()` must hold after it.
int refusals_of(const std::function<void()>& action, const std::function<bool()>& is_as_before) {
    use_everything_once();
    for (int free = 0; free < 64; ++free) {
        // The exception is caught outside the limit, where a sanitizer has descriptors to look at it.
        const int error = tests::error_of([&] {
            const DescriptorLimit limit(static_cast<std::size_t>(free));
            action();
        });
        if (error == 0) return free;
        EXPECT_EQ(error, EMFILE) << "with " << free << " descriptors";
        EXPECT_TRUE(is_as_before()) << "with " << free << " descriptors";
    }
    ADD_FAILURE() << "64 descriptors are not enough";
    return -1;
}

// ---- descriptors

TEST(ValueBreakTest, AValueThatCannotHaveADescriptorIsNotMade) {
    EXPECT_GE(
        refusals_of([] { const Value<Numbers> a(vmcow::ValueOptions{.reserve_bytes = 1 << 30}); }, [] { return true; }),
        1);
    EXPECT_GE(refusals_of([] { const Value<long[]> a(std::size_t{500'000}); }, [] { return true; }), 1);
    using Large = std::array<long, 500'000>;
    EXPECT_GE(refusals_of([] { const Value<Large> a; }, [] { return true; }), 1);
}

TEST(ValueBreakTest, ASmallValueNeedsNoDescriptor) {
    EXPECT_EQ(refusals_of([] { const Value<Numbers> a{1, 2, 3}; }, [] { return true; }), 0);
    EXPECT_EQ(refusals_of([] { const Value<long[]> a(std::size_t{5}); }, [] { return true; }), 0);
    EXPECT_EQ(refusals_of([] { const Value<int> a(std::in_place, 5); }, [] { return true; }), 0);
    Value<Numbers> a{1, 2, 3};
    EXPECT_EQ(refusals_of([&] { static_cast<void>(a.snapshot()); }, [] { return true; }), 0);
    const Value<Numbers> b = a;
    EXPECT_EQ(refusals_of([&] { a.edit([](Numbers& numbers) { numbers.push_back(4); }); }, [] { return true; }), 0);
    EXPECT_EQ(a->size(), b->size() + 1);
}

TEST(ValueBreakTest, AnEditThatIsRefusedChangesNothing) {
    const Value<Numbers> a{1, 2, 3};
    Value<Numbers> b = a;
    bool edited = false;
    const auto edit = [&] {
        b.edit([&](Numbers& numbers) {
            edited = true;
            numbers.push_back(4);
        });
    };
    refusals_of(edit, [&] { return !edited && *a == kOneToThree && *b == kOneToThree; });
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_EQ(*b, (Numbers{1, 2, 3, 4}));
}

TEST(ValueBreakTest, ASnapshotThatIsRefusedLosesNoChange) {
    const Value<Numbers> a = tests::in_file({1, 2, 3});
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.push_back(4); });
    std::optional<vmcow::Snapshot> snapshot;
    const int refusals = refusals_of([&] { snapshot = b.snapshot(); }, [&] { return b->back() == 4; });
    EXPECT_GE(refusals, 1);
    EXPECT_EQ(Value<Numbers>::from_snapshot(*snapshot)->back(), 4);
    b.edit([](Numbers& numbers) { numbers.push_back(5); });
    const Value<Numbers> c = b;
    refusals_of([&] { b.edit([](Numbers& numbers) { numbers.push_back(6); }); }, [&] { return b->back() == 5; });
    EXPECT_EQ(c->back(), 5);
    EXPECT_EQ(b->back(), 6);
}

TEST(ValueBreakTest, APartThatIsRefusedLeavesTheValueAsItWas) {
    Value<long[]> a(std::size_t{1'000'000});
    a.edit([](std::span<long> longs) { std::iota(longs.begin(), longs.end(), 0L); });
    long seen = 0;
    const int refusals =
        refusals_of([&] { seen = a.part(1000, 500'000).read()[7]; }, [&] { return a[99'999] == 99'999; });
    EXPECT_GE(refusals, 1);
    EXPECT_EQ(seen, 1007);
}

TEST(ValueBreakTest, ASaveThatIsRefusedLeavesTheOldFile) {
    const tests::TemporaryDirectory folder;
    const Value<Numbers> old{7};
    old.save(folder / "file");
    const Value<Numbers> a{1, 2, 3};
    const auto is_old = [&] {
        const auto loaded = Value<Numbers>::load(folder / "file");
        return *loaded == (Numbers{7}) && *a == kOneToThree;
    };
    EXPECT_GE(refusals_of([&] { a.save(folder / "file"); }, is_old), 1);
    const auto loaded = Value<Numbers>::load(folder / "file");
    EXPECT_EQ(*loaded, kOneToThree);
    EXPECT_GE(refusals_of([&] { static_cast<void>(Value<Numbers>::load(folder / "file")); }, [] { return true; }), 1);
}

// ---- address space, mappings and file sizes

// Every refusal is a std::system_error or std::bad_alloc, and leaves the value as it was.
TEST(ValueBreakTest, MemoryThatIsRefusedIsAnExceptionAndNoCrash) {
    EXPECT_EQ(tests::in_child([] {
                  const Value<Numbers> a{1, 2, 3};
                  const tests::ScopedLimit limit(RLIMIT_AS, tests::address_space_bytes());
                  int refused = 0;
                  for (int round = 0; round < 50; ++round) {
                      Value<Numbers> b = a;
                      try {
                          b.edit([](Numbers& numbers) { numbers.resize(std::size_t{1} << 40, 1); });
                          return 1;
                      } catch (const std::bad_alloc&) {
                          ++refused;
                      } catch (const std::system_error&) {
                          ++refused;
                      }
                      if (*a != kOneToThree || *b != kOneToThree) return 2;
                  }
                  return refused == 50 ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(ValueMappingLimitTest, AValueThatCannotBeMappedIsAsBefore) {
    EXPECT_EQ(tests::in_child([] {
                  const Value<Numbers> a{1, 2, 3};
                  Value<Numbers> b = a;
                  int refused = 0;
                  for (std::size_t free = 0; free <= 16; free += 2) {
                      const tests::MappingLimit limit(free);
                      const int error =
                          tests::error_of([&] { b.edit([](Numbers& numbers) { numbers.push_back(4); }); });
                      if (error == 0) return *b == (Numbers{1, 2, 3, 4}) && *a == kOneToThree && refused > 0 ? 0 : 1;
                      if (error != ENOMEM) return 2;
                      if (*a != kOneToThree || *b != kOneToThree) return 3;
                      ++refused;
                  }
                  return 4;
              }),
              tests::kChildExitedWell);
}

// A moved value gets room to grow in a file, and that file would exceed the limit of this process.
TEST(ValueBreakTest, ALimitOfFilesIsNoSignalForAMovedValue) {
    EXPECT_EQ(tests::in_child([] {
                  tests::set_action(SIGXFSZ, SIG_DFL);
                  Pool pool(tests::workers(1));
                  if (!pool.call(tests::answer).ok()) return 4;  // its worker then has the files that it needs
                  Value<Numbers> a = tests::in_file({1, 2, 3});
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, 1 << 20);
                  for (long i = 0; i < 3; ++i) {
                      auto result = pool.apply(push, std::move(a), i);
                      if (!result.ok()) return 1;
                      a = std::move(result).value();
                  }
                  if (sum_of(*a) != 9) return 2;
                  const auto too_many = [](Numbers& numbers) { numbers.resize(1'000'000, 1); };
                  const auto result = pool.apply(too_many, std::move(a));
                  return result.outcome().kind == OutcomeKind::threw ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

// ---- values in closures of forked function processes

TEST(ValueBreakTest, AClosureReadsEditsGrowsAndReturnsValues) {
    Value<Numbers> a{1, 2, 3};
    Value<Numbers> shared{1, 2};
    const Value<Numbers> other = shared;
    shared.edit([](Numbers& numbers) { numbers.push_back(3); });
    for (Value<Numbers>* const value : {&a, &shared}) {
        auto result = procrun::fork_call([&] {
            value->edit([](Numbers& numbers) { numbers.push_back(4); });
            const long before = sum_of(**value);
            return std::pair(before, *value);
        });
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.value().first, 10);
        EXPECT_EQ(*result.value().second, (Numbers{1, 2, 3, 4}));
        EXPECT_EQ(**value, kOneToThree);
    }
    EXPECT_EQ(*other, (Numbers{1, 2}));
    EXPECT_EQ(procrun::fork_call([&] { return sum_of(*other) + sum_of(*a); }).value(), 9);
}

/// The value that a closure makes much longer, as it comes back.
Value<Numbers> grown_in_a_closure(Value<Numbers>& a) {
    auto result = procrun::fork_call([&] {
        a.edit([](Numbers& numbers) { numbers.resize(500'000, 1); });
        return a;
    });
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
    return result.ok() ? std::move(result).value() : Value<Numbers>{0};
}

TEST(ValueBreakTest, AClosureGrowsAPrivateValue) {
    const Value<Numbers> base{1, 2, 3};
    Value<Numbers> a = base;
    a.edit([](Numbers& numbers) { numbers.push_back(4); });
    const auto grown = grown_in_a_closure(a);
    EXPECT_EQ(sum_of(*grown), 10 + 499'996);
    EXPECT_EQ(*a, (Numbers{1, 2, 3, 4}));
}

TEST(ValueBreakTest, AClosureGrowsAUniqueValue) {
    Value<Numbers> a{1, 2, 3};
    const auto grown = grown_in_a_closure(a);
    EXPECT_EQ(sum_of(*grown), 6 + 499'997);
    EXPECT_EQ(*a, kOneToThree);
}

TEST(ValueBreakTest, AClosureGoesOnReadingWhatItHasShared) {
    Value<Numbers> a{1, 2, 3};
    const auto result = procrun::fork_call([&] {
        const Numbers& read = *a;
        Value<Numbers> b = a;
        b.edit([](Numbers& numbers) { numbers.push_back(4); });
        const long before = sum_of(read) * 1000 + sum_of(*a) * 100 + sum_of(*b);
        a.edit([](Numbers& numbers) { numbers.front() = 2; });
        return before * 10 + sum_of(*a);
    });
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(result.value(), 66107);
}

TEST(ValueBreakTest, AClosureOfAClosureSeesWhatThatHasChanged) {
    Value<Numbers> a{1, 2, 3};
    Value<Numbers> shared{1, 2, 3};
    const Value<Numbers> other = shared;
    const auto result = procrun::fork_call([&] {
        for (Value<Numbers>* const value : {&a, &shared}) push_to(*value, 4);
        return procrun::fork_call([&] {
                   for (Value<Numbers>* const value : {&a, &shared}) push_to(*value, 5);
                   return sum_of(*a) * 100 + sum_of(*shared);
               })
            .value();
    });
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(result.value(), 1515);
    EXPECT_EQ(sum_of(*a), 6);
}

TEST(ValueBreakTest, AClosureMakesAValueThatIsLargerThanItsCallers) {
    const Value<Numbers> a{1, 2, 3};
    const Value<Numbers> made = procrun::fork_call([&] {
                                    Value<Numbers> b;
                                    b.edit([&](Numbers& numbers) {
                                        numbers = *a;
                                        numbers.resize(500'000, 1);
                                    });
                                    return b;
                                }).value();
    EXPECT_EQ(sum_of(*made), 6 + 499'997);
}

// ---- handles

TEST(ValueBreakTest, AnEditInAnEditIsTheSameEdit) {
    const Value<Numbers> a{1};
    Value<Numbers> b = a;
    const std::size_t size = b.edit([&](Numbers& numbers) {
        numbers.push_back(2);
        b.edit([](Numbers& again) { again.resize(100'000, 3); });
        numbers.push_back(4);
        return numbers.size();
    });
    EXPECT_EQ(size, 100'001U);
    EXPECT_EQ(b->back(), 4);
    EXPECT_EQ(b->at(1), 2);
    EXPECT_EQ(a->size(), 1U);
    const Value<Numbers> c = b;
    EXPECT_EQ(c->size(), size);
}

TEST(ValueBreakTest, AfterAnExceptionOutOfNestedEditsTheValueCanBeCopied) {
    Value<Numbers> a{1};
    const auto fail = [&] {
        a.edit([&](Numbers& numbers) {
            numbers.push_back(2);
            a.edit([](Numbers& again) {
                again.push_back(3);
                throw std::runtime_error("enough");
            });
        });
    };
    EXPECT_THROW(fail(), std::runtime_error);
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_EQ(*b, (Numbers{1, 2, 3, 4}));
}

struct Refuses {
    Refuses() { throw std::runtime_error("no"); }
    Numbers numbers;
};

}  // namespace

template <>
inline constexpr bool vmcow::kVouched<Refuses> = true;

namespace {

TEST(ValueBreakTest, AnExceptionOfItsConstructorLeavesNoValue) { EXPECT_THROW(Value<Refuses>{}, std::runtime_error); }

TEST(ValueBreakTest, AssigningAValueToItselfChangesNothing) {
    Value<Numbers> a{1, 2, 3};
    Value<Numbers>& same = a;
    a = same;
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_TRUE(a.is_unique());
    a = std::move(same);
    EXPECT_EQ(*a, kOneToThree);
    EXPECT_TRUE(a.is_unique());
    std::swap(a, same);
    EXPECT_EQ(*a, kOneToThree);
}

TEST(ValueBreakTest, AMovedFromValueCanBeAssignedCopiedAndEnded) {
    Value<Numbers> a{1, 2, 3};
    const Value<Numbers> b = std::move(a);
    const Value<Numbers> nothing = a;  // NOLINT(bugprone-use-after-move): the test uses the moved-from value
    a = b;
    a.edit([](Numbers& numbers) { numbers.push_back(4); });
    EXPECT_EQ(*b, kOneToThree);
    EXPECT_EQ(*a, (Numbers{1, 2, 3, 4}));
}

TEST(ValueBreakDeathTest, UsingAMovedFromValueIsABugThatIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<Numbers> a{1, 2, 3};
    const Value<Numbers> b = std::move(a);
    // NOLINTBEGIN(bugprone-use-after-move): the test uses the moved-from value.
    EXPECT_DEATH(static_cast<void>(a.read()), "moved from");
    EXPECT_DEATH(a.edit([](Numbers&) {}), "moved from");
    EXPECT_DEATH(static_cast<void>(a.snapshot()), "moved from");
    EXPECT_DEATH(static_cast<void>(a.is_unique()), "moved from");
    EXPECT_DEATH(static_cast<void>(a.changes()), "moved from");
    // NOLINTEND(bugprone-use-after-move)
}

// The message names the class and the member function, whichever handle is used.
TEST(ValueBreakDeathTest, UsingAnyMovedFromHandleIsABugThatIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<long[]> array{1, 2, 3};
    const Value<long[]> kept_array = std::move(array);
    vmcow::Arena arena;
    static_cast<void>(arena.allocate_array<long>(3));
    vmcow::Arena other_arena = std::move(arena);
    vmcow::Snapshot snapshot = std::move(other_arena).freeze();
    vmcow::View view = snapshot.map_private();
    vmcow::View kept_view = std::move(view);
    const vmcow::Snapshot kept_snapshot = std::move(snapshot);
    // NOLINTBEGIN(bugprone-use-after-move): the test uses the moved-from handles.
    EXPECT_DEATH(static_cast<void>(array.size()), "vmcow::Value::size: .*moved from");
    EXPECT_DEATH(static_cast<void>(array[0]), "vmcow::Value::.*moved from");
    EXPECT_DEATH(array.edit([](std::span<long>) {}), "vmcow::Value::edit: .*moved from");
    EXPECT_DEATH(static_cast<void>(array.part(0)), "vmcow::Value::.*moved from");
    EXPECT_DEATH(static_cast<void>(arena.allocate(1)), "vmcow::Arena::allocate: .*moved from");
    EXPECT_DEATH(static_cast<void>(arena.extent_bytes()), "vmcow::Arena::extent_bytes: .*moved from");
    EXPECT_DEATH(static_cast<void>(std::move(other_arena).freeze()), "vmcow::Arena::freeze: .*moved from");
    EXPECT_DEATH(static_cast<void>(view.bytes()), "vmcow::View::bytes: .*moved from");
    EXPECT_DEATH(static_cast<void>(view.capture()), "vmcow::View::capture: .*moved from");
    EXPECT_DEATH(static_cast<void>(snapshot.bytes()), "vmcow::Snapshot::.*moved from");
    EXPECT_DEATH(static_cast<void>(snapshot.map_private()), "vmcow::Snapshot::.*moved from");
    // NOLINTEND(bugprone-use-after-move)
    array = kept_array;
    snapshot = kept_snapshot;
    arena = vmcow::Arena();
    view = std::move(kept_view);
    EXPECT_EQ(array[2], 3);
    EXPECT_EQ(snapshot.extent_bytes(), 3 * sizeof(long));
    EXPECT_EQ(view.as<long>()[0], 0);
    EXPECT_EQ(arena.extent_bytes(), 0U);
}

TEST(ValueBreakDeathTest, SharingOrReplacingAValueWhileItIsEditedIsABugThatIsNamed) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    Value<Numbers> a{1, 2, 3};
    EXPECT_DEATH(a.edit([&](Numbers&) { static_cast<void>(a.snapshot()); }), "being edited");
    EXPECT_DEATH(a.edit([&](Numbers&) { a = Value<Numbers>{4}; }), "being edited");
}

// ---- much, long, late

// Descriptors, mappings (the leak guard) and the image stay as small as after one edit, because freed memory is reused.
TEST(ValueBreakTest, AMillionEditsTakeNoMoreThanOne) {
    Value<Numbers> a{1, 2, 3};
    Value<Numbers> b = a;
    b.edit([](Numbers& numbers) { numbers.reserve(1000); });
    const std::uint64_t a_bytes = a.extent_bytes();
    const std::uint64_t b_bytes = b.extent_bytes();
    const std::size_t addresses = tests::address_space_bytes();
    for (long i = 0; i < 500'000; ++i) {
        for (Value<Numbers>* const value : {&a, &b}) {
            value->edit([i](Numbers& numbers) {
                Numbers scratch(static_cast<std::size_t>(i % 7), i);
                numbers.back() = i + static_cast<long>(scratch.size());
            });
        }
    }
    EXPECT_EQ(a.extent_bytes(), a_bytes);
    EXPECT_EQ(b.extent_bytes(), b_bytes);
    EXPECT_LE(b.changes().copied, vmcow::pages_of(b_bytes));
    EXPECT_LE(tests::address_space_bytes(), addresses + (std::size_t{8} << 20));
    EXPECT_EQ(a->back(), 499'999 + 499'999 % 7);
}

TEST(ValueBreakTest, CopyingAndEditingWithoutEndKeepsNothing) {
    Value<Numbers> a{1, 2, 3};
    a.edit([](Numbers& numbers) { numbers.reserve(100); });
    const std::uint64_t bytes = a.extent_bytes();
    for (long i = 0; i < 2'000; ++i) {
        const Value<Numbers> before = a;
        a.edit([i](Numbers& numbers) { numbers.back() = i; });
        ASSERT_EQ(before->back(), i == 0 ? 3 : i - 1);
    }
    EXPECT_EQ(a.extent_bytes(), bytes);
    EXPECT_LE(a.snapshot().delta_count(), vmcow::Layers::kMaxDeltas);
}

// When the snapshots of a value have been merged into others, the value still has the layers that it was mapped from,
// and the memory of deltas that nothing refers to is reused.
TEST(ValueBreakTest, AValueKeepsThePagesThatItHasNotWritten) {
    const auto write = [](Value<long[]>& value, std::size_t first_page, std::size_t pages, long number) {
        value.edit([&](std::span<long> longs) {
            std::fill_n(longs.begin() + static_cast<std::ptrdiff_t>(first_page * tests::kLongsInPage),
                        pages * tests::kLongsInPage, number);
        });
    };
    Value<long[]> a(200 * tests::kLongsInPage);
    static_cast<void>(a.snapshot());
    write(a, 0, 40, 1);
    Value<long[]> b = a;
    write(b, 100, 1, 2);
    a = Value<long[]>();
    for (std::size_t i = 0; i < 2 * vmcow::Layers::kMaxDeltas; ++i) {
        write(b, 110, 80, static_cast<long>(i));
        static_cast<void>(b.snapshot());
    }
    std::vector<Value<long[]>> others;
    for (int i = 0; i < 10; ++i) {
        others.emplace_back(200 * tests::kLongsInPage);
        static_cast<void>(others.back().snapshot());
        write(others.back(), 0, 60, 9);
        static_cast<void>(others.back().snapshot());
    }
    EXPECT_EQ(std::accumulate(b.read().begin(), b.read().end(), 0L),
              static_cast<long>((40 + 2 + 80 * (2 * vmcow::Layers::kMaxDeltas - 1)) * tests::kLongsInPage));
}

TEST(ValueBreakTest, AValueGoesIntoAThreadAndComesBack) {
    Value<Numbers> a{1, 2, 3};
    std::optional<Value<Numbers>> back;
    std::thread thread([mine = std::move(a), &back]() mutable {
        mine.edit([](Numbers& numbers) { numbers.resize(100'000, 1); });
        back = std::move(mine);
    });
    thread.join();
    EXPECT_EQ(sum_of(**back), 6 + 99'997);
    back->edit([](Numbers& numbers) { numbers.push_back(1); });
    EXPECT_TRUE(back->is_unique());
}

TEST(ValueBreakDeathTest, StaticValuesEndWithTheProcess) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a child of fork(2) has no images
    const auto keep_and_exit = [] {
        static Value<Numbers> kept{1, 2, 3};
        static Value<Numbers> copy = kept;
        copy.edit([](Numbers& numbers) { numbers.resize(100'000, 1); });
        static const vmcow::Snapshot snapshot = copy.snapshot();
        static Value<Numbers> third = copy;
        third.edit([](Numbers& numbers) { numbers[5] = 2; });
        static const auto part = third.part([](const Numbers& numbers) -> const Numbers& { return numbers; });
        std::exit(part.read()[5] == 2 ? 0 : 1);
    };
    EXPECT_EXIT(keep_and_exit(), testing::ExitedWithCode(0), "");
}

}  // namespace
