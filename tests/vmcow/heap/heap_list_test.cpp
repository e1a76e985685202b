// Tests list and slice: which objects share memory, what is copied, and what is refused.
#include "vmcow/heap/list.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory_resource>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "tests/vmcow/heap/counted_lists.hpp"

namespace {

namespace heap = vmcow::heap;
using heap::Counters;
using heap::Options;
using heap::Sharing;
using tests::counted;
using tests::numbers;
using List = tests::CountedList;
using Slice = tests::CountedSlice;

constexpr Counters kNothing{};

TEST(HeapListTest, ACopySharesAndCopiesNothing) {
    const List a = numbers(1000);
    const Counters counts = counted([&] {
        const List b = a;  // NOLINT(performance-unnecessary-copy-initialization)
        EXPECT_TRUE(a.shares_with(b) && !a.is_unique());
    });
    EXPECT_EQ(counts, kNothing);
    EXPECT_TRUE(a.is_unique());
}

TEST(HeapListTest, AUniqueOneIsChangedInPlace) {
    List a = numbers(1000);
    a = std::move(a).reserve(1010);
    const long* const where = a.data();
    const Counters counts = counted([&] {
        a = std::move(a).set(3, 7).push(8).insert(0, 9).remove(4).pop().reverse().sort().take(900).drop(5);
        a = std::move(a).update(0, [](long& first) { ++first; });
    });
    EXPECT_EQ(counts, kNothing);
    EXPECT_EQ(a.data(), where);
    EXPECT_EQ(a.size(), 895U);
}

TEST(HeapListTest, TheFirstChangeOfASharedOneCopiesItOnce) {
    List a = numbers(1000);
    const List b = a;
    const Counters counts = counted([&] {
        a = std::move(a).set(0, 5);
        a = std::move(a).set(1, 6);
    });
    EXPECT_EQ(counts.copies, 1U);
    EXPECT_EQ(counts.allocations, 1U);
    // The element that is about to be set is not copied.
    EXPECT_EQ(counts.copied_bytes, 999 * sizeof(long));
    EXPECT_EQ(b, numbers(1000));
}

TEST(HeapListTest, EveryOperationCopiesASharedOneAtMostOnce) {
    const std::vector<std::function<List(List &&)>> operations{
        [](List&& a) { return std::move(a).push(1); },
        [](List&& a) { return std::move(a).pop(); },
        [](List&& a) { return std::move(a).insert(50, 1); },
        [](List&& a) { return std::move(a).remove(50); },
        [](List&& a) { return std::move(a).set(50, 1); },
        [](List&& a) { return std::move(a).update(50, [](long& element) { element = 1; }); },
        [](List&& a) { return std::move(a).reverse(); },
        [](List&& a) { return std::move(a).sort(std::greater<>()); },
        [](List&& a) {
            return std::move(a).concat(List{1, 2, 3});
        },
        [](List&& a) { return std::move(a).take(50); },
        [](List&& a) { return std::move(a).drop(50); },
        [](List&& a) { return std::move(a).reserve(1000); },
        [](List&& a) { return std::move(a).slice(10, 50).set(1, 1).to_list(); }};
    for (std::size_t i = 0; i < operations.size(); ++i) {
        List a = numbers(100);
        const List b = a;
        const Counters counts = counted([&] { a = operations[i](std::move(a)); });
        // The argument of `concat` and the room for `reserve` are one allocation more.
        EXPECT_EQ(counts.copies, 1U) << i;
        EXPECT_LE(counts.allocations, 2U) << i;
        EXPECT_LE(counts.copied_bytes, 100 * sizeof(long)) << i;
        EXPECT_EQ(b, numbers(100)) << i;
        EXPECT_TRUE(a.is_unique() && b.is_unique()) << i;
    }
}

TEST(HeapListTest, AnLvalueStaysAsItIs) {
    const List a{3, 1, 2};
    EXPECT_EQ(a.push(4), (List{3, 1, 2, 4}));
    EXPECT_EQ(a.pop(), (List{3, 1}));
    EXPECT_EQ(a.insert(1, 9), (List{3, 9, 1, 2}));
    EXPECT_EQ(a.insert(3, 9), (List{3, 1, 2, 9}));
    EXPECT_EQ(a.remove(0), (List{1, 2}));
    EXPECT_EQ(a.set(2, 7), (List{3, 1, 7}));
    EXPECT_EQ(a.update(0, [](long& element) { element *= 2; }), (List{6, 1, 2}));
    EXPECT_EQ(a.reverse(), (List{2, 1, 3}));
    EXPECT_EQ(a.sort(), (List{1, 2, 3}));
    EXPECT_EQ(a.sort(std::greater<>()), (List{3, 2, 1}));
    EXPECT_EQ(a.concat(a), (List{3, 1, 2, 3, 1, 2}));
    EXPECT_EQ(a.take(2), (List{3, 1}));
    EXPECT_EQ(a.drop(2), (List{2}));
    EXPECT_EQ(a.reserve(10), a);
    EXPECT_EQ(a, (List{3, 1, 2}));
    EXPECT_TRUE(a.is_unique());
    EXPECT_TRUE(a.contains(1L) && !a.contains(4L));
    EXPECT_EQ(a.first(), 3);
    EXPECT_EQ(a.last(), 2);
}

TEST(HeapListTest, PushingIsAmortised) {
    const Counters counts = counted([] { static_cast<void>(numbers(100'000)); });
    EXPECT_EQ(counts.copies, 0U);
    EXPECT_LE(counts.allocations, 30U);
    EXPECT_LE(counts.allocated_bytes, 4 * 100'000 * sizeof(long));
}

TEST(HeapListTest, WhatChangesNothingCopiesNothing) {
    const List a = numbers(10);
    const Counters counts = counted([&] {
        EXPECT_TRUE(a.take(10).shares_with(a) && a.take(99).shares_with(a) && a.drop(0).shares_with(a));
        EXPECT_TRUE(a.concat(List()).shares_with(a) && a.reserve(3).shares_with(a));
        EXPECT_TRUE(a.slice(0, 10).to_list().shares_with(a));
        EXPECT_TRUE(List{}.reverse().sort().concat(List()).take(3).drop(3).empty());
    });
    EXPECT_EQ(counts, kNothing);
}

TEST(HeapListTest, AMovedFromOneIsEmpty) {
    List a = numbers(10);
    const List b = std::move(a);
    EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is the claim
    a = a.push(1);
    EXPECT_EQ(a, List{1});
    List& same = a;
    a = std::move(same);
    EXPECT_EQ(a, List{1});
    a = same;
    EXPECT_EQ(a, List{1});
    EXPECT_EQ(b.size(), 10U);
}

TEST(HeapListTest, AListIsConcatenatedWithItselfAndWithItsParts) {
    List a{1, 2, 3};
    a = std::move(a).concat(a);
    EXPECT_EQ(a, (List{1, 2, 3, 1, 2, 3}));
    a = std::move(a).reserve(100);
    a = std::move(a).concat(a);
    EXPECT_EQ(a.size(), 12U);
    a = std::move(a).concat(a.span().subspan(1, 2));
    EXPECT_EQ(a.drop(12), (List{2, 3}));
    a = std::move(a).push(a.first());
    a = std::move(a).insert(0, a[1]);
    a = std::move(a).set(1, a[3]);
    EXPECT_EQ(a.take(3), (List{2, 3, 2}));
    EXPECT_EQ(a.size(), 16U);
    const List shared = a;
    a = std::move(a).concat(shared);
    EXPECT_EQ(a.size(), 32U);
    EXPECT_EQ(a.take(16), shared);
    EXPECT_EQ(a.drop(16), shared);
}

TEST(HeapListTest, ElementsOfTheirOwnTypeMayGoIntoThemselves) {
    struct Node {
        heap::list<Node> children;
    };
    using Nodes = heap::list<Node>;
    Nodes nodes = Nodes().push({}).push({});
    nodes = std::move(nodes).push(Node{nodes});
    nodes = std::move(nodes).push(nodes.last());
    nodes = std::move(nodes).concat(nodes);
    EXPECT_EQ(nodes.size(), 8U);
    EXPECT_EQ(nodes[2].children.size(), 2U);
    EXPECT_TRUE(nodes[2].children.shares_with(nodes[7].children));
    // Assigns a list that the old content of the target owns.
    nodes = nodes[2].children;
    EXPECT_EQ(nodes.size(), 2U);
    nodes = nodes.push(Node{nodes});
    nodes = std::move(const_cast<Nodes&>(nodes.last().children));
    EXPECT_EQ(nodes.size(), 2U);
}

TEST(HeapListTest, DestroyingAMillionNestedListsTakesLittleStack) {
    struct Node {
        heap::list<Node> children;
        heap::list<heap::list<Node>> pairs;
    };
    for (const bool through_pairs : {false, true}) {
        Node root;
        for (int i = 0; i < 1'000'000; ++i) {
            Node parent;
            if (through_pairs) {
                parent.pairs = heap::list<heap::list<Node>>().push(heap::list<Node>().push(std::move(root)));
            } else {
                parent.children = heap::list<Node>().push(std::move(root));
            }
            root = std::move(parent);
        }
        const Node shared = root;
        root = Node();
        EXPECT_EQ(shared.children.size() + shared.pairs.size(), 1U);
    }
}

TEST(HeapListTest, WhatIsOutOfRangeIsRefusedAndChangesNothing) {
    constexpr auto kHuge = std::numeric_limits<std::size_t>::max();
    List a{1, 2, 3};
    List none;
    EXPECT_THROW(static_cast<void>(a[3]), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.at(kHuge)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(none.first()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*List::const_iterator()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(none.last()), std::out_of_range);
    EXPECT_THROW(a = std::move(a).set(3, 1), std::out_of_range);
    EXPECT_THROW(a = std::move(a).update(3, [](long&) {}), std::out_of_range);
    EXPECT_THROW(a = std::move(a).remove(3), std::out_of_range);
    EXPECT_THROW(a = std::move(a).insert(4, 1), std::out_of_range);
    EXPECT_THROW(a = std::move(a).insert(kHuge, 1), std::out_of_range);
    EXPECT_THROW(none = std::move(none).pop(), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.slice(4, 0)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.slice(1, 1).set(1, 1)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.slice(1, 1).slice_of(2, 0)), std::out_of_range);
    EXPECT_THROW(a = std::move(a).reserve(kHuge), std::length_error);
    EXPECT_EQ(a, (List{1, 2, 3}));
    EXPECT_EQ(a.slice(3, kHuge).size(), 0U);
    EXPECT_EQ(a.slice(1, kHuge).to_list(), (List{2, 3}));
    EXPECT_EQ(a.take(kHuge).drop(kHuge).size(), 0U);
}

TEST(HeapListTest, AChangeThatThrowsLeavesOthersAsTheyWere) {
    List a{1, 2, 3};
    const List b = a;
    const auto fail = [](long& element) {
        element = 9;
        throw std::runtime_error("no");
    };
    EXPECT_THROW(a = std::move(a).update(1, fail), std::runtime_error);
    EXPECT_EQ(b, (List{1, 2, 3}));
    EXPECT_EQ(a, (List{1, 9, 3}));
}

// ---- iterators

TEST(HeapListTest, IteratorsAreThoseOfAlgorithms) {
    const List a{1, 2, 3};
    EXPECT_EQ(std::vector<long>(a.begin(), a.end()), (std::vector<long>{1, 2, 3}));
    EXPECT_EQ(std::ranges::max(a), 3);
    EXPECT_EQ(*(a.end() - 1), 3);
    EXPECT_EQ(a.begin()[1], 2);
    EXPECT_EQ(std::ranges::distance(a.slice(1, 2)), 2);
    EXPECT_EQ(List(a.begin() + 1, a.end()), (List{2, 3}));
}

TEST(HeapListTest, IteratorsOfAChangedListArePositionsInIt) {
    List a{1, 2, 3};
    const auto second = a.begin() + 1;
    const auto end = a.end();
    a = std::move(a).insert(0, 9).reserve(1000);
    EXPECT_EQ(*second, 1);
    EXPECT_EQ(*end, 3);
    a = List{5};
    EXPECT_THROW(static_cast<void>(*second), std::out_of_range);
    EXPECT_EQ(second.index(), 1U);
}

TEST(HeapListTest, ALoopOverAListThatChangesEndsWhereTheEndWas) {
    List a{1, 2, 3};
    const auto sum_while = [&](const auto& change) {
        long sum = 0;
        for (const long each : a) {
            sum += each;
            change();
        }
        return sum;
    };
    EXPECT_EQ(sum_while([&] { a = std::move(a).push(7); }), 6);
    EXPECT_EQ(a.size(), 6U);
    EXPECT_THROW(sum_while([&] { a = std::move(a).take(2); }), std::out_of_range);
}

TEST(HeapListTest, GoingOverACopySeesNoChange) {
    List a{1, 2, 3};
    const List before = a;
    for (const long each : before) a = std::move(a).push(each * 10);
    EXPECT_EQ(a, (List{1, 2, 3, 10, 20, 30}));
}

// ---- slices

TEST(HeapSliceTest, ASliceSharesTheMemoryOfItsList) {
    const List a = numbers(1000);
    const Counters counts = counted([&] {
        const Slice middle = a.slice(100, 10);
        EXPECT_TRUE(middle.shares_with(a));
        EXPECT_EQ(middle.span().data(), a.data() + 100);
        EXPECT_TRUE(middle.take(5).drop(2).slice_of(1, 1).shares_with(middle));
        EXPECT_EQ(middle.take(5).drop(2).slice_of(1, 1).first(), 103);
    });
    EXPECT_EQ(counts, kNothing);
}

TEST(HeapSliceTest, ChangingAUniqueOneStaysInPlace) {
    List a = numbers(1000);
    const long* const where = a.data();
    const Counters counts = counted([&] {
        Slice middle = std::move(a).slice(100, 10);
        middle = std::move(middle).set(0, 5).reverse().sort().update(1, [](long& each) { each = 0; });
        EXPECT_EQ(middle.span().data(), where + 100);
        a = std::move(middle).to_list();
    });
    EXPECT_EQ(counts, kNothing);
    EXPECT_EQ(a.data(), where);
    EXPECT_EQ(a, (List{5, 0, 102, 103, 104, 105, 106, 107, 108, 109}));
}

TEST(HeapSliceTest, ChangingASharedOneCopiesTheSliceAlone) {
    const List a = numbers(1000);
    Slice middle = a.slice(100, 10);
    const Counters counts = counted([&] {
        middle = std::move(middle).set(0, 5);
        middle = std::move(middle).set(1, 6);
    });
    EXPECT_EQ(counts.copies, 1U);
    EXPECT_EQ(counts.copied_bytes, 10 * sizeof(long));
    EXPECT_EQ(a, numbers(1000));
    EXPECT_EQ(middle.take(3).to_list(), (List{5, 6, 102}));
}

TEST(HeapSliceTest, CopiesAndMovesKeepTheirPlace) {
    const List a = numbers(10);
    Slice b = a.slice(2, 3);
    Slice c = b;
    const Slice d = std::move(c);
    EXPECT_EQ(c.size(), 0U);  // NOLINT(bugprone-use-after-move): that is the claim
    c = d;
    EXPECT_EQ(c, b);
    b = std::move(c);
    EXPECT_EQ(b, d);
    EXPECT_EQ(b.to_list(), (List{2, 3, 4}));
    Slice& same = b;
    b = std::move(same);
    b = same;
    EXPECT_EQ(b, d);
    EXPECT_EQ(Slice().to_list(), List());
}

// ---- threads

TEST(HeapListTest, HandlesOfOneListMayBeUsedInSeveralThreads) {
    using Shared = heap::list<std::string, Options{.sharing = Sharing::threads}>;
    const Shared base{"one", "two", "three"};
    std::vector<std::thread> threads;
    std::vector<Shared> made(4);
    for (std::size_t i = 0; i < made.size(); ++i) {
        threads.emplace_back([&base, &mine = made[i], i] {
            for (int round = 0; round < 200; ++round) {
                Shared copy = base;
                Shared other = copy.push(std::to_string(i));
                copy = std::move(copy).set(1, "changed");
                mine = round % 2 == 0 ? other : copy;
            }
        });
    }
    for (std::thread& each : threads) each.join();
    EXPECT_EQ(base, (Shared{"one", "two", "three"}));
    for (const Shared& each : made) EXPECT_EQ(each, (Shared{"one", "changed", "three"}));
    EXPECT_TRUE(base.is_unique());
}

// ---- allocators

using Fancy = heap::list<long, Options{}, tests::HeapAllocator<long>>;

TEST(HeapListTest, CopiesAndMovesBetweenAllocatorsCopyTheElements) {
    tests::CountedHeap here;
    tests::CountedHeap there;
    {
        const Fancy a({1, 2, 3}, tests::HeapAllocator<long>(here));
        Fancy b({9}, tests::HeapAllocator<long>(there));
        b = a;
        EXPECT_EQ(b, a);
        EXPECT_FALSE(b.shares_with(a));
        EXPECT_TRUE(a.is_unique());
        Fancy c(a, tests::HeapAllocator<long>(there));
        EXPECT_FALSE(c.shares_with(a));
        Fancy moved = c;
        b = std::move(moved);
        EXPECT_TRUE(b.shares_with(c));
        Fancy back({}, tests::HeapAllocator<long>(here));
        back = std::move(b);
        EXPECT_EQ(back, a);
        swap(back, c);
        EXPECT_EQ(back, c);
        auto part = a.slice(1, 2);
        heap::slice<long, Options{}, tests::HeapAllocator<long>> far(part, tests::HeapAllocator<long>(there));
        EXPECT_EQ(far, part);
        // Only the elements of the slice are copied.
        const std::vector<long> many(1000, 7);
        const Fancy long_one(many.begin(), many.end(), tests::HeapAllocator<long>(here));
        const std::size_t before = there.bytes;
        far = long_one.slice(500, 3);
        EXPECT_LE(there.bytes, before + 100);
        EXPECT_EQ(far, long_one.slice(500, 3));
    }
    EXPECT_EQ(here.blocks, 0U);
    EXPECT_EQ(there.blocks, 0U);
}

TEST(HeapListTest, MemoryResourcesServe) {
    std::pmr::monotonic_buffer_resource resource;
    using Pmr = heap::list<std::pmr::string, Options{}, std::pmr::polymorphic_allocator<std::pmr::string>>;
    Pmr a(&resource);
    a = std::move(a).push("a string that is too long to be small").push("b");
    EXPECT_EQ(a[0].get_allocator().resource(), &resource);
    const Pmr b(a, &resource);
    EXPECT_TRUE(b.shares_with(a));
    // Copy construction selects the default resource, so the elements are copied.
    const Pmr c = a;
    EXPECT_FALSE(c.shares_with(a));
    EXPECT_EQ(c, a);
    EXPECT_EQ(c[0].get_allocator().resource(), std::pmr::get_default_resource());
}

// ---- properties

/// A list, and a vector that holds what the list must hold.
struct Handle {
    List list;
    std::vector<long> model;
};

List changed(List&& a, std::vector<long>& model, std::size_t what, std::size_t at, long number) {
    const auto where = model.begin() + static_cast<std::ptrdiff_t>(model.empty() ? 0 : at % model.size());
    const std::size_t index = static_cast<std::size_t>(where - model.begin());
    switch (model.empty() ? what % 3 : what % 12) {
        case 0:
            model.push_back(number);
            return std::move(a).push(number);
        case 1:
            model.insert(where, number);
            return std::move(a).insert(index, number);
        case 2:
            std::ranges::sort(model);
            return std::move(a).sort();
        case 3:
            model.pop_back();
            return std::move(a).pop();
        case 4:
            model.erase(where);
            return std::move(a).remove(index);
        case 5:
            *where = number;
            return std::move(a).set(index, number);
        case 6:
            std::ranges::reverse(model);
            return std::move(a).reverse();
        case 7: {
            const std::vector<long> copy = model;
            model.insert(model.end(), copy.begin(), copy.end());
            if (model.size() > 2000) {
                model.resize(copy.size());
                return std::move(a);
            }
            return std::move(a).concat(a);
        }
        case 8:
            model.resize(index);
            return std::move(a).take(index);
        case 9:
            model.erase(model.begin(), where);
            return std::move(a).drop(index);
        case 10:
            *where += number;
            return std::move(a).update(index, [&](long& element) { element += number; });
        default:
            model.erase(model.begin(), where);
            if (!model.empty()) model.front() = number;
            auto rest = std::move(a).slice(index, model.size());
            return model.empty() ? std::move(rest).to_list() : std::move(rest).set(0, number).to_list();
    }
}

RC_GTEST_PROP(HeapListPropertyTest, HandlesAgreeWithVectors, ()) {
    std::vector<Handle> handles(1);
    const auto any = [&]() -> Handle& { return handles[*rc::gen::inRange<std::size_t>(0, handles.size())]; };
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        Handle& handle = any();
        const auto what = *rc::gen::inRange<std::size_t>(0, 12);
        const auto at = *rc::gen::inRange<std::size_t>(0, 1000);
        const auto number = *rc::gen::inRange(-9L, 10L);
        const int form = *rc::gen::inRange(0, 4);
        if (form == 0 && handles.size() < 6) {
            handles.push_back(Handle(handle));
        } else if (form == 1) {
            // The form on an lvalue: `handle` must stay as it is.
            Handle made{{}, handle.model};
            made.list = changed(List(handle.list), made.model, what, at, number);
            RC_ASSERT(std::ranges::equal(handle.list.span(), handle.model));
            any() = std::move(made);
        } else {
            handle.list = changed(std::move(handle.list), handle.model, what, at, number);
        }
        for (const Handle& each : handles) RC_ASSERT(std::ranges::equal(each.list.span(), each.model));
    }
}

}  // namespace
