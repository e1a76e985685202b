// Tests map, ordered_map and set: which objects share memory, what is copied, and the order of entries.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "tests/vmcow/heap/counted_lists.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"

namespace {

namespace heap = vmcow::heap;
using heap::Counters;
using heap::counters;
using tests::kCounted;
using Set = heap::set<long, kCounted>;

template <class M>
class HeapMapTest : public testing::Test {};
using Maps = testing::Types<heap::map<long, std::string, kCounted>, heap::ordered_map<long, std::string, kCounted>>;
TYPED_TEST_SUITE(HeapMapTest, Maps);

TYPED_TEST(HeapMapTest, ACopySharesUntilOneIsChanged) {
    TypeParam a;
    for (long i = 0; i < 100; ++i) a = std::move(a).set(i, std::to_string(i));
    counters() = {};
    TypeParam b = a;
    EXPECT_TRUE(a.shares_with(b));
    EXPECT_EQ(a, b);
    EXPECT_EQ(counters(), Counters{});
    b = std::move(b).set(5, "five").remove(7).update(8, [](std::string& text) { text += "!"; });
    EXPECT_EQ(counters().copies, 1U);
    EXPECT_EQ(counters().copied_bytes, 100 * sizeof(std::pair<const long, std::string>));
    EXPECT_EQ(a.at(5), "5");
    EXPECT_EQ(b.at(5), "five");
    EXPECT_EQ(b.at(8), "8!");
    EXPECT_TRUE(a.contains(7) && !b.contains(7));
    EXPECT_NE(a, b);
    EXPECT_EQ(a.size(), 100U);
    EXPECT_EQ(b.size(), 99U);
}

TYPED_TEST(HeapMapTest, AUniqueOneIsChangedInPlace) {
    TypeParam a;
    a = std::move(a).set(1, "one").set(2, "two");
    const std::string* const where = a.find(1);
    counters() = {};
    a = std::move(a).set(1, "uno").update(2, [](std::string& text) { text = "due"; });
    a = std::move(a).remove(2).remove(3);
    EXPECT_EQ(counters(), Counters{});
    EXPECT_EQ(a.find(1), where);
    EXPECT_EQ(*where, "uno");
}

TYPED_TEST(HeapMapTest, AnLvalueStaysAsItIs) {
    const TypeParam a{{1, "one"}, {2, "two"}};
    EXPECT_EQ(a.set(3, "three").size(), 3U);
    EXPECT_EQ(a.set(1, "uno").at(1), "uno");
    EXPECT_EQ(a.remove(1).size(), 1U);
    EXPECT_EQ(a.update(1, [](std::string& text) { text.clear(); }).at(1), "");
    EXPECT_TRUE(a.remove(3).shares_with(a));
    EXPECT_EQ(a, (TypeParam{{1, "one"}, {2, "two"}}));
    EXPECT_TRUE(a.is_unique());
}

TYPED_TEST(HeapMapTest, WhatIsNotThereIsRefused) {
    TypeParam a;
    EXPECT_EQ(a.find(1), nullptr);
    EXPECT_THROW(static_cast<void>(a.at(1)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a[1]), std::out_of_range);
    EXPECT_THROW(a = std::move(a).update(1, [](std::string&) {}), std::out_of_range);
    EXPECT_EQ(a.remove(1), a);
    EXPECT_EQ(a.begin(), a.end());
    EXPECT_THROW(static_cast<void>(*a.begin()), std::out_of_range);
    a = std::move(a).set(1, "one");
    EXPECT_THROW(static_cast<void>(*a.end()), std::out_of_range);
    EXPECT_THROW(++a.end(), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*decltype(a.begin())()), std::logic_error);
}

TYPED_TEST(HeapMapTest, IteratorsOfAChangedMapRefuse) {
    TypeParam a{{1, "one"}, {2, "two"}};
    TypeParam b;
    const std::vector<std::pair<const char*, void (*)(TypeParam&, TypeParam&)>> changes{
        {"set", [](TypeParam& x, TypeParam&) { x = std::move(x).set(9, "nine"); }},
        {"set in place", [](TypeParam& x, TypeParam&) { static_cast<void>(std::move(x).set(1, "uno")); }},
        {"assign", [](TypeParam& x, TypeParam& y) { x = y; }},
        {"move", [](TypeParam& x, TypeParam& y) { y = std::move(x); }},
        {"swap", [](TypeParam& x, TypeParam& y) { swap(x, y); }}};
    for (const auto& [name, change] : changes) {
        a = TypeParam{{1, "one"}, {2, "two"}};
        auto at = a.begin();
        change(a, b);
        EXPECT_THROW(static_cast<void>(*at), std::logic_error) << name;
        EXPECT_THROW(++at, std::logic_error) << name;
    }
    // Iterators of a copy stay valid when the original changes.
    a = TypeParam{{1, "one"}, {2, "two"}};
    const TypeParam copy = a;
    const auto at = copy.begin();
    a = std::move(a).set(1, "uno").remove(2);
    EXPECT_EQ(at->second, copy.at(at->first));
}

TYPED_TEST(HeapMapTest, KeysMayLieInTheMapThatIsChanged) {
    TypeParam a{{1, "one"}};
    a = std::move(a).remove(a.begin()->first);
    EXPECT_TRUE(a.empty());
    a = std::move(a).set(1, "one");
    a = std::move(a).update(a.begin()->first, [](std::string& text) { text += "?"; });
    a = std::move(a).set(2, a.at(1));
    EXPECT_EQ(a.size(), 2U);
    EXPECT_EQ(a.at(2), "one?");
}

TEST(HeapOrderedMapTest, EntriesComeInTheOrderInWhichTheyWereAdded) {
    heap::ordered_map<std::string, int> a{{"z", 1}, {"a", 2}, {"m", 3}};
    a = std::move(a).set("a", 20).remove("z").set("z", 10);
    std::string order;
    for (const auto& [key, value] : a) order += key + std::to_string(value) + " ";
    EXPECT_EQ(order, "a20 m3 z10 ");
    EXPECT_NE(a, (heap::ordered_map<std::string, int>{{"m", 3}, {"a", 20}, {"z", 10}}));
    EXPECT_EQ(a, (heap::ordered_map<std::string, int>{{"a", 20}, {"m", 3}, {"z", 10}}));
}

TEST(HeapSetTest, WhatChangesNothingCopiesNothing) {
    const Set a{1, 2, 3};
    const Set b{1, 2};
    const Set c{7};
    counters() = {};
    EXPECT_TRUE(a.insert(2).shares_with(a) && a.remove(9).shares_with(a));
    EXPECT_TRUE(a.unite(b).shares_with(a) && a.unite(a).shares_with(a) && Set().unite(a).shares_with(a));
    EXPECT_TRUE(a.intersect(a).shares_with(a) && a.subtract(c).shares_with(a));
    EXPECT_EQ(counters(), Counters{});
}

TEST(HeapSetTest, AUniqueOneIsChangedInPlaceAndASharedOneOnce) {
    Set a;
    for (long i = 0; i < 100; ++i) a = std::move(a).insert(i);
    const Set even = [&] {
        Set found;
        for (const long each : a) found = each % 2 == 0 ? std::move(found).insert(each) : std::move(found);
        return found;
    }();
    counters() = {};
    a = std::move(a).subtract(Set{1, 3}).remove(5);
    a = std::move(a).intersect(a);
    EXPECT_EQ(counters().copies, 0U);
    EXPECT_EQ(a.size(), 97U);
    counters() = {};
    const Set before = a;
    a = std::move(a).intersect(even).insert(1001).remove(0);
    EXPECT_EQ(counters().copies, 1U);
    EXPECT_EQ(counters().copied_bytes, 50 * sizeof(long));
    EXPECT_EQ(a.size(), 50U);
    EXPECT_EQ(before.size(), 97U);
    EXPECT_EQ(a.subtract(a), Set());
    a = std::move(a).subtract(a);
    EXPECT_TRUE(a.empty());
}

TEST(HeapSetTest, IteratorsOfAChangedSetRefuse) {
    Set a{1, 2};
    const auto at = a.begin();
    a = std::move(a).insert(2);
    // The insertion changed nothing, but the set was assigned.
    EXPECT_THROW(static_cast<void>(*at), std::logic_error);
    const Set none;
    EXPECT_EQ(none.begin(), none.end());
}

// Maps nested so deeply that recursive destruction would overflow the stack.
TEST(HeapMapTest, DestroyingDeeplyNestedMapsTakesLittleStack) {
    struct Tree {
        heap::map<int, Tree> hashed;
        heap::ordered_map<int, Tree> ordered;
        heap::list<heap::map<int, Tree>> listed;
    };
    Tree root;
    for (int i = 0; i < 150'000; ++i) {
        Tree parent;
        switch (i % 3) {
            case 0:
                parent.hashed = heap::map<int, Tree>().set(i, std::move(root));
                break;
            case 1:
                parent.ordered = heap::ordered_map<int, Tree>().set(i, std::move(root));
                break;
            default:
                parent.listed = heap::list<heap::map<int, Tree>>().push(heap::map<int, Tree>().set(i, std::move(root)));
        }
        root = std::move(parent);
    }
    root = Tree();
    EXPECT_TRUE(root.hashed.empty());
}

TEST(HeapMapTest, CopiesBetweenAllocatorsAreDeep) {
    using Allocator = tests::HeapAllocator<std::pair<const long, long>>;
    using Map = heap::map<long, long, heap::Options{}, Allocator>;
    using Ordered = heap::ordered_map<long, long, heap::Options{}, Allocator>;
    using FarSet = heap::set<long, heap::Options{}, tests::HeapAllocator<long>>;
    tests::CountedHeap here;
    tests::CountedHeap there;
    const auto check = [&](const auto& a, auto change) {
        using M = std::remove_cvref_t<decltype(a)>;
        M b(typename M::allocator_type{there});
        b = a;
        EXPECT_EQ(b, a);
        EXPECT_FALSE(b.shares_with(a));
        EXPECT_TRUE(a.is_unique());
        const std::size_t in_here = here.bytes;
        b = change(std::move(b));
        EXPECT_NE(b, a);
        EXPECT_EQ(here.bytes, in_here);
        M c(a);
        EXPECT_TRUE(c.shares_with(a));
        c = std::move(b);
        EXPECT_NE(c, a);
        swap(b, c);
    };
    {
        const auto add = [](auto&& map) { return std::move(map).set(7, 7); };
        check(Map(Allocator(here)).set(1, 2), add);
        check(Ordered(Allocator(here)).set(1, 2), add);
        check(FarSet(tests::HeapAllocator<long>(here)).insert(1), [&](auto&& set) {
            const FarSet other = FarSet(tests::HeapAllocator<long>(here)).insert(8);
            return std::move(set).unite(other).subtract(FarSet(tests::HeapAllocator<long>(here)));
        });
    }
    EXPECT_EQ(here.blocks, 0U);
    EXPECT_EQ(there.blocks, 0U);
}

// ---- properties

RC_GTEST_PROP(HeapMapPropertyTest, MapsAgreeWithMaps, ()) {
    struct Handle {
        heap::map<int, int> map;
        heap::ordered_map<int, int> ordered;
        std::vector<std::pair<int, int>> model;
    };
    std::vector<Handle> handles(1);
    const auto agree = [](const Handle& each) {
        RC_ASSERT(each.map.size() == each.model.size() && each.ordered.size() == each.model.size());
        const auto same = [](const auto& a, const auto& b) { return a.first == b.first && a.second == b.second; };
        RC_ASSERT(std::equal(each.ordered.begin(), each.ordered.end(), each.model.begin(), same));
        for (const auto& [key, value] : each.model) RC_ASSERT(each.map.at(key) == value);
    };
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        auto& [map, ordered, model] = handles[*rc::gen::inRange<std::size_t>(0, handles.size())];
        const int key = *rc::gen::inRange(0, 12);
        const int value = *rc::gen::inRange(0, 100);
        const auto found = std::ranges::find(model, key, &std::pair<int, int>::first);
        const int what = *rc::gen::inRange(0, 5);
        if (what < 2) {
            map = std::move(map).set(key, value);
            ordered = std::move(ordered).set(key, value);
            if (found == model.end()) {
                model.emplace_back(key, value);
            } else {
                found->second = value;
            }
        } else if (what == 2) {
            map = map.remove(key);
            ordered = std::move(ordered).remove(key);
            if (found != model.end()) model.erase(found);
        } else if (what == 3 && found != model.end()) {
            map = std::move(map).update(key, [](int& each) { ++each; });
            ordered = ordered.update(key, [](int& each) { ++each; });
            ++found->second;
        } else if (handles.size() < 5) {
            handles.push_back(Handle{map, ordered, model});
        }
        for (const Handle& each : handles) agree(each);
    }
}

RC_GTEST_PROP(HeapSetPropertyTest, SetsAgreeWithSets, ()) {
    std::vector<std::pair<heap::set<int>, std::set<int>>> all(3);
    const auto any = [&]() -> auto& { return all[*rc::gen::inRange<std::size_t>(0, all.size())]; };
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        auto& [set, model] = any();
        const auto& [other, others] = any();
        const int value = *rc::gen::inRange(0, 12);
        std::set<int> made;
        const auto into = std::inserter(made, made.end());
        switch (*rc::gen::inRange(0, 6)) {
            case 0:
                model.insert(value);
                set = std::move(set).insert(value);
                break;
            case 1:
                model.erase(value);
                set = std::move(set).remove(value);
                break;
            case 2:
                std::ranges::set_union(model, others, into);
                RC_ASSERT(set.unite(other).size() == made.size());
                set = std::move(set).unite(other);
                model = made;
                break;
            case 3:
                std::ranges::set_intersection(model, others, into);
                set = std::move(set).intersect(other);
                model = made;
                break;
            case 4:
                std::ranges::set_difference(model, others, into);
                set = std::move(set).subtract(other);
                model = made;
                break;
            default:
                any() = std::pair(set, model);
        }
        for (const auto& [ours, expected] : all) RC_ASSERT(std::set<int>(ours.begin(), ours.end()) == expected);
    }
}

}  // namespace
