// Tests slices: changes that move elements, the memory that slices keep, and comparison with lists.
#include <gtest/gtest.h>

#include <array>
#include <compare>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "tests/vmcow/heap/counted_lists.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"

namespace {

namespace heap = vmcow::heap;
using heap::Counters;
using tests::counted;
using tests::kCounted;
using tests::numbers;
using List = tests::CountedList;
using Slice = tests::CountedSlice;

TEST(HeapSliceTest, AChangeOfASharedOneCopiesItsElementsAloneAndOnce) {
    const std::vector<std::pair<std::function<void(Slice&)>, List>> changes{
        {[](Slice& x) { x.push_in_place(7); }, {3, 4, 5, 7}},
        {[](Slice& x) { x.insert_in_place(0, 7); }, {7, 3, 4, 5}},
        {[](Slice& x) { x.insert_in_place(1, 7); }, {3, 7, 4, 5}},
        {[](Slice& x) { x.insert_in_place(3, 7); }, {3, 4, 5, 7}},
        {[](Slice& x) { x.remove_in_place(1); }, {3, 5}},
        {[](Slice& x) { x.concat_in_place(x); }, {3, 4, 5, 3, 4, 5}},
        {[](Slice& x) { x.concat_in_place(x.slice_of(1, 1)); }, {3, 4, 5, 4}}};
    for (std::size_t i = 0; i < changes.size(); ++i) {
        const List a = numbers(1000);
        Slice middle = a.slice(3, 3);
        const Counters counts = counted([&] { changes[i].first(middle); });
        EXPECT_EQ(middle, changes[i].second) << i;
        EXPECT_EQ(counts.copies, 1U) << i;
        EXPECT_EQ(counts.allocations, 1U) << i;
        EXPECT_LE(counts.copied_bytes, 3 * sizeof(long)) << i;
        EXPECT_LE(counts.allocated_bytes, 30 * sizeof(long)) << i;
        EXPECT_EQ(a, numbers(1000)) << i;
        EXPECT_TRUE(a.is_unique() && middle.is_unique()) << i;
    }
}

TEST(HeapSliceTest, TheFirstAndTheLastOneGoWithoutACopy) {
    const List a = numbers(1000);
    Slice middle = a.slice(3, 3);
    const Counters counts = counted([&] {
        middle.remove_in_place(2);
        middle.remove_in_place(0);
        EXPECT_EQ(middle, List{4});
        EXPECT_TRUE(middle.shares_with(a));
        middle.pop_in_place();
        EXPECT_THROW(middle.pop_in_place(), std::out_of_range);
        EXPECT_THROW(middle.remove_in_place(0), std::out_of_range);
    });
    EXPECT_EQ(counts.copies, 0U);
}

// The slice may use the room of the list: the elements behind the slice have no other owner.
TEST(HeapSliceTest, AUniqueOneIsChangedInPlaceWhereverItLies) {
    for (const std::size_t first : {0U, 3U, 500U, 997U}) {
        List a = numbers(1000);
        const long* const where = a.data() + first;
        const auto expected = static_cast<long>(first);
        Slice part = std::move(a).slice(first, 3);
        const Counters counts = counted([&] {
            part = std::move(part).push(-1).insert(1, -2).remove(2);
            part.pop_in_place();
        });
        EXPECT_EQ(part, (List{expected, -2, expected + 2})) << first;
        EXPECT_EQ(part.span().data(), where) << first;
        EXPECT_EQ(counts, Counters{}) << first;
    }
}

TEST(HeapSliceTest, PushingToAUniqueOneIsAmortised) {
    Slice queue = numbers(10).slice(5, 5);
    const Counters counts = counted([&] {
        // The elements dropped in front are freed when memory is needed.
        for (long i = 0; i < 100'000; ++i) {
            queue.push_in_place(i);
            queue.drop_in_place(1);
        }
    });
    EXPECT_EQ(queue, (List{99'995, 99'996, 99'997, 99'998, 99'999}));
    EXPECT_EQ(counts.copies, 0U);
    EXPECT_LE(counts.allocated_bytes, 100'000 * 32 * sizeof(long));
    const Counters grown = counted([&] {
        for (long i = 0; i < 100'000; ++i) queue.push_in_place(i);
    });
    EXPECT_LE(grown.allocations, 30U);
    EXPECT_EQ(queue.size(), 100'005U);
}

TEST(HeapSliceTest, ElementsOutsideAreDestroyedOnceTheyAreNobodys) {
    using Strings = heap::list<heap::list<long, kCounted>>;
    const List inner = numbers(3);
    Strings all;
    for (int i = 0; i < 5; ++i) all.push_in_place(inner);
    EXPECT_FALSE(inner.is_unique());
    auto part = std::move(all).slice(1, 1);
    part.push_in_place({});
    part.compact_in_place();
    part.pop_in_place();
    part.compact_in_place();
    part.remove_in_place(0);
    part.compact_in_place();
    EXPECT_TRUE(inner.is_unique());
}

TEST(HeapSliceTest, ASliceKeepsTheMemoryOfAllUntilItIsCompacted) {
    tests::CountedHeap used;
    using FarList = heap::list<long, heap::Options{}, tests::HeapAllocator<long>>;
    const auto many = [&] { return FarList(std::vector<long>(100'000, 5), tests::HeapAllocator<long>(used)); };
    constexpr std::size_t kMany = 100'000 * sizeof(long);
    {
        auto part = many().slice(50'000, 10);
        EXPECT_GE(used.bytes, kMany);
        part.compact_in_place();
        EXPECT_LE(used.bytes, 500U);
        EXPECT_EQ(part.size(), 10U);
        EXPECT_EQ(part.last(), 5);
        // A second compaction has nothing to do.
        const long* const where = part.span().data();
        part.compact_in_place();
        EXPECT_EQ(part.span().data(), where);
    }
    {
        const auto part = many().slice(50'000, 10).compact();
        EXPECT_LE(used.bytes, 500U);
        const auto shared = many();
        const auto mine = shared.slice(5, 5).compact();
        EXPECT_FALSE(mine.shares_with(shared));
        EXPECT_EQ(mine, part.take(5));
    }
    {
        // An empty slice keeps no memory, and does not make the others copy.
        const auto list = many();
        const auto none = list.slice(100, 0);
        auto cut = list.slice(100, 10);
        cut = std::move(cut).take(0);
        EXPECT_TRUE(list.is_unique());
        EXPECT_TRUE(none.empty() && cut.empty());
        cut.push_in_place(1);
        EXPECT_EQ(cut.first(), 1);
    }
    EXPECT_EQ(used.blocks, 0U);
}

TEST(HeapSliceTest, ListsAndSlicesAreConcatenatedWithEachOther) {
    const List a{1, 2, 3};
    const Slice b = List{7, 8, 9}.slice(1, 2);
    EXPECT_EQ(a.concat(b), (List{1, 2, 3, 8, 9}));
    EXPECT_EQ(b.concat(a), (List{8, 9, 1, 2, 3}));
    EXPECT_EQ(b.concat(b), (List{8, 9, 8, 9}));
    EXPECT_EQ(b.concat(std::array<long, 2>{4, 5}), (List{8, 9, 4, 5}));
    static_assert(std::is_same_v<decltype(b.concat(a)), Slice>);
    static_assert(std::is_same_v<decltype(a.concat(b)), List>);
    Slice of_a = a.slice(1, 2);
    of_a.concat_in_place(a);
    EXPECT_EQ(of_a, (List{2, 3, 1, 2, 3}));
    EXPECT_EQ(a.concat(a.slice(0, 1)), (List{1, 2, 3, 1}));
    const Slice same = b.concat(List());
    EXPECT_EQ(same.span().data(), b.span().data());
    // A list in another memory.
    tests::CountedHeap used;
    const heap::list<long, heap::Options{}, tests::HeapAllocator<long>> far({5}, tests::HeapAllocator<long>(used));
    EXPECT_EQ(a.concat(far), (List{1, 2, 3, 5}));
}

TEST(HeapSliceTest, ListsAndSlicesCompareByWhatIsInThem) {
    const List a{1, 2, 3};
    const Slice b = List{0, 1, 2, 3, 4}.slice(1, 3);
    EXPECT_TRUE(a == b && b == a && b == b && a == a.slice(0, 3));
    EXPECT_FALSE(a != b || b != a);
    EXPECT_FALSE(a == b.take(2) || b.take(2) == a || b.drop(1) == a);
    EXPECT_TRUE(a.slice(0, 1) == b.take(1) && List() == b.take(0) && Slice() == List());
    EXPECT_TRUE(b.take(2) < a && a > b.take(2) && a <= b && b >= a && a.set(0, 0) < b);
    EXPECT_TRUE((List{1, 2} < List{1, 3}) && (a <=> b == std::strong_ordering::equal));
    // Counting and allocators do not matter for comparison; the type of the elements does.
    tests::CountedHeap used;
    const heap::list<long, heap::Options{}, tests::HeapAllocator<long>> far({1, 2, 3},
                                                                            tests::HeapAllocator<long>(used));
    EXPECT_TRUE(far == a && b == far && far.slice(0, 3) == b);
    const auto comparable = [](const auto& x, const auto& y) {
        return requires { x == y; };
    };
    EXPECT_FALSE(comparable(a, heap::list<int>()));
    EXPECT_FALSE(comparable(b, heap::list<int>()));
    EXPECT_FALSE(comparable(heap::set<int>(), heap::set<long>()));
    EXPECT_FALSE(comparable(heap::map<int, int>(), heap::map<int, long>()));
    EXPECT_FALSE(comparable(heap::block_array<int>(), heap::block_array<long>()));
    // Elements without an order have == only.
    struct Point {
        int x;
        bool operator==(const Point&) const = default;
    };
    EXPECT_TRUE((heap::list<Point>{{1}, {2}} == heap::list<Point>{{1}, {2}}.slice(0, 2)));
    const auto ordered = [](const auto& x) {
        return requires { x < x; };
    };
    EXPECT_FALSE(ordered(heap::list<Point>()));
}

// An element of a temporary is returned as a copy; the compile_fail cases hold the accessors that cannot copy.
TEST(HeapTemporaryTest, ElementsOfTemporariesAreCopies) {
    using Strings = heap::list<std::string>;
    const auto make = [] { return Strings{"a text that is too long to be small", "another one that is too long"}; };
    const std::string& first = make().first();
    const std::string& second = make()[1];
    auto&& last = make().slice(0, 1).last();
    EXPECT_EQ(first, make().at(0));
    EXPECT_EQ(second, make().last());
    EXPECT_EQ(last, first);
    std::string letters;
    for (const char letter : make().at(1)) letters += letter;
    EXPECT_EQ(letters, second);
    const auto map = [] { return heap::map<int, std::string>{{1, "a text that is too long to be small"}}; };
    const std::string& found = map().at(1);
    EXPECT_EQ(found, first);
    EXPECT_EQ(map()[1], first);
    const heap::block_array<std::string> blocks{first, second};
    const std::string& back = heap::block_array<std::string>(blocks).back();
    EXPECT_EQ(back, second);
    const heap::block_map<int, std::string> entries{{1, first}};
    const std::string& value = heap::block_map<int, std::string>(entries).at(1);
    EXPECT_EQ(value, first);
    const char& letter = heap::string("text")[0];
    EXPECT_EQ(letter, 't');
    // A list with a name gives references, not copies.
    const Strings named = make();
    EXPECT_EQ(&named[0], named.data());
    static_assert(std::is_same_v<decltype(named.at(0)), const std::string&>);
    for (const std::string& each : make()) EXPECT_FALSE(each.empty());
}

}  // namespace
