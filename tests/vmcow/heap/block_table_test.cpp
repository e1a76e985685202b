// Tests block tables, which make equal blocks of arrays and maps one block: which blocks they share, what changes for
// the owners, and what remains when memory runs out.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "vmcow/heap/block_map_table.hpp"
#include "vmcow/heap/block_table.hpp"
#include "vmcow/value.hpp"

namespace {

using tests::CountedHeap;
using tests::HeapAllocator;
using vmcow::heap::block_array;
using vmcow::heap::block_map;
using vmcow::heap::block_map_table;
using vmcow::heap::block_table;
using vmcow::heap::BlockShape;
using vmcow::heap::counters;
using vmcow::heap::Deduplicated;
using vmcow::heap::IndexRange;
using vmcow::heap::MapEntry;
using vmcow::heap::Options;

using Numbers = block_array<std::uint64_t>;
using Map = block_map<int, long>;
using MapTable = block_map_table<int, long>;

template <class Array>
auto elements_of(const Array& array) {
    return std::vector<typename Array::value_type>(array.begin(), array.end());
}
Numbers counted_up(std::size_t size) {
    Numbers::builder all;
    for (std::size_t i = 0; i < size; ++i) all.push_back(i);
    return std::move(all).build();
}
template <class M>
std::map<int, long> entries_of(const M& map) {
    std::map<int, long> all;
    for (const auto& [key, value] : map) all.emplace(key, value);
    return all;
}
/// Adds the keys from `first` to `last - 1`, or in the opposite order.
template <class M>
void add_keys(M& map, int first, int last, bool backwards = false) {
    for (int i = first; i < last; ++i) {
        const int key = backwards ? last - 1 - (i - first) : i;
        map.insert_in_place(key, key * 10L);
    }
}
Map map_of(int size, bool backwards = false, const BlockShape& shape = {}) {
    Map map(shape);
    add_keys(map, 0, size, backwards);
    return map;
}

// ---- arrays

TEST(BlockTableTest, EqualBlocksBecomeOne) {
    constexpr std::size_t kInLeaf = 256 / sizeof(std::uint64_t);
    Numbers::builder all;
    for (std::size_t i = 0; i < 100 * kInLeaf + 1; ++i) all.push_back(i / kInLeaf % 10);
    Numbers numbers = std::move(all).build();
    const std::vector<std::uint64_t> before = elements_of(numbers);
    block_table<std::uint64_t> table;
    EXPECT_EQ(table.deduplicate(numbers), (Deduplicated{100, 90, 90 * 256}));
    EXPECT_EQ(table.size(), 10U);
    EXPECT_GE(table.bytes(), 10U * 256);
    EXPECT_EQ(elements_of(numbers), before);
    EXPECT_EQ(table.deduplicate(numbers).shared_blocks, 0U);

    const Numbers changed = numbers.set(0, 77);
    EXPECT_EQ(elements_of(numbers), before);
    EXPECT_EQ(diff(numbers, changed), (std::vector<IndexRange>{{0, 1}}));
    Numbers again = changed;
    EXPECT_EQ(table.deduplicate(again, &numbers).blocks, 1U);
    numbers.clear_in_place();
    again.clear_in_place();
    table.purge();
    EXPECT_EQ(table.size(), 11U);  // `changed` holds all of them
}

TEST(BlockTableTest, ATableServesSeveralArraysAndRefusesOtherShapes) {
    Numbers a = counted_up(10'000);
    Numbers b = counted_up(10'000);
    block_table<std::uint64_t> table;
    EXPECT_EQ(table.deduplicate(a).shared_blocks, 0U);
    const auto done = table.deduplicate(b);
    EXPECT_EQ(done.shared_blocks, done.blocks);
    EXPECT_TRUE(a == b);
    b.set_in_place(0, 5);
    EXPECT_EQ(a[0], 0U);
    Numbers other({.leaf_bytes = 64});
    EXPECT_THROW(table.deduplicate(other), std::invalid_argument);
}

// ---- maps

TEST(BlockMapTableTest, EqualMapsShareAllLeavesInWhateverOrderTheirKeysCame) {
    Map a = map_of(20'000);
    Map b = map_of(20'000, true);
    const auto before = entries_of(b);
    MapTable table;
    const Deduplicated first = table.deduplicate(a);
    EXPECT_EQ(first, (Deduplicated{a.usage().leaves, 0, 0}));
    EXPECT_EQ(table.size(), first.blocks);
    EXPECT_EQ(table.deduplicate(b), (Deduplicated{first.blocks, first.blocks, 20'000 * sizeof(MapEntry<int, long>)}));
    EXPECT_EQ(table.size(), first.blocks);
    EXPECT_EQ(b.usage().shared_blocks, first.blocks);
    EXPECT_EQ(entries_of(b), before);
    for (const auto& [key, value] : before) ASSERT_EQ(b.at(key), value);
    b.for_each_difference(a, [](int, const long*, const long*) {
        ADD_FAILURE() << "a leaf that is not shared";
        return false;
    });
}

TEST(BlockMapTableTest, AWriteToASharedLeafReachesNoOtherMap) {
    Map a = map_of(20'000);
    Map b = map_of(20'000, true);
    MapTable table;
    table.deduplicate(a);
    table.deduplicate(b);
    b.set_in_place(7, -1);
    b.erase_in_place(8);
    b.insert_in_place(20'000, 1);
    EXPECT_EQ(a, map_of(20'000));
    EXPECT_EQ(diff(a, b).size(), 3U);
    // The blocks in the table have not changed either.
    Map c = map_of(20'000);
    const Deduplicated done = table.deduplicate(c);
    EXPECT_EQ(done.shared_blocks, done.blocks);
    EXPECT_EQ(c, a);
}

TEST(BlockMapTableTest, AMapIsChangedInPlaceAgainWhenNobodyElseHasItsLeaves) {
    using Counted = block_map<int, long, Options{.counted = true}>;
    Counted map;
    add_keys(map, 0, 20'000);
    {
        block_map_table<int, long, Options{.counted = true}> table;
        table.deduplicate(map);
        EXPECT_FALSE(map.is_unique());
    }
    EXPECT_TRUE(map.is_unique());
    counters() = {};
    for (int i = 0; i < 20'000; ++i) map.set_in_place(i, i);
    EXPECT_EQ(counters(), (vmcow::heap::Counters{}));
}

TEST(BlockMapTableTest, OnlyWhatALaterVersionDoesNotShareIsLookedAt) {
    Map map = map_of(20'000);
    MapTable table;
    table.deduplicate(map);
    Map later = map.set(1, 0).set(2, 0);
    const Deduplicated done = table.deduplicate(later, &map);
    EXPECT_GE(done.blocks, 1U);
    EXPECT_LE(done.blocks, 2U);
    EXPECT_EQ(done.shared_blocks, 0U);
    later = std::move(later).set(1, 10).set(2, 20);
    const Deduplicated undone = table.deduplicate(later, &map);
    EXPECT_EQ(undone.blocks, done.blocks);
    EXPECT_EQ(undone.shared_blocks, done.blocks);
    EXPECT_EQ(table.deduplicate(later, &map).blocks, 0U);
}

TEST(BlockMapTableTest, WhatNoMapHasAnyMoreIsForgotten) {
    MapTable table;
    Map map = map_of(5'000);
    table.deduplicate(map);
    const std::size_t leaves = table.size();
    EXPECT_GE(table.bytes(), leaves * 256);
    table.purge();
    EXPECT_EQ(table.size(), leaves);
    map.clear_in_place();
    table.purge();
    EXPECT_EQ(table.size(), 0U);
    // The table also forgets unused leaves by itself, when they are as many as the others.
    for (int round = 0; round < 20; ++round) {
        Map other;
        add_keys(other, round * 5'000, round * 5'000 + 5'000);
        table.deduplicate(other);
    }
    EXPECT_LT(table.size(), 20 * leaves / 2);
}

TEST(BlockMapTableTest, AnIteratorFromBeforeThrows) {
    Map map = map_of(1'000);
    MapTable table;
    const auto at = map.begin();
    table.deduplicate(map);
    EXPECT_THROW(static_cast<void>(*at), std::logic_error);
}

TEST(BlockMapTableTest, WhatItCannotShareIsRefused) {
    MapTable table;
    Map other(BlockShape{.leaf_bytes = 64});
    EXPECT_THROW(table.deduplicate(other), std::invalid_argument);
    EXPECT_THROW(MapTable({.leaf_bytes = 24}), std::invalid_argument);
    Map empty;
    EXPECT_EQ(table.deduplicate(empty), Deduplicated{});
}

struct PoorHash {
    std::size_t operator()(int key) const noexcept { return static_cast<std::size_t>(key % 5); }
};

// Versions of maps are changed and deduplicated at random, beside std::map.
RC_GTEST_PROP(BlockMapTablePropertyTest, DeduplicatingChangesNothingThatAMapHolds, ()) {
    using Poor = block_map<int, long, Options{}, PoorHash>;
    const BlockShape shape{std::size_t{16} << *rc::gen::inRange(0, 5), std::size_t{4} << *rc::gen::inRange(0, 4)};
    block_map_table<int, long> table(shape);
    block_map_table<int, long, Options{}, PoorHash> poor_table(shape);
    struct Version {
        Map map;
        Poor poor;
        std::map<int, long> model;
    };
    std::vector<Version> versions(3, {Map(shape), Poor(shape), {}});
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        auto& version = versions[*rc::gen::inRange<std::size_t>(0, versions.size())];
        auto& [map, poor, model] = version;
        const int first = *rc::gen::inRange(0, 100);
        const int last = first + *rc::gen::inRange(0, 60);
        switch (*rc::gen::inRange(0, 5)) {
            case 0:
                for (int key = first; key < last; ++key) {
                    map.insert_in_place(key, key);
                    poor.insert_in_place(key, key);
                    model.emplace(key, key);
                }
                break;
            case 1:
                for (int key = last; key-- > first;) {
                    map.set_in_place(key, i % 3);
                    poor.set_in_place(key, i % 3);
                    model.insert_or_assign(key, i % 3);
                }
                break;
            case 2:
                for (int key = first; key < last; ++key) {
                    map.erase_in_place(key);
                    poor.erase_in_place(key);
                    model.erase(key);
                }
                break;
            case 3:
                versions[*rc::gen::inRange<std::size_t>(0, versions.size())] = Version(version);
                break;
            default: {
                const Version& other = versions[*rc::gen::inRange<std::size_t>(0, versions.size())];
                table.deduplicate(map, *rc::gen::arbitrary<bool>() ? &other.map : nullptr);
                poor_table.deduplicate(poor);
            }
        }
        for (const Version& each : versions) {
            RC_ASSERT(entries_of(each.map) == each.model);
            RC_ASSERT(entries_of(each.poor) == each.model);
            for (int key = 0; key < 170; ++key) {
                RC_ASSERT(each.map.contains(key) == (each.model.count(key) == 1));
                RC_ASSERT(each.poor.contains(key) == (each.model.count(key) == 1));
            }
        }
    }
}

// A large map finds its leaves by shortcuts. They must lead to the shared leaves, also where only some leaves were
// replaced.
TEST(BlockMapTableTest, LargeMapsFindWhatTheyHaveAfterwards) {
    Map a = map_of(50'000);
    MapTable table;
    table.deduplicate(a);
    Map b = map_of(50'000, true);
    for (int i = 0; i < 50'000; i += 100) b.set_in_place(i, -1);
    const Map copy = b;
    table.deduplicate(b);
    a.clear_in_place();
    for (int i = 0; i < 50'000; ++i) ASSERT_EQ(b.at(i), i % 100 == 0 ? -1 : i * 10L) << i;
    EXPECT_EQ(b, copy);
}

// ---- memory

using HeapNumbers = block_array<std::uint64_t, Options{}, HeapAllocator<std::uint64_t>>;
using HeapNumberTable = block_table<std::uint64_t, Options{}, HeapAllocator<std::uint64_t>>;
using EntryAllocator = HeapAllocator<MapEntry<int, long>>;
using HeapMap = block_map<int, long, Options{}, std::hash<int>, std::equal_to<int>, EntryAllocator>;
using HeapMapTable = block_map_table<int, long, Options{}, std::hash<int>, std::equal_to<int>, EntryAllocator>;

/// Lets one allocation later fail each time, for an object that is not shared and for one that has copies. Afterwards
/// the object and its copy must hold what they held before.
template <class Table, class Object>
void fail_each_allocation(CountedHeap& heap, Table& table, const Object& made) {
    int failures = 0;
    for (const bool shared : {false, true}) {
        for (std::size_t left = 0;; ++left) {
            const Object elsewhere = made.rebuilt();
            Object object = made.rebuilt();
            const Object copy = shared ? object : elsewhere;
            heap.left_to_give = left;
            bool failed = false;
            try {
                table.deduplicate(object);
            } catch (const std::bad_alloc&) {
                failed = true;
                ++failures;
            }
            heap.left_to_give = CountedHeap::kNone;
            EXPECT_TRUE(object == made);
            EXPECT_TRUE(copy == made);
            object.touch();
            EXPECT_TRUE(copy == made);
            if (!failed) break;
        }
        table.purge();
    }
    EXPECT_GT(failures, 3);
}

struct SomeNumbers : HeapNumbers {
    explicit SomeNumbers(CountedHeap& heap) : HeapNumbers({.leaf_bytes = 16, .fan_out = 4}, HeapAllocator<long>(heap)) {
        for (std::uint64_t i = 0; i < 300; ++i) push_back_in_place(i / 6);
    }
    [[nodiscard]] SomeNumbers rebuilt() const { return SomeNumbers(get_allocator().heap()); }
    void touch() {
        for (std::size_t i = 0; i < size(); ++i) set_in_place(i, 0);
    }
};
struct SomeEntries : HeapMap {
    explicit SomeEntries(CountedHeap& heap) : HeapMap({.leaf_bytes = 64, .fan_out = 4}, HeapAllocator<long>(heap)) {
        add_keys(*this, 0, 150);
    }
    [[nodiscard]] SomeEntries rebuilt() const { return SomeEntries(get_allocator().heap()); }
    void touch() {
        for (int i = 0; i < 150; ++i) set_in_place(i, 0);
        for (int i = 0; i < 150; ++i) EXPECT_EQ(at(i), 0);
    }
};

TEST(BlockTableTest, NoAllocationThatFailsChangesAnything) {
    CountedHeap heap;
    {
        HeapNumberTable table({.leaf_bytes = 16, .fan_out = 4}, HeapAllocator<std::uint64_t>(heap));
        fail_each_allocation(heap, table, SomeNumbers(heap));
    }
    EXPECT_EQ(heap.blocks, 0U);
}

TEST(BlockMapTableTest, NoAllocationThatFailsChangesAnything) {
    CountedHeap heap;
    {
        HeapMapTable table({.leaf_bytes = 64, .fan_out = 4}, EntryAllocator(heap));
        fail_each_allocation(heap, table, SomeEntries(heap));
    }
    EXPECT_EQ(heap.blocks, 0U);
}

TEST(BlockTableTest, BlocksInOtherMemoryAreRefused) {
    CountedHeap here;
    CountedHeap there;
    HeapNumberTable numbers({.leaf_bytes = 16, .fan_out = 4}, HeapAllocator<std::uint64_t>(here));
    SomeNumbers array(there);
    EXPECT_THROW(numbers.deduplicate(array), std::invalid_argument);
    HeapMapTable entries({.leaf_bytes = 64, .fan_out = 4}, EntryAllocator(here));
    SomeEntries map(there);
    EXPECT_THROW(entries.deduplicate(map), std::invalid_argument);
    EXPECT_EQ(array, SomeNumbers(here));
    EXPECT_EQ(map, SomeEntries(here));
}

// ---- in a value

TEST(BlockTableTest, BlocksWithinAValueAreSharedWithinIt) {
    struct Doc {
        block_array<long, Options{}, vmcow::allocator<long>> a, b;
        block_map<int, long, Options{}, std::hash<int>, std::equal_to<int>, vmcow::allocator<MapEntry<int, long>>> c, d;
    };
    vmcow::Value<Doc> value;
    value.edit([](Doc& doc) {
        for (int i = 0; i < 5'000; ++i) {
            doc.a.push_back_in_place(i);
            doc.b.push_back_in_place(i);
        }
        add_keys(doc.c, 0, 5'000);
        add_keys(doc.d, 0, 5'000, true);
        block_table<long, Options{}, vmcow::allocator<long>> numbers(doc.a.shape(), doc.a.get_allocator());
        block_map_table<int, long, Options{}, std::hash<int>, std::equal_to<int>, vmcow::allocator<MapEntry<int, long>>>
            entries(doc.c.shape(), doc.c.get_allocator());
        numbers.deduplicate(doc.a);
        entries.deduplicate(doc.c);
        EXPECT_GT(numbers.deduplicate(doc.b).shared_blocks, 100U);
        EXPECT_GT(entries.deduplicate(doc.d).shared_blocks, 100U);
    });
    const vmcow::Value<Doc> frozen = value;
    value.edit([](Doc& doc) {
        doc.b.set_in_place(3, -3);
        doc.d.set_in_place(3, -3);
    });
    EXPECT_EQ(value->a[3], 3);
    EXPECT_EQ(value->b[3], -3);
    EXPECT_EQ(value->c.at(3), 30);
    EXPECT_EQ(value->d.at(3), -3);
    EXPECT_TRUE(frozen->a == frozen->b);
    EXPECT_TRUE(frozen->c == frozen->d);
}

}  // namespace
