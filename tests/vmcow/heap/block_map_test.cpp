// Tests block_map: its content against std::map, what it copies, and what it leaves behind when memory runs out.
#include "vmcow/heap/block_map.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/check_tree.hpp"
#include "tests/vmcow/heap/counted_heap.hpp"
#include "vmcow/value.hpp"

namespace {

using tests::check_tree;
using tests::CountedHeap;
using tests::HeapAllocator;
using vmcow::heap::block_map;
using vmcow::heap::BlockShape;
using vmcow::heap::counters;
using vmcow::heap::MapEntry;
using vmcow::heap::Options;
using vmcow::heap::Sharing;

/// Gives only five different hashes.
struct PoorHash {
    std::size_t operator()(int key) const noexcept { return static_cast<std::size_t>(key % 5); }
};

using Numbers = block_map<int, long>;
using Poor = block_map<int, long, Options{}, PoorHash>;
using CountedNumbers = block_map<int, long, Options{.counted = true}>;
using TextAllocator = HeapAllocator<MapEntry<int, std::string>>;
using Texts = block_map<int, std::string, Options{}, std::hash<int>, std::equal_to<int>, TextAllocator>;

template <class Map>
auto entries_of(const Map& map) {
    std::map<typename Map::key_type, typename Map::mapped_type> all;
    std::size_t count = 0;
    for (const auto& [key, value] : map) {
        all.emplace(key, value);
        ++count;
    }
    EXPECT_EQ(count, all.size());
    return all;
}
template <class Map>
Map counted_up(int size, const BlockShape& shape = {}) {
    Map map(shape);
    for (int i = 0; i < size; ++i) map.insert_in_place(i, i);
    return map;
}

template <class Map, class MakeValue>
void run_steps(const Map& empty, MakeValue&& value_of) {
    using Model = std::map<int, typename Map::mapped_type>;
    std::vector<std::pair<Map, Model>> versions(3, {empty, {}});
    const int steps = *rc::gen::inRange(1, 50);
    for (int i = 0; i < steps; ++i) {
        const auto which = *rc::gen::inRange<std::size_t>(0, versions.size());
        auto& [map, model] = versions[which];
        const int key = *rc::gen::inRange(0, 150);
        const bool in_place = *rc::gen::arbitrary<bool>();
        switch (*rc::gen::inRange(0, 7)) {
            case 0:
                for (int each = key; each < key + 40; ++each) {
                    RC_ASSERT(map.insert_in_place(each, value_of(i)) == model.emplace(each, value_of(i)).second);
                }
                break;
            case 1:
                for (int each = key; each < key + 50; ++each) {
                    RC_ASSERT(map.erase_in_place(each) == (model.erase(each) == 1));
                }
                break;
            case 2:
                map = in_place ? std::move(map).set(key, value_of(i)) : map.set(key, value_of(i));
                model.insert_or_assign(key, value_of(i));
                break;
            case 3:
                versions[*rc::gen::inRange<std::size_t>(0, versions.size())] = std::pair(map, model);
                break;
            case 4:
                map = in_place ? std::move(map).erase(key) : map.erase(key);
                model.erase(key);
                break;
            case 5:
                if (!map.contains(key)) break;
                map.update_in_place(key, [&](auto& value) { value = value_of(-i); });
                model.at(key) = value_of(-i);
                break;
            default:
                map = in_place ? std::move(map).insert(key, value_of(i)) : map.insert(key, value_of(i));
                model.emplace(key, value_of(i));
        }
        for (const auto& [each, same] : versions) {
            RC_ASSERT(each.size() == same.size());
            RC_ASSERT(entries_of(each) == same);
        }
        RC_ASSERT(check_tree(versions[0].first, versions[1].first, versions[2].first) == "");
        for (int each = 0; each < 200; ++each) {
            const auto found = model.find(each);
            const auto* const value = map.find(each);
            RC_ASSERT((value == nullptr) == (found == model.end()));
            RC_ASSERT((value == nullptr || *value == found->second));
        }
        const auto& [other, other_model] = versions[(which + 1) % versions.size()];
        RC_ASSERT((map == other) == (model == other_model));
        Model patched = model;
        for (const auto& [changed, before, after] : diff(map, other)) {
            RC_ASSERT((before == nullptr) == (model.count(changed) == 0));
            RC_ASSERT((before == nullptr || *before == model.at(changed)));
            RC_ASSERT((before == nullptr || after == nullptr || !(*before == *after)));
            if (after == nullptr)
                patched.erase(changed);
            else
                patched.insert_or_assign(changed, *after);
        }
        RC_ASSERT(patched == other_model);
    }
    for (auto& [map, model] : versions) {
        for (const auto& [key, value] : model) RC_ASSERT(map.erase_in_place(key));
        RC_ASSERT(map.usage() == (vmcow::heap::BlockUsage{}));
    }
}

BlockShape some_shape(std::size_t entry_bytes) {
    const auto least = static_cast<int>(std::max<std::size_t>(std::bit_width(entry_bytes - 1), 3));
    return {std::size_t{1} << *rc::gen::inRange(least, least + 5), std::size_t{4} << *rc::gen::inRange(0, 4)};
}

RC_GTEST_PROP(BlockMapPropertyTest, VersionsAreAsMapsAre, ()) {
    run_steps(Numbers(some_shape(sizeof(MapEntry<int, long>))), [](int i) { return static_cast<long>(i); });
}

RC_GTEST_PROP(BlockMapPropertyTest, AHashThatTellsFewKeysApartWillDo, ()) {
    run_steps(Poor(some_shape(sizeof(MapEntry<int, long>))), [](int i) { return static_cast<long>(i); });
}

RC_GTEST_PROP(BlockMapPropertyTest, ValuesMayHaveMemoryOfTheirOwn, ()) {
    CountedHeap heap;
    run_steps(Texts(some_shape(sizeof(MapEntry<int, std::string>)), TextAllocator(heap)),
              [](int i) { return "a text too long to be stored in place, number " + std::to_string(i); });
    RC_ASSERT(heap.blocks == 0U);
}

// ---- what is copied

TEST(BlockMapTest, AUniqueMapCopiesNothing) {
    counters() = {};
    CountedNumbers numbers;
    for (int i = 0; i < 50'000; ++i) numbers = std::move(numbers).insert(i, i);
    for (int i = 0; i < 50'000; ++i) numbers = std::move(numbers).set(i, -i);
    EXPECT_EQ(numbers.at(777), -777);
    for (int i = 0; i < 50'000; i += 2) numbers = std::move(numbers).erase(i);
    EXPECT_EQ(counters().copies, 0U);
    EXPECT_EQ(numbers.size(), 25'000U);
}

TEST(BlockMapTest, AChangeOfASharedMapCopiesOnePath) {
    const CountedNumbers before = counted_up<CountedNumbers>(50'000);
    CountedNumbers after = before;
    counters() = {};
    after.set_in_place(1'234, 1);
    const std::uint64_t copies = counters().copies;
    EXPECT_GE(copies, 2U);
    EXPECT_LE(copies, 5U);
    after.set_in_place(1'234, 2);
    EXPECT_FALSE(after.insert_in_place(4'321, 2));
    EXPECT_FALSE(after.erase_in_place(-1));
    EXPECT_EQ(counters().copies, copies);
    EXPECT_EQ(before.at(1'234), 1'234);
    EXPECT_EQ(after.at(1'234), 2);
    EXPECT_EQ(after.usage().shared_blocks, after.usage().leaves + after.usage().inner_nodes - copies);
}

TEST(BlockMapTest, DiffLooksOnlyAtWhatIsNotShared) {
    const Numbers before = counted_up<Numbers>(50'000);
    Numbers after = before.set(7, -7).erase(8);
    std::size_t compared = 0;
    before.for_each_difference(after, [&](int key, const long* mine, const long* theirs) {
        ++compared;
        EXPECT_TRUE((key == 7 && *mine == 7 && *theirs == -7) || (key == 8 && *mine == 8 && theirs == nullptr));
        return true;
    });
    EXPECT_EQ(compared, 2U);
    EXPECT_EQ(diff(before, counted_up<Numbers>(50'001, {.leaf_bytes = 64})).size(), 1U);
    after = std::move(after).set(7, 7).insert(8, 8);
    EXPECT_TRUE(after == before);
}

// A large map that shares nothing has shortcuts to its leaves; lookups in its copies must find the same without
// shortcuts.
TEST(BlockMapTest, LargeMapsAndTheirCopiesFindTheSame) {
    Numbers numbers = counted_up<Numbers>(30'000);
    Numbers copy = numbers;
    for (int i = 0; i < 30'000; i += 3) {
        numbers.set_in_place(i, -1);
        copy.erase_in_place(i + 1);
    }
    for (int i = 30'000; i < 60'000; ++i) numbers.insert_in_place(i, i);
    EXPECT_EQ(check_tree(numbers, copy), "");
    for (int i = 0; i < 60'000; ++i) {
        const long* const found = numbers.find(i);
        ASSERT_NE(found, nullptr) << i;
        ASSERT_EQ(*found, i < 30'000 && i % 3 == 0 ? -1 : i);
        ASSERT_EQ(copy.contains(i), i < 30'000 && i % 3 != 1) << i;
    }
    for (int i = 0; i < 60'000; ++i) {
        ASSERT_TRUE(numbers.erase_in_place(i));
        if (i % 5'000 == 0) {
            ASSERT_EQ(check_tree(numbers, copy), "") << i;
        }
    }
    EXPECT_EQ(numbers.usage(), (vmcow::heap::BlockUsage{}));
}

// ---- wrong use

TEST(BlockMapTest, WhatMakesNoSenseIsRefused) {
    for (const std::size_t bytes : {0U, 4U, 8U, 24U, 8192U}) {
        EXPECT_THROW(Numbers({.leaf_bytes = bytes}), std::invalid_argument) << bytes;
    }
    EXPECT_NO_THROW(Numbers({.leaf_bytes = 16}));
    EXPECT_THROW(Numbers({.leaf_bytes = 64, .fan_out = 3}), std::invalid_argument);
    Numbers numbers{{1, 10}, {2, 20}, {1, 11}};
    EXPECT_EQ(numbers.size(), 2U);
    EXPECT_EQ(numbers.at(1), 11);
    EXPECT_THROW(static_cast<void>(numbers.at(3)), std::out_of_range);
    EXPECT_THROW(numbers.update_in_place(3, [](long&) {}), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*numbers.end()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*Numbers::iterator()), std::logic_error);
}

TEST(BlockMapTest, AKeyMayComeFromTheMapItself) {
    using Names = block_map<std::string, std::string>;
    const auto name = [](int i) { return "a name too long to be stored in place, number " + std::to_string(i); };
    Names names;
    for (int i = 0; i < 500; ++i) names.insert_in_place(name(i), name(i));
    for (const bool shared : {false, true}) {
        for (int i = 0; i < 100; ++i) {
            const Names copy = shared ? names : Names();
            const std::string& key = names.begin()->key;
            const std::string was = key;
            names.update_in_place(key, [&](std::string& value) { value += "!"; });
            EXPECT_EQ(names.at(was).back(), '!');
            names.erase_in_place(names.begin()->key);
            EXPECT_FALSE(names.contains(was));
            EXPECT_EQ(copy.contains(was), shared);
            names = std::move(names).set(names.begin()->key, names.begin()->value);
        }
    }
    EXPECT_EQ(names.size(), 300U);
}

TEST(BlockMapTest, AnIteratorOfAChangedMapThrows) {
    Numbers numbers = counted_up<Numbers>(1'000);
    const Numbers copy = numbers;
    auto at = numbers.begin();
    auto in_copy = copy.begin();
    numbers.erase_in_place(at->key);
    EXPECT_THROW(static_cast<void>(*at), std::logic_error);
    EXPECT_THROW(++at, std::logic_error);
    EXPECT_EQ(std::distance(in_copy, copy.end()), 1'000);
    EXPECT_THROW(numbers.for_each_span([&](auto) { numbers.set_in_place(1, 1); }), std::logic_error);
    at = numbers.begin();
    const Numbers moved = std::move(numbers);
    EXPECT_THROW(static_cast<void>(at->key), std::logic_error);
}

// ---- memory

template <class Change>
void fail_each_allocation(CountedHeap& heap, const Texts& original, Change&& change) {
    const auto before = entries_of(original);
    for (std::size_t left = 0;; ++left) {
        Texts map = original;
        heap.left_to_give = left;
        try {
            change(map);
            heap.left_to_give = CountedHeap::kNone;
            EXPECT_EQ(entries_of(original), before);
            return;
        } catch (const std::bad_alloc&) {
            heap.left_to_give = CountedHeap::kNone;
        }
        EXPECT_EQ(map.size(), before.size());
        EXPECT_EQ(entries_of(map), before);
        EXPECT_EQ(entries_of(original), before);
        EXPECT_EQ(check_tree(map, original), "");
    }
}

TEST(BlockMapTest, NoAllocationThatFailsChangesAnything) {
    CountedHeap heap;
    for (int size = 0; size < 200; size = size * 5 / 4 + 1) {
        Texts map({.leaf_bytes = 128, .fan_out = 4}, TextAllocator(heap));
        for (int i = 0; i < size; ++i) map.insert_in_place(i, "text " + std::to_string(i));
        // At some of these keys a leaf is full and splits.
        for (int key = size; key < size + 10; ++key) {
            fail_each_allocation(heap, map, [&](Texts& each) { each.insert_in_place(key, "x"); });
        }
        fail_each_allocation(heap, map, [&](Texts& each) { each.set_in_place(size / 2, "x"); });
        fail_each_allocation(heap, map, [&](Texts& each) { each.erase_in_place(size / 2); });
        CountedHeap elsewhere;
        fail_each_allocation(elsewhere, map, [&](Texts& each) {
            const Texts copy(each, TextAllocator(elsewhere));
            EXPECT_TRUE(copy == each);
        });
        EXPECT_EQ(elsewhere.blocks, 0U);
    }
    EXPECT_EQ(heap.blocks, 0U);
}

TEST(BlockMapTest, ACopyToOtherMemoryIsOneOfAllEntries) {
    CountedHeap here;
    CountedHeap there;
    Texts original({.leaf_bytes = 64}, TextAllocator(here));
    for (int i = 0; i < 100; ++i) original.insert_in_place(i, std::to_string(i));
    Texts copy(original, TextAllocator(there));
    EXPECT_TRUE(original.is_unique());
    EXPECT_TRUE(copy == original);
    copy = original;
    EXPECT_TRUE(original.is_unique());
    copy = std::move(original);
    EXPECT_EQ(here.blocks, 0U);
    EXPECT_EQ(copy.at(99), "99");
    EXPECT_EQ(&copy.get_allocator().heap(), &there);
}

// ---- in a value, and in threads

TEST(BlockMapTest, AMapInAValueIsReadWhileItsPagesAreReadOnly) {
    using Image =
        block_map<int, long, Options{}, std::hash<int>, std::equal_to<int>, vmcow::allocator<MapEntry<int, long>>>;
    vmcow::Value<Image> value;
    value.edit([](Image& numbers) {
        for (int i = 0; i < 10'000; ++i) numbers.insert_in_place(i, i);
        const Image copy = numbers;
        numbers.set_in_place(7, 70);
        EXPECT_EQ(copy.at(7), 7);
    });
    const vmcow::Value<Image> frozen = value;
    value.edit([](Image& numbers) { numbers.erase_in_place(8); });
    EXPECT_EQ(frozen->at(8), 8);
    EXPECT_EQ(value->find(8), nullptr);
    EXPECT_EQ(diff(*frozen, *value).size(), 1U);
    Image outside = *frozen;
    EXPECT_TRUE(outside.is_unique());
    outside = std::move(outside).set(0, 1);
    EXPECT_EQ(frozen->at(0), 0);
    value.edit([&](Image& numbers) {
        numbers = *frozen;
        numbers.set_in_place(9, 90);
    });
    EXPECT_EQ(frozen->at(9), 9);
    EXPECT_EQ(value->at(9), 90);
}

TEST(BlockMapTest, ThreadsShareBlocks) {
    using Shared = block_map<int, long, Options{.sharing = Sharing::threads}>;
    const Shared original = counted_up<Shared>(2'000, {.leaf_bytes = 64});
    std::vector<std::thread> threads;
    std::vector<int> failures(4, 0);
    for (std::size_t which = 0; which < failures.size(); ++which) {
        threads.emplace_back([&, which] {
            for (int round = 0; round < 10; ++round) {
                Shared mine = original;
                for (int i = 0; i < 300; ++i) mine.set_in_place(i * 7, static_cast<long>(which));
                for (int i = 300; i < 600; ++i) mine.erase_in_place(i);
                failures[which] += mine.at(7) == static_cast<long>(which) && mine.contains(1'999) ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(failures, (std::vector<int>(4, 0)));
    EXPECT_TRUE(original.is_unique());
    EXPECT_EQ(original.at(7), 7);
}

}  // namespace
