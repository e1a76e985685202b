// Tests block_array: its content against std::vector, what it copies, and what it leaves behind when memory runs out.
#include "vmcow/heap/block_array.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
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
using vmcow::heap::block_array;
using vmcow::heap::BlockShape;
using vmcow::heap::counters;
using vmcow::heap::IndexRange;
using vmcow::heap::Options;
using vmcow::heap::Sharing;

using Numbers = block_array<std::uint64_t>;
using CountedNumbers = block_array<std::uint64_t, Options{.counted = true}>;
using Texts = block_array<std::string, Options{}, HeapAllocator<std::string>>;

template <class Array>
auto elements_of(const Array& array) {
    std::vector<typename Array::value_type> all;
    array.for_each_span([&](auto leaf) { all.insert(all.end(), leaf.begin(), leaf.end()); });
    return all;
}
template <class Array>
Array counted_up(std::size_t size, const BlockShape& shape = {}) {
    typename Array::builder all(shape);
    for (std::size_t i = 0; i < size; ++i) all.push_back(i);
    return std::move(all).build();
}
/// The number of blocks from the root to a leaf, both included.
template <class Array>
std::size_t path(const Array& array) {
    return array.levels() + std::size_t{1};
}

/// Makes random changes to a few versions of an array and to vectors beside them, which must stay equal.
template <class Array, class MakeElement>
void run_steps(const Array& empty, MakeElement&& make_element) {
    using T = typename Array::value_type;
    std::vector<std::pair<Array, std::vector<T>>> versions(3, {empty, {}});
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        const auto which = *rc::gen::inRange<std::size_t>(0, versions.size());
        auto& [array, model] = versions[which];
        const auto index = *rc::gen::inRange<std::size_t>(0, model.size() + 1);
        const bool in_place = *rc::gen::arbitrary<bool>();
        switch (*rc::gen::inRange(0, 7)) {
            case 0:
                for (int many = *rc::gen::inRange(0, 100); many > 0; --many) {
                    array = std::move(array).push_back(make_element(many));
                    model.push_back(make_element(many));
                }
                break;
            case 1:
                for (int many = *rc::gen::inRange(0, 100); many > 0 && !model.empty(); --many) {
                    array = in_place ? std::move(array).pop_back() : array.pop_back();
                    model.pop_back();
                }
                break;
            case 2:
                if (index == model.size()) break;
                array = in_place ? std::move(array).set(index, make_element(i)) : array.set(index, make_element(i));
                model[index] = make_element(i);
                break;
            case 3:
                versions[*rc::gen::inRange<std::size_t>(0, versions.size())] = std::pair(array, model);
                break;
            case 4: {
                typename Array::builder more(std::move(array));
                std::vector<T> added;
                for (int many = *rc::gen::inRange(0, 100); many > 0; --many) added.push_back(make_element(many));
                if (!added.empty()) more.push_back(added.front());
                more.append(added);
                if (!added.empty()) model.push_back(added.front());
                model.insert(model.end(), added.begin(), added.end());
                RC_ASSERT(more.size() == model.size());
                array = std::move(more).build();
                break;
            }
            case 5:
                if (index == model.size()) break;
                array.update_in_place(index, [&](T& element) { element = make_element(-i); });
                model[index] = make_element(-i);
                break;
            default:
                if (i % 10 == 0) {
                    array.clear_in_place();
                    model.clear();
                }
        }
        for (const auto& [each, same] : versions) {
            RC_ASSERT(each.size() == same.size());
            RC_ASSERT(elements_of(each) == same);
        }
        RC_ASSERT(check_tree(versions[0].first, versions[1].first, versions[2].first) == "");
        RC_ASSERT(std::equal(array.begin(), array.end(), model.begin(), model.end()));
        const auto& other = versions[(which + 1) % versions.size()];
        RC_ASSERT((array == other.first) == (model == other.second));
        std::vector<bool> differs(std::max(model.size(), other.second.size()), true);
        for (std::size_t at = 0; at < std::min(model.size(), other.second.size()); ++at) {
            differs[at] = !(model[at] == other.second[at]);
        }
        std::vector<bool> found(differs.size(), false);
        for (const IndexRange run : diff(array, other.first)) {
            RC_ASSERT(run.count > 0);
            for (std::size_t at = run.first; at < run.first + run.count; ++at) found.at(at) = true;
        }
        RC_ASSERT(found == differs);
    }
}

BlockShape some_shape(std::size_t element_bytes) {
    const auto least = static_cast<int>(std::max<std::size_t>(std::bit_width(element_bytes - 1), 3));
    return {std::size_t{1} << *rc::gen::inRange(least, least + 4), std::size_t{4} << *rc::gen::inRange(0, 3)};
}

RC_GTEST_PROP(BlockArrayPropertyTest, VersionsAreAsVectorsAre, ()) {
    run_steps(Numbers(some_shape(sizeof(std::uint64_t))), [](int i) { return static_cast<std::uint64_t>(i); });
}

RC_GTEST_PROP(BlockArrayPropertyTest, ElementsMayHaveMemoryOfTheirOwn, ()) {
    CountedHeap heap;
    run_steps(Texts(some_shape(sizeof(std::string)), HeapAllocator<std::string>(heap)),
              [](int i) { return "a text too long to be stored in place, number " + std::to_string(i); });
    RC_ASSERT(heap.blocks == 0U);
}

// ---- what is copied

TEST(BlockArrayTest, AUniqueArrayCopiesNothing) {
    CountedNumbers numbers = counted_up<CountedNumbers>(10'000);
    counters() = {};
    for (std::size_t i = 0; i < 10'000; ++i) numbers = std::move(numbers).set(i * 7 % 10'000, i);
    while (numbers.size() > 5'000) numbers = std::move(numbers).pop_back();
    EXPECT_EQ(counters(), (vmcow::heap::Counters{}));
    while (numbers.size() < 10'000) numbers = std::move(numbers).push_back(1);
    EXPECT_EQ(counters().copies, 0U);
    EXPECT_TRUE(numbers.is_unique());
}

TEST(BlockArrayTest, AChangeOfASharedArrayCopiesOnePathOnce) {
    const CountedNumbers before = counted_up<CountedNumbers>(10'000);
    CountedNumbers after = before;
    counters() = {};
    after.set_in_place(1'234, 1);
    EXPECT_EQ(counters().copies, path(before));
    after.set_in_place(1'235, 1);
    EXPECT_EQ(counters().copies, path(before));
    const std::uint64_t copied = counters().allocated_bytes;
    EXPECT_EQ(after.usage().bytes, before.usage().bytes);
    EXPECT_EQ(after.usage().shared_blocks, after.usage().leaves + after.usage().inner_nodes - path(before));
    EXPECT_LT(copied, 900U);
    EXPECT_EQ(before[1'234], 1'234U);
}

TEST(BlockArrayTest, WhatCopiesHadIsInPlaceAgainWhenTheyAreGone) {
    CountedNumbers numbers = counted_up<CountedNumbers>(10'000);
    { const CountedNumbers copy = numbers; }
    counters() = {};
    for (std::size_t i = 0; i < 10'000; ++i) numbers.set_in_place(i, 0);
    EXPECT_EQ(counters(), (vmcow::heap::Counters{}));
}

// The model: a new version takes a leaf of 256 bytes and, with a million elements, four inner nodes of 16 pointers.
TEST(BlockArrayTest, AVersionTakesAsMuchAsTheModelSays) {
    constexpr std::size_t kVersions = 1'000;
    const CountedNumbers first = counted_up<CountedNumbers>(1'000'000);
    ASSERT_EQ(first.levels(), 4U);
    const double model = 256 + 4.0 * 16 * sizeof(void*);
    std::vector<CountedNumbers> versions;
    versions.reserve(kVersions);
    counters() = {};
    for (std::size_t i = 0; i < kVersions; ++i) versions.push_back(first.set(i * 7919 % 999'000, i));
    const double each = static_cast<double>(counters().allocated_bytes) / kVersions;
    EXPECT_LE(each, 1.1 * model);
    EXPECT_LT(each, 900.0);
}

TEST(BlockArrayTest, OverheadIsBounded) {
    for (const auto& [leaf_bytes, most] : {std::pair<std::size_t, double>{64, 0.30}, {256, 0.10}, {4096, 0.01}}) {
        counters() = {};
        const CountedNumbers numbers = counted_up<CountedNumbers>(1'000'000, {.leaf_bytes = leaf_bytes});
        const double data = 1'000'000 * sizeof(std::uint64_t);
        EXPECT_LE(static_cast<double>(counters().allocated_bytes) / data, 1 + most) << leaf_bytes;
        EXPECT_EQ(numbers.usage().bytes, counters().allocated_bytes);
    }
}

TEST(BlockArrayTest, DiffLooksOnlyAtWhatIsNotShared) {
    const Numbers before = counted_up<Numbers>(100'000);
    const Numbers after = before.set(500, 0).set(501, 0).set(70'000, 0).set(99'999, 0);
    std::size_t looked_at = 0;
    before.for_each_difference(after, [&](std::size_t, std::span<const std::uint64_t> mine, auto) {
        looked_at += mine.size();
        return true;
    });
    EXPECT_EQ(looked_at, 3 * 256 / sizeof(std::uint64_t));
    EXPECT_EQ(diff(before, after), (std::vector<IndexRange>{{500, 2}, {70'000, 1}, {99'999, 1}}));
    EXPECT_EQ(diff(before, before.push_back(1)), (std::vector<IndexRange>{{100'000, 1}}));
    EXPECT_EQ(diff(before, counted_up<Numbers>(100'000, {.leaf_bytes = 64})), std::vector<IndexRange>{});
}

// ---- wrong use

TEST(BlockArrayTest, ShapesThatMakeNoSenseAreRefused) {
    for (const std::size_t bytes : {0U, 4U, 24U, 100U, 8192U}) {
        EXPECT_THROW(Numbers({.leaf_bytes = bytes}), std::invalid_argument) << bytes;
    }
    for (const std::size_t children : {1U, 2U, 5U, 128U}) {
        EXPECT_THROW(Numbers({.leaf_bytes = 64, .fan_out = children}), std::invalid_argument) << children;
    }
    struct Large {
        char bytes[20];
    };
    EXPECT_THROW(block_array<Large>({.leaf_bytes = 16}), std::invalid_argument);
    EXPECT_NO_THROW(block_array<Large>({.leaf_bytes = 32}));
    struct TooLarge {
        char bytes[5000];
    };
    EXPECT_THROW(block_array<TooLarge>(), std::invalid_argument);
}

TEST(BlockArrayTest, WhatIsNotThereIsOutOfRange) {
    Numbers numbers;
    EXPECT_THROW(numbers.pop_back_in_place(), std::out_of_range);
    EXPECT_THROW(static_cast<void>(numbers.back()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(numbers[0]), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*numbers.begin()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(*Numbers::iterator()), std::out_of_range);
    EXPECT_THROW(static_cast<void>(Numbers::iterator()[1]), std::out_of_range);
    numbers = {1, 2, 3};
    EXPECT_THROW(static_cast<void>(numbers[3]), std::out_of_range);
    EXPECT_THROW(static_cast<void>(numbers.leaf_from(3)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(numbers.set(3, 1)), std::out_of_range);
    EXPECT_THROW(numbers.update_in_place(SIZE_MAX, [](auto&) {}), std::out_of_range);
    EXPECT_THROW(static_cast<void>(std::move(numbers).set(3, 1)), std::out_of_range);
    EXPECT_EQ(elements_of(numbers), (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST(BlockArrayTest, AnElementMayComeFromTheArrayItself) {
    block_array<std::string> texts({.leaf_bytes = 32});
    texts.push_back_in_place("a text too long to be stored in place");
    for (int i = 0; i < 100; ++i) texts.push_back_in_place(texts[static_cast<std::size_t>(i)]);
    texts = std::move(texts).set(3, texts[5]);
    EXPECT_TRUE(std::all_of(texts.begin(), texts.end(), [&](const std::string& each) { return each == texts[0]; }));
    texts = *&texts;
    texts = std::move(*&texts);
    EXPECT_EQ(texts.size(), 101U);
}

TEST(BlockArrayTest, AnIteratorGoesOnInAChangedArray) {
    Numbers numbers = counted_up<Numbers>(1'000);
    const Numbers copy = numbers;
    auto at = numbers.begin() + 10;
    EXPECT_EQ(*at, 10U);
    numbers.set_in_place(10, 5);
    EXPECT_EQ(*at, 5U);
    ++at;
    while (numbers.size() > 12) numbers.pop_back_in_place();
    EXPECT_EQ(*at, 11U);
    numbers.pop_back_in_place();
    EXPECT_THROW(static_cast<void>(*at), std::out_of_range);
    const Numbers taken = std::move(numbers);
    EXPECT_THROW(static_cast<void>(*--at), std::out_of_range);
    EXPECT_EQ(std::accumulate(copy.begin(), copy.end(), std::uint64_t{0}), 999U * 1'000 / 2);
    auto back = copy.end();
    for (std::size_t i = 1'000; i-- > 0;) EXPECT_EQ(*--back, i);
}

TEST(BlockArrayTest, SpansGoOnInAChangedArray) {
    Numbers numbers = counted_up<Numbers>(1'000);
    std::vector<std::uint64_t> seen;
    numbers.for_each_span([&](std::span<const std::uint64_t> leaf) {
        seen.push_back(leaf.front());
        const std::size_t left = numbers.size() / 2;
        while (numbers.size() > left) numbers.pop_back_in_place();
    });
    EXPECT_EQ(seen, (std::vector<std::uint64_t>{0, 32, 64, 96}));
}

// ---- memory

/// Runs `change` on copies of an array, each time letting one allocation later fail. Returns the number of allocations.
template <class Change>
std::size_t fail_each_allocation(CountedHeap& heap, const Texts& original, Change&& change) {
    const std::vector<std::string> before = elements_of(original);
    for (std::size_t left = 0;; ++left) {
        Texts array = original;
        heap.left_to_give = left;
        try {
            change(array);
            heap.left_to_give = CountedHeap::kNone;
            EXPECT_EQ(elements_of(original), before);
            return left;
        } catch (const std::bad_alloc&) {
            heap.left_to_give = CountedHeap::kNone;
        }
        EXPECT_EQ(elements_of(array), before);
        EXPECT_EQ(elements_of(original), before);
        EXPECT_EQ(check_tree(array, original), "");
    }
}

TEST(BlockArrayTest, NoAllocationThatFailsChangesAnything) {
    CountedHeap heap;
    for (const std::size_t size : {0U, 1U, 3U, 4U, 16U, 17U, 64U, 65U, 68U, 69U, 300U}) {
        Texts array({.leaf_bytes = 128, .fan_out = 4}, HeapAllocator<std::string>(heap));
        for (std::size_t i = 0; i < size; ++i) array.push_back_in_place("text " + std::to_string(i));
        std::size_t failed = fail_each_allocation(heap, array, [](Texts& each) { each.push_back_in_place("x"); });
        EXPECT_GT(failed, 0U);
        if (size == 0) continue;
        fail_each_allocation(heap, array, [](Texts& each) { each.pop_back_in_place(); });
        failed = fail_each_allocation(heap, array, [&](Texts& each) { each.set_in_place(size / 2, "x"); });
        EXPECT_GT(failed, 0U);
        fail_each_allocation(heap, array, [&](Texts& each) { static_cast<void>(each.set(0, "x").push_back("y")); });
        CountedHeap elsewhere;
        fail_each_allocation(elsewhere, array, [&](Texts& each) {
            const Texts copy(each, HeapAllocator<std::string>(elsewhere));
            EXPECT_EQ(elements_of(copy), elements_of(each));
        });
        EXPECT_EQ(elsewhere.blocks, 0U);
    }
    EXPECT_EQ(heap.blocks, 0U);
}

TEST(BlockArrayTest, ACopyToOtherMemoryIsOneOfAllElements) {
    CountedHeap here;
    CountedHeap there;
    Texts original({.leaf_bytes = 64}, HeapAllocator<std::string>(here));
    for (int i = 0; i < 100; ++i) original.push_back_in_place(std::to_string(i));
    const std::size_t blocks = here.blocks;
    Texts copy(original, HeapAllocator<std::string>(there));
    EXPECT_TRUE(original.is_unique());
    EXPECT_TRUE(copy.is_unique());
    EXPECT_TRUE(copy == original);
    EXPECT_EQ(here.blocks, blocks);
    copy = original;
    EXPECT_EQ(here.blocks, blocks);
    copy = std::move(original);
    EXPECT_EQ(here.blocks, 0U);
    EXPECT_EQ(copy.size(), 100U);
    EXPECT_EQ(&copy.get_allocator().heap(), &there);
    const Texts moved(std::move(copy), HeapAllocator<std::string>(there));
    EXPECT_EQ(moved[99], "99");
}

struct Chain;
struct Link {
    std::size_t depth = 0;
    std::shared_ptr<Chain> below;
};
struct Chain {
    block_array<Link> links;
};

TEST(BlockArrayTest, ALongChainOfArraysEndsWithoutDeepStack) {
    Link top;
    for (std::size_t depth = 1; depth <= 200'000; ++depth) {
        auto below = std::make_shared<Chain>(Chain{block_array<Link>({.leaf_bytes = 32})});
        below->links.push_back_in_place(std::move(top));
        top = {depth, std::move(below)};
    }
    EXPECT_EQ(top.below->links[0].depth, 199'999U);
}

// Blocks of two memories alternate, and neither memory can queue the other's blocks for destruction.
TEST(BlockArrayTest, ALongChainThroughTwoMemoriesEndsWithoutDeepStack) {
    struct Far;
    struct Pointer {
        std::shared_ptr<Far> below;
    };
    using Pointers = block_array<Pointer, Options{}, HeapAllocator<Pointer>>;
    struct Far {
        Pointers pointers;
    };
    CountedHeap heaps[2];
    Pointer top;
    for (std::size_t depth = 0; depth < 200'000; ++depth) {
        Pointers pointers({.leaf_bytes = 16}, HeapAllocator<Pointer>(heaps[depth % 2]));
        pointers.push_back_in_place(std::move(top));
        top.below = std::make_shared<Far>(Far{std::move(pointers)});
    }
    EXPECT_EQ(heaps[1].blocks, 100'000U);
    top.below.reset();
    EXPECT_EQ(heaps[0].blocks + heaps[1].blocks, 0U);
}

// With a fan-out of 16, arrays find their elements by code of their own.
TEST(BlockArrayTest, TreesOfAnyHeightAreRead) {
    for (const std::size_t fan_out : {4U, 16U, 64U}) {
        Numbers numbers({.leaf_bytes = 8, .fan_out = fan_out});
        for (const std::size_t size : {1U, 17U, 257U, 4'097U, 65'537U, 1'048'577U}) {
            Numbers::builder more(std::move(numbers));
            while (more.size() < size) more.push_back(more.size());
            numbers = std::move(more).build();
            for (std::size_t i = 0; i < size; i += 1 + size / 1'000) ASSERT_EQ(numbers[i], i) << size;
            ASSERT_EQ(numbers.back(), size - 1);
        }
    }
}

// ---- in a value

using ImageNumbers = block_array<std::uint64_t, Options{}, vmcow::allocator<std::uint64_t>>;

TEST(BlockArrayTest, AnArrayInAValueIsReadWhileItsPagesAreReadOnly) {
    vmcow::Value<ImageNumbers> value;
    value.edit([](ImageNumbers& numbers) {
        for (std::uint64_t i = 0; i < 10'000; ++i) numbers.push_back_in_place(i);
        const ImageNumbers copy = numbers;
        numbers.set_in_place(7, 70);
        EXPECT_EQ(copy[7], 7U);
        EXPECT_GT(numbers.usage().shared_blocks, 0U);
    });
    const vmcow::Value<ImageNumbers> frozen = value;
    value.edit(
        [](ImageNumbers& numbers) { numbers.set_in_place(8, 80); });  // in a private view, behind a read-only one
    EXPECT_EQ((*frozen)[8], 8U);
    EXPECT_EQ((*value)[8], 80U);
    EXPECT_EQ(diff(*frozen, *value), (std::vector<IndexRange>{{8, 1}}));

    ImageNumbers outside = *frozen;
    EXPECT_TRUE(outside.is_unique());
    outside = std::move(outside).set(0, 1).push_back(2);
    EXPECT_EQ((*frozen)[0], 0U);
    EXPECT_EQ(frozen->size(), 10'000U);

    value.edit([&](ImageNumbers& numbers) {
        numbers = *frozen;  // another image
        EXPECT_TRUE(numbers.is_unique());
        numbers.set_in_place(9, 90);
    });
    EXPECT_EQ((*frozen)[9], 9U);
    EXPECT_EQ((*value)[9], 90U);
}

// ---- threads

TEST(BlockArrayTest, ThreadsShareBlocks) {
    using Shared = block_array<std::uint64_t, Options{.sharing = Sharing::threads}>;
    const Shared original = counted_up<Shared>(5'000, {.leaf_bytes = 64});
    std::vector<std::thread> threads;
    std::vector<std::uint64_t> sums(4, 0);
    for (std::size_t which = 0; which < sums.size(); ++which) {
        threads.emplace_back([&, which] {
            for (std::size_t round = 0; round < 20; ++round) {
                Shared mine = original;
                for (std::size_t i = 0; i < 500; ++i) mine.set_in_place((i * 37 + which) % 5'000, which);
                while (mine.size() > 4'900) mine.pop_back_in_place();
                mine.push_back_in_place(1);
                sums[which] += std::accumulate(mine.begin(), mine.end(), std::uint64_t{0});
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(std::accumulate(original.begin(), original.end(), std::uint64_t{0}), 5'000U * 4'999 / 2);
    EXPECT_TRUE(original.is_unique());
    EXPECT_TRUE(std::all_of(sums.begin(), sums.end(), [](std::uint64_t sum) { return sum > 0; }));
}

}  // namespace
