// Tests that a moved-from structure is empty, whatever took its content, and can be used like any empty structure.
#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/block_map_table.hpp"
#include "vmcow/heap/block_table.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"

// NOLINTBEGIN(bugprone-use-after-move): that is what is tested

namespace {

namespace heap = vmcow::heap;

constexpr heap::Options kPlain{};

/// Ways to put an element into a structure; here into a sequence of numbers.
template <class Sequence>
struct AnySequenceCase {
    using Structure = Sequence;
    static void add(Structure& to) { to.push_in_place(7); }
    static Structure with(const Structure& to) { return to.push(7); }
    static Structure with(Structure&& to) { return std::move(to).push(7); }
    static void join(Structure& to, const Structure& other) { to.concat_in_place(other); }
};
/// The cases, with the allocator `A`. `same` makes a change that has no effect.
template <template <class> class A>
struct ListCase : AnySequenceCase<heap::list<long, kPlain, A<long>>> {
    using Structure = heap::list<long, kPlain, A<long>>;
    static Structure same(Structure&& to) { return std::move(to).take(1000); }
};
template <template <class> class A>
struct SliceCase : AnySequenceCase<heap::slice<long, kPlain, A<long>>> {
    using Structure = heap::slice<long, kPlain, A<long>>;
    static Structure same(Structure&& to) { return std::move(to).drop(0); }
};
/// `Text::kText` is the text that is put into the string.
template <class String, class Text>
struct AnyStringCase {
    using Structure = String;
    static void add(Structure& to) { to.concat_in_place(Text::kText); }
    static Structure with(const Structure& to) { return to.concat(Text::kText); }
    static Structure with(Structure&& to) { return std::move(to).concat(Text::kText); }
    static Structure same(Structure&& to) { return std::move(to).trim(); }
    static void join(Structure& to, const Structure& other) { to.concat_in_place(other); }
};
struct ShortText {
    static constexpr const char* kText = "seven";
};
struct LongText {
    static constexpr const char* kText = "a text that is too long to be small";
};
template <template <class> class A>
struct ShortStringCase : AnyStringCase<heap::basic_string<kPlain, A<char>>, ShortText> {};
template <template <class> class A>
struct LongStringCase : AnyStringCase<heap::basic_string<kPlain, A<char>>, LongText> {};
template <class Map>
struct AnyMapCase {
    using Structure = Map;
    static void add(Structure& to) { to.set_in_place(7, 70); }
    static Structure with(const Structure& to) { return to.set(7, 70); }
    static Structure with(Structure&& to) { return std::move(to).set(7, 70); }
    static Structure same(Structure&& to) {
        if constexpr (requires { to.remove(99); }) {
            return std::move(to).remove(99);
        } else {
            return std::move(to).erase(99);
        }
    }
    static void join(Structure& to, const Structure& other) {
        if (other.contains(7)) to.set_in_place(7, other.at(7));
    }
};
template <template <class> class A>
using MapCase = AnyMapCase<heap::map<long, long, kPlain, A<std::pair<const long, long>>>>;
template <template <class> class A>
using OrderedMapCase = AnyMapCase<heap::ordered_map<long, long, kPlain, A<std::pair<const long, long>>>>;
template <template <class> class A>
using BlockMapCase = AnyMapCase<
    heap::block_map<long, long, kPlain, std::hash<long>, std::equal_to<long>, A<heap::MapEntry<long, long>>>>;
template <template <class> class A>
struct SetCase {
    using Structure = heap::set<long, kPlain, A<long>>;
    static void add(Structure& to) { to.insert_in_place(7); }
    static Structure with(const Structure& to) { return to.insert(7); }
    static Structure with(Structure&& to) { return std::move(to).insert(7); }
    static Structure same(Structure&& to) { return std::move(to).subtract(Structure(to.get_allocator())); }
    static void join(Structure& to, const Structure& other) { to.unite_in_place(other); }
};
template <template <class> class A>
struct BlockArrayCase {
    using Structure = heap::block_array<long, kPlain, A<long>>;
    static void add(Structure& to) { to.push_back_in_place(7); }
    static Structure with(const Structure& to) { return to.push_back(7); }
    static Structure with(Structure&& to) { return std::move(to).push_back(7); }
    static Structure same(Structure&& to) { return std::move(to).push_back(7).pop_back(); }
    static void join(Structure& to, const Structure& other) {
        for (const long each : other) to.push_back_in_place(each);
    }
};

/// Checks that `moved_from` is empty and behaves like a new structure.
template <class Case>
void expect_empty(typename Case::Structure& moved_from) {
    using S = typename Case::Structure;
    const S none(moved_from.get_allocator());
    EXPECT_TRUE(moved_from.empty());
    EXPECT_EQ(moved_from.size(), 0U);
    EXPECT_EQ(moved_from, none);
    EXPECT_EQ(moved_from.begin(), moved_from.end());
    EXPECT_TRUE(moved_from.is_unique());
    const S copy = moved_from;
    EXPECT_EQ(copy, none);
    // As an argument of an operation.
    S joined = Case::with(none);
    Case::join(joined, moved_from);
    EXPECT_EQ(joined, Case::with(none));
    EXPECT_EQ(Case::with(std::as_const(moved_from)), Case::with(none));
    EXPECT_TRUE(moved_from.empty());
    Case::join(moved_from, joined);
    EXPECT_EQ(moved_from, joined);
    // Filled and moved from again, in each form.
    S taken = std::move(moved_from);
    EXPECT_TRUE(moved_from.empty());
    moved_from = Case::with(std::move(moved_from));
    EXPECT_EQ(moved_from, taken);
    moved_from.clear_in_place();
    Case::add(moved_from);
    EXPECT_EQ(moved_from, taken);
}

template <class Case>
class HeapMovedTest : public testing::Test {};
using Cases = testing::Types<ListCase<std::allocator>, SliceCase<std::allocator>, ShortStringCase<std::allocator>,
                             LongStringCase<std::allocator>, MapCase<std::allocator>, OrderedMapCase<std::allocator>,
                             SetCase<std::allocator>, BlockArrayCase<std::allocator>, BlockMapCase<std::allocator>>;
TYPED_TEST_SUITE(HeapMovedTest, Cases);

TYPED_TEST(HeapMovedTest, WhateverTakesAnRvalueLeavesItEmpty) {
    using S = typename TypeParam::Structure;
    const S full = TypeParam::with(S());
    for (const bool shared : {false, true}) {
        const auto make = [&] { return shared ? full : TypeParam::with(S()); };
        S a = make();
        const S constructed(std::move(a));
        EXPECT_EQ(constructed, full);
        expect_empty<TypeParam>(a);
        a = make();
        S assigned;
        assigned = std::move(a);
        EXPECT_EQ(assigned, full);
        expect_empty<TypeParam>(a);
        a = make();
        assigned = std::move(a);
        EXPECT_EQ(assigned, full);
        expect_empty<TypeParam>(a);
        a = make();
        static_cast<void>(TypeParam::with(std::move(a)));
        expect_empty<TypeParam>(a);
        a = make();
        static_cast<void>(TypeParam::same(std::move(a)));
        expect_empty<TypeParam>(a);
        a = make();
        [](S) {}(std::move(a));
        expect_empty<TypeParam>(a);
        a = make();
        const S exchanged = std::exchange(a, {});
        EXPECT_EQ(exchanged, full);
        expect_empty<TypeParam>(a);
        const std::vector<S> within = [&] {
            std::vector<S> all;
            a = make();
            all.push_back(std::move(a));
            return all;
        }();
        EXPECT_EQ(within[0], full);
        expect_empty<TypeParam>(a);
    }
}

TYPED_TEST(HeapMovedTest, MovingToItselfAndSwappingLoseNothing) {
    using S = typename TypeParam::Structure;
    const S full = TypeParam::with(S());
    S a = full;
    S& same = a;
    a = std::move(same);
    EXPECT_EQ(a, full);
    using std::swap;
    swap(a, same);
    EXPECT_EQ(a, full);
    S none;
    swap(a, none);
    EXPECT_EQ(none, full);
    expect_empty<TypeParam>(a);
    // Moves between two that share memory.
    S b = full;
    S c = full;
    b = std::move(c);
    EXPECT_EQ(b, full);
    expect_empty<TypeParam>(c);
}

// ---- between different memories, as into a value: the elements are copied, and the source is empty afterwards

template <class Case>
class HeapMovedFarTest : public testing::Test {};
using FarCases =
    testing::Types<ListCase<tests::HeapAllocator>, SliceCase<tests::HeapAllocator>,
                   ShortStringCase<tests::HeapAllocator>, LongStringCase<tests::HeapAllocator>,
                   MapCase<tests::HeapAllocator>, OrderedMapCase<tests::HeapAllocator>, SetCase<tests::HeapAllocator>,
                   BlockArrayCase<tests::HeapAllocator>, BlockMapCase<tests::HeapAllocator>>;
TYPED_TEST_SUITE(HeapMovedFarTest, FarCases);

TYPED_TEST(HeapMovedFarTest, MovingToOtherMemoryEmptiesAsWell) {
    using S = typename TypeParam::Structure;
    tests::CountedHeap here;
    tests::CountedHeap there;
    {
        const typename S::allocator_type in_here(here);
        const typename S::allocator_type in_there(there);
        const S full = TypeParam::with(S(in_here));
        S a = TypeParam::with(S(in_here));
        S assigned(in_there);
        assigned = std::move(a);
        EXPECT_EQ(assigned, full);
        expect_empty<TypeParam>(a);
        a = full;
        const S constructed(std::move(a), in_there);
        EXPECT_EQ(constructed, full);
        expect_empty<TypeParam>(a);
    }
    EXPECT_EQ(here.blocks, 0U);
    EXPECT_EQ(there.blocks, 0U);
}

TYPED_TEST(HeapMovedFarTest, AMoveThatFailsEmptiesNothing) {
    using S = typename TypeParam::Structure;
    tests::CountedHeap here;
    tests::CountedHeap there;
    const typename S::allocator_type in_here(here);
    const typename S::allocator_type in_there(there);
    const S full = TypeParam::with(S(in_here));
    S a = full;
    S b = TypeParam::with(TypeParam::with(S(in_there)));
    const S before = b;
    there.left_to_give = 0;
    try {
        b = std::move(a);
        // A small string needs no allocation, so the move succeeds.
        EXPECT_EQ(b, full);
        EXPECT_TRUE(a.empty());
    } catch (const std::bad_alloc&) {
        EXPECT_EQ(a, full);
        EXPECT_EQ(b, before);
    }
    there.left_to_give = tests::CountedHeap::kNone;
}

TYPED_TEST(HeapMovedFarTest, ASwapThatFailsLeavesBothAsTheyWere) {
    using S = typename TypeParam::Structure;
    tests::CountedHeap here;
    tests::CountedHeap there;
    const typename S::allocator_type in_here(here);
    const typename S::allocator_type in_there(there);
    S a = TypeParam::with(S(in_here));
    S b = TypeParam::with(TypeParam::with(S(in_there)));
    const S a_before = a;
    const S b_before = b;
    for (const auto& [in_a, in_b] : {std::pair(0, 0), {0, 100}, {100, 0}, {1, 100}, {100, 1}, {100, 100}}) {
        here.left_to_give = static_cast<std::size_t>(in_a);
        there.left_to_give = static_cast<std::size_t>(in_b);
        bool swapped = true;
        try {
            swap(a, b);
        } catch (const std::bad_alloc&) {
            swapped = false;
        }
        here.left_to_give = there.left_to_give = tests::CountedHeap::kNone;
        EXPECT_TRUE(swapped || in_a + in_b < 200);
        EXPECT_EQ(a, swapped ? b_before : a_before) << in_a << ' ' << in_b;
        EXPECT_EQ(b, swapped ? a_before : b_before) << in_a << ' ' << in_b;
        if (swapped) swap(a, b);
    }
}

// ---- builders and tables

TEST(HeapMovedBuilderTest, ABuilderThatHasBuiltIsEmptyAndBuildsAgain) {
    heap::block_array<long>::builder builder;
    const std::vector<long> many(1000, 5);
    for (int round = 0; round < 3; ++round) {
        builder.append(many);
        builder.push_back(6);
        EXPECT_EQ(builder.size(), 1001U);
        const auto built = std::move(builder).build();
        EXPECT_EQ(built.size(), 1001U);
        EXPECT_EQ(built.back(), 6);
        EXPECT_EQ(builder.size(), 0U);
    }
    EXPECT_TRUE(std::move(builder).build().empty());
    // A builder that continues an array leaves that array empty.
    heap::block_array<long> begun{1, 2};
    heap::block_array<long>::builder more(std::move(begun));
    EXPECT_TRUE(begun.empty());
    begun.push_back_in_place(9);
    EXPECT_EQ(std::move(more).build(), (heap::block_array<long>{1, 2}));
    EXPECT_EQ(begun, (heap::block_array<long>{9}));
}

TEST(HeapMovedBuilderTest, TablesAreNotMoved) {
    static_assert(!std::is_move_constructible_v<heap::block_table<long>>);
    static_assert(!std::is_move_assignable_v<heap::block_table<long>>);
    static_assert(!std::is_move_constructible_v<heap::block_map_table<long, long>>);
    static_assert(!std::is_move_constructible_v<heap::block_array<long>::builder>);
    heap::block_table<long> table;
    heap::block_array<long> array(std::vector<long>(1000, 5));
    const auto taken = std::move(array);
    EXPECT_EQ(table.deduplicate(array), heap::Deduplicated{});
    EXPECT_TRUE(array.empty());
    EXPECT_EQ(taken.size(), 1000U);
}

}  // namespace

// NOLINTEND(bugprone-use-after-move)
