// Tests the three forms of each change of a structure that is shared as a whole: they give the same result at the same
// cost.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_lists.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"

namespace {

namespace heap = vmcow::heap;
using heap::Counters;
using tests::counted;
using tests::kCounted;
using List = tests::CountedList;
using Slice = tests::CountedSlice;
using String = heap::basic_string<kCounted>;
using Map = heap::map<long, long, kCounted>;
using OrderedMap = heap::ordered_map<long, long, kCounted>;
using Set = heap::set<long, kCounted>;

template <class S>
struct Operation {
    const char* name;
    std::function<S(const S&)> kept;
    std::function<S(S&&)> moved;
    std::function<void(S&)> in_place;
};
template <class S>
using Operations = std::vector<Operation<S>>;

/// The three forms of `operation` on an `S`.
#define FORMS(operation, ...)                                               \
    {                                                                       \
#operation, [](const S& x) { return x.operation(__VA_ARGS__); },          \
            [](S&& x) { return std::move(x).operation(__VA_ARGS__); },            \
            [](S& x) { x.operation##_in_place(__VA_ARGS__); } \
    }

constexpr auto kAddTen = [](long& each) { each += 10; };

/// The operations that lists and slices both have.
template <class S>
Operations<S> operations_of_elements() {
    return {FORMS(push, 7),
            FORMS(pop),
            FORMS(insert, 2, 7),
            FORMS(insert, 0, 7),
            FORMS(remove, 3),
            FORMS(remove, 0),
            FORMS(set, 2, 7),
            FORMS(update, 2, kAddTen),
            FORMS(reverse),
            FORMS(sort),
            FORMS(sort, std::greater<>()),
            FORMS(concat, x),
            FORMS(concat, (List{4, 5, 6})),
            FORMS(concat, (List{4, 5, 6}.slice(1, 2))),
            FORMS(concat, x.span().subspan(std::min<std::size_t>(1, x.size()))),
            FORMS(take, 3),
            FORMS(drop, 2)};
}
template <class S>
Operations<S> operations() {
    return operations_of_elements<S>();
}
template <>
Operations<List> operations<List>() {
    using S = List;
    Operations<S> all = operations_of_elements<S>();
    all.push_back(FORMS(reserve, 100));
    return all;
}
template <>
Operations<Slice> operations<Slice>() {
    using S = Slice;
    Operations<S> all = operations_of_elements<S>();
    all.push_back(FORMS(slice_of, 1, 3));
    all.push_back(FORMS(compact));
    return all;
}
template <>
Operations<String> operations<String>() {
    using S = String;
    return {FORMS(concat, "and more of it"),
            FORMS(concat, x.view().substr(0, 5)),
            FORMS(concat, ""),
            FORMS(set, 2, '-'),
            FORMS(substring, 1, 30),
            FORMS(substring, 2),
            FORMS(substring, 1, 3),
            FORMS(trim),
            FORMS(trim, "a")};
}
template <class S>
Operations<S> operations_of_map() {
    return {FORMS(set, 2, 20), FORMS(set, 9, 90), FORMS(set, 1, 5),
            FORMS(remove, 2),  FORMS(remove, 77), FORMS(update, 3, kAddTen)};
}
template <>
Operations<Map> operations<Map>() {
    return operations_of_map<Map>();
}
template <>
Operations<OrderedMap> operations<OrderedMap>() {
    return operations_of_map<OrderedMap>();
}
template <>
Operations<Set> operations<Set>() {
    using S = Set;
    return {FORMS(insert, 2),
            FORMS(insert, 9),
            FORMS(remove, 2),
            FORMS(remove, 77),
            FORMS(unite, x),
            FORMS(unite, (Set{2, 30, 31})),
            FORMS(intersect, (Set{1, 2, 3, 9})),
            FORMS(subtract, (Set{3, 9}))};
}
#undef FORMS

template <class S>
S made();
template <>
List made<List>() {
    return {3, 1, 2, 5, 4};
}
template <>
Slice made<Slice>() {
    return List{9, 9, 3, 1, 2, 5, 4, 9}.slice(2, 5);
}
template <>
String made<String>() {
    return " a text that is too long to be small";
}
template <>
Map made<Map>() {
    return {{1, 10}, {2, 11}, {3, 12}};
}
template <>
OrderedMap made<OrderedMap>() {
    return {{2, 11}, {1, 10}, {3, 12}};
}
template <>
Set made<Set>() {
    return {1, 2, 3, 4};
}

/// The elements; those of sets and maps in ascending order, because their own order is not fixed.
template <class S>
std::vector<long> content(const S& structure) {
    std::vector<long> all;
    for (const auto& each : structure) {
        if constexpr (requires { each.second; }) {
            all.insert(all.end(), {each.first, each.second});
        } else {
            all.push_back(each);
        }
    }
    if constexpr (std::is_same_v<S, Set>) std::ranges::sort(all);
    if constexpr (std::is_same_v<S, Map>) {
        std::vector<std::pair<long, long>> entries;
        for (const auto& [key, value] : structure) entries.emplace_back(key, value);
        std::ranges::sort(entries);
        all.clear();
        for (const auto& [key, value] : entries) all.insert(all.end(), {key, value});
    }
    return all;
}

template <class S>
class HeapInPlaceTest : public testing::Test {};
using Structures = testing::Types<List, Slice, String, Map, OrderedMap, Set>;
TYPED_TEST_SUITE(HeapInPlaceTest, Structures);

TYPED_TEST(HeapInPlaceTest, AllFormsDoTheSame) {
    const auto before = content(made<TypeParam>());
    for (const auto& operation : operations<TypeParam>()) {
        SCOPED_TRACE(operation.name);
        const auto original = made<TypeParam>();
        const auto kept = content(operation.kept(original));
        EXPECT_EQ(content(original), before);
        auto moved = made<TypeParam>();
        moved = operation.moved(std::move(moved));
        EXPECT_EQ(content(moved), kept);
        auto in_place = made<TypeParam>();
        operation.in_place(in_place);
        EXPECT_EQ(content(in_place), kept);
    }
}

TYPED_TEST(HeapInPlaceTest, InPlaceCostsWhatTheFormOnRvaluesCosts) {
    for (const auto& operation : operations<TypeParam>()) {
        SCOPED_TRACE(operation.name);
        for (const bool shared : {false, true}) {
            auto moved = made<TypeParam>();
            auto in_place = made<TypeParam>();
            const auto sharers = shared ? std::optional(std::pair(moved, in_place)) : std::nullopt;
            const Counters of_moved = counted([&] { moved = operation.moved(std::move(moved)); });
            const Counters of_in_place = counted([&] { operation.in_place(in_place); });
            EXPECT_EQ(of_in_place, of_moved) << shared;
            EXPECT_LE(of_in_place.copies, shared ? 1U : 0U);
        }
    }
}

TYPED_TEST(HeapInPlaceTest, OneThatIsSharedStaysForTheOthers) {
    const auto before = content(made<TypeParam>());
    for (const auto& operation : operations<TypeParam>()) {
        SCOPED_TRACE(operation.name);
        auto changed = made<TypeParam>();
        const auto sharer = changed;
        operation.in_place(changed);
        EXPECT_EQ(content(sharer), before);
        // A structure that is not shared any more copies nothing.
        if (!changed.is_unique()) continue;
        EXPECT_EQ(counted([&] { operation.in_place(changed); }).copies, 0U);
        EXPECT_EQ(content(sharer), before);
    }
}

TYPED_TEST(HeapInPlaceTest, ClearedOnesAreEmptyAndTheirSharersAreNot) {
    auto cleared = made<TypeParam>();
    const auto sharer = cleared;
    EXPECT_EQ(counted([&] { cleared.clear_in_place(); }), Counters{});
    EXPECT_TRUE(cleared.empty() && sharer.is_unique());
    EXPECT_EQ(content(sharer), content(made<TypeParam>()));
    cleared.clear_in_place();
    cleared = sharer;
    EXPECT_EQ(content(cleared), content(sharer));
}

/// Applies random operations in all three forms side by side, and checks that copies of earlier states keep their
/// content.
template <class S>
void expect_same_on_random_sequences() {
    const Operations<S> all = operations<S>();
    S in_place = made<S>();
    S moved = in_place;
    S kept = made<S>();
    std::vector<std::pair<S, std::vector<long>>> before;
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        if (*rc::gen::inRange(0, 3) == 0) before.emplace_back(*rc::gen::element(in_place, moved, kept), content(kept));
        if (before.size() > 4) before.erase(before.begin());
        if (in_place.size() > 500) in_place = moved = kept = made<S>();
        const Operation<S>& operation = all[*rc::gen::inRange<std::size_t>(0, all.size())];
        const auto refused = [](const auto& action) {
            try {
                action();
                return false;
            } catch (const std::out_of_range&) {
                return true;
            }
        };
        const bool is_refused = refused([&] { kept = operation.kept(kept); });
        RC_ASSERT(refused([&] { moved = operation.moved(std::move(moved)); }) == is_refused);
        RC_ASSERT(refused([&] { operation.in_place(in_place); }) == is_refused);
        RC_ASSERT(content(in_place) == content(kept) && content(moved) == content(kept));
        for (const auto& [copy, expected] : before) RC_ASSERT(content(copy) == expected);
    }
}
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfListsDoTheSame, ()) { expect_same_on_random_sequences<List>(); }
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfSlicesDoTheSame, ()) { expect_same_on_random_sequences<Slice>(); }
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfStringsDoTheSame, ()) { expect_same_on_random_sequences<String>(); }
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfMapsDoTheSame, ()) { expect_same_on_random_sequences<Map>(); }
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfOrderedMapsDoTheSame, ()) {
    expect_same_on_random_sequences<OrderedMap>();
}
RC_GTEST_PROP(HeapInPlacePropertyTest, FormsOfSetsDoTheSame, ()) { expect_same_on_random_sequences<Set>(); }

TEST(HeapInPlaceFormsTest, AssigningTheFormOnLvaluesCopiesEachTime) {
    const auto pushed = [](auto&& push) {
        List list;
        const Counters counts = counted([&] {
            for (long i = 0; i < 100; ++i) push(list, i);
        });
        EXPECT_EQ(list.size(), 100U);
        return counts;
    };
    // The first push has nothing to copy.
    EXPECT_EQ(pushed([](List& list, long i) { list = list.push(i); }).copies, 99U);
    const Counters in_place = pushed([](List& list, long i) { list.push_in_place(i); });
    EXPECT_EQ(in_place.copies, 0U);
    EXPECT_LE(in_place.allocations, 10U);
    EXPECT_EQ(pushed([](List& list, long i) { list = std::move(list).push(i); }), in_place);
}

TEST(HeapInPlaceFormsTest, WhetherThereWasAnythingToDoIsReturned) {
    Set set{1};
    EXPECT_TRUE(set.insert_in_place(2));
    EXPECT_FALSE(set.insert_in_place(2));
    EXPECT_TRUE(set.remove_in_place(2));
    EXPECT_FALSE(set.remove_in_place(2));
    Map map{{1, 1}};
    const Map sharer = map;
    EXPECT_EQ(counted([&] { EXPECT_FALSE(map.remove_in_place(2)); }), Counters{});
    EXPECT_TRUE(map.shares_with(sharer));
    EXPECT_TRUE(map.remove_in_place(1));
    EXPECT_EQ(sharer.size(), 1U);
}

TEST(HeapInPlaceFormsTest, WhatIsOutOfRangeIsRefusedAndChangesNothing) {
    List list{1, 2, 3};
    Slice slice = list.slice(1, 2);
    String string = "abc";
    EXPECT_THROW(list.set_in_place(3, 1), std::out_of_range);
    EXPECT_THROW(list.update_in_place(3, kAddTen), std::out_of_range);
    EXPECT_THROW(list.insert_in_place(4, 1), std::out_of_range);
    EXPECT_THROW(list.remove_in_place(3), std::out_of_range);
    EXPECT_THROW(List().pop_in_place(), std::out_of_range);
    EXPECT_THROW(slice.set_in_place(2, 1), std::out_of_range);
    EXPECT_THROW(slice.update_in_place(2, kAddTen), std::out_of_range);
    EXPECT_THROW(slice.insert_in_place(3, 1), std::out_of_range);
    EXPECT_THROW(slice.remove_in_place(2), std::out_of_range);
    EXPECT_THROW(slice.slice_of_in_place(3, 0), std::out_of_range);
    EXPECT_THROW(Slice().pop_in_place(), std::out_of_range);
    EXPECT_THROW(string.set_in_place(3, 'x'), std::out_of_range);
    EXPECT_THROW(string.substring_in_place(4), std::out_of_range);
    EXPECT_THROW((Map{{1, 1}}.update_in_place(2, kAddTen)), std::out_of_range);
    EXPECT_EQ(list, (List{1, 2, 3}));
    EXPECT_EQ(slice, (List{2, 3}));
    EXPECT_EQ(string, "abc");
    EXPECT_TRUE(slice.shares_with(list));
}

// A copy made by the function would see what the function writes afterwards.
TEST(HeapInPlaceFormsTest, AnUpdateThatCopiesOrChangesItsStructureIsRefused) {
    const auto check = [](auto structure, const auto& update, const auto& change) {
        auto copy = structure;
        copy = {};
        EXPECT_THROW(update(structure, [&](long&) { copy = structure; }), std::logic_error);
        EXPECT_THROW(update(structure, [&](long&) { change(structure); }), std::logic_error);
        EXPECT_NO_THROW(update(structure, [&](long& each) { each = static_cast<long>(structure.size()); }));
        // The same holds for a structure that is shared.
        copy = structure;
        EXPECT_NO_THROW(update(structure, kAddTen));
        EXPECT_THROW(update(structure, [&](long&) { copy = structure; }), std::logic_error);
    };
    const auto first = [](auto& elements, auto&& function) { elements.update_in_place(0, function); };
    const auto at_one = [](auto& map, auto&& function) { map.update_in_place(1, function); };
    const auto add = [](auto& map) { map.set_in_place(9, 9); };
    check(List{1, 2, 3}, first, [](List& list) {
        list.push_in_place(1);
        list.reserve_in_place(100);
    });
    check(List{1, 2, 3}.slice(0, 2), first, [](Slice& slice) { slice.concat_in_place(List{1, 2, 3, 4, 5, 6, 7}); });
    check(Map{{1, 1}}, at_one, add);
    check(OrderedMap{{1, 1}}, at_one, add);
    check(heap::block_array<long>{1, 2, 3}, first, [](auto& array) { array.push_back_in_place(1); });
    check(heap::block_map<long, long>{{1, 1}}, at_one, add);
    std::vector<long> many(10'000);
    check(heap::block_array<long>(many), first, [](auto& array) { array.set_in_place(9'999, 1); });
}

TEST(HeapInPlaceFormsTest, AnUpdateThatThrowsLeavesOthersAsTheyWere) {
    List list{1, 2, 3};
    const List sharer = list;
    EXPECT_THROW(list.update_in_place(1,
                                      [](long& each) {
                                          each = 9;
                                          throw std::runtime_error("no");
                                      }),
                 std::runtime_error);
    EXPECT_EQ(sharer, (List{1, 2, 3}));
    EXPECT_EQ(list, (List{1, 9, 3}));
}

}  // namespace
