// Tests that a failed allocation changes nothing: each allocation of each operation fails in turn, and the operands are
// as before.
#include <gtest/gtest.h>

#include <new>
#include <string>
#include <utility>
#include <vector>

#include "tests/vmcow/heap/counted_heap.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"

namespace {

namespace heap = vmcow::heap;
using tests::CountedHeap;
template <class T>
using Allocator = tests::HeapAllocator<T>;
constexpr heap::Options kPlain{};
template <class T>
using List = heap::list<T, kPlain, Allocator<T>>;
using String = heap::basic_string<kPlain, Allocator<char>>;
using Entry = std::pair<const String, List<long>>;
using Map = heap::map<String, List<long>, kPlain, Allocator<Entry>>;
using OrderedMap = heap::ordered_map<String, List<long>, kPlain, Allocator<Entry>>;
using Set = heap::set<String, kPlain, Allocator<String>>;

/// Runs `operation` on a copy of what `make` makes, each time letting one allocation later fail. Returns the number of
/// failures.
template <class Make, class Operation>
int fail_each(CountedHeap& heap, bool shared, const Make& make, const Operation& operation) {
    const auto expected = make();
    auto operand = make();
    const auto sharer = shared ? operand : make();
    for (std::size_t given = 0;; ++given) {
        const std::size_t blocks = heap.blocks;
        heap.left_to_give = given;
        try {
            operation(operand);
            heap.left_to_give = CountedHeap::kNone;
            EXPECT_EQ(sharer, expected);
            return static_cast<int>(given);
        } catch (const std::bad_alloc&) {
            heap.left_to_give = CountedHeap::kNone;
        }
        EXPECT_EQ(operand, expected) << given;
        EXPECT_EQ(sharer, expected) << given;
        // Before the failure the operation may have made a unique copy or room, but no more than that.
        EXPECT_LE(heap.blocks, blocks + 40) << given;
        if (testing::Test::HasFailure()) return -1;
    }
}

template <class Make, class Operation>
void expect_strong(CountedHeap& heap, const char* name, int least_failures, const Make& make,
                   const Operation& operation) {
    SCOPED_TRACE(name);
    const std::size_t blocks = heap.blocks;
    EXPECT_GE(fail_each(heap, true, make, operation), least_failures);
    static_cast<void>(fail_each(heap, false, make, operation));
    EXPECT_EQ(heap.blocks, blocks);
}

class HeapFailureTest : public testing::Test {
protected:
    [[nodiscard]] List<long> numbers(std::initializer_list<long> values) { return {values, Allocator<long>(heap_)}; }
    [[nodiscard]] String text(std::string_view value) { return {value, Allocator<char>(heap_)}; }
    [[nodiscard]] String key(int number) { return text("a key that is not small, number " + std::to_string(number)); }

    CountedHeap heap_;
};

TEST_F(HeapFailureTest, ListsOfPlainElementsAreAsTheyWere) {
    const auto make = [&] { return numbers({3, 1, 2, 4}); };
    expect_strong(heap_, "push", 1, make, [](auto& a) { a = std::move(a).push(1); });
    expect_strong(heap_, "insert", 1, make, [](auto& a) { a = std::move(a).insert(0, 1); });
    expect_strong(heap_, "set", 1, make, [](auto& a) { a = std::move(a).set(0, 1); });
    expect_strong(heap_, "remove", 1, make, [](auto& a) { a = std::move(a).remove(1); });
    expect_strong(heap_, "sort", 1, make, [](auto& a) { a = std::move(a).sort(); });
    expect_strong(heap_, "reverse", 1, make, [](auto& a) { a = std::move(a).reverse(); });
    expect_strong(heap_, "concat", 1, make, [](auto& a) { a = std::move(a).concat(a); });
    expect_strong(heap_, "take", 1, make, [](auto& a) { a = std::move(a).take(2); });
    expect_strong(heap_, "drop", 1, make, [](auto& a) { a = std::move(a).drop(2); });
    expect_strong(heap_, "reserve", 1, make, [](auto& a) { a = std::move(a).reserve(100); });
    expect_strong(heap_, "lvalue", 1, make, [](auto& a) { static_cast<void>(a.push(1)); });
    expect_strong(heap_, "slice", 1, make, [](auto& a) {
        auto part = a.slice(1, 2);
        part = std::move(part).set(0, 7);
    });
    expect_strong(heap_, "push in place", 1, make, [](auto& a) { a.push_in_place(1); });
    expect_strong(heap_, "insert in place", 1, make, [](auto& a) { a.insert_in_place(0, 1); });
    expect_strong(heap_, "set in place", 1, make, [](auto& a) { a.set_in_place(0, 1); });
    expect_strong(heap_, "update in place", 1, make, [](auto& a) { a.update_in_place(0, [](long& each) { ++each; }); });
    expect_strong(heap_, "remove in place", 1, make, [](auto& a) { a.remove_in_place(1); });
    expect_strong(heap_, "pop in place", 1, make, [](auto& a) { a.pop_in_place(); });
    expect_strong(heap_, "sort in place", 1, make, [](auto& a) { a.sort_in_place(); });
    expect_strong(heap_, "reverse in place", 1, make, [](auto& a) { a.reverse_in_place(); });
    expect_strong(heap_, "concat in place", 1, make, [](auto& a) { a.concat_in_place(a); });
    expect_strong(heap_, "take in place", 1, make, [](auto& a) { a.take_in_place(2); });
    expect_strong(heap_, "drop in place", 1, make, [](auto& a) { a.drop_in_place(2); });
    expect_strong(heap_, "reserve in place", 1, make, [](auto& a) { a.reserve_in_place(100); });
    expect_strong(heap_, "clear in place", 0, make, [](auto& a) { a.clear_in_place(); });
    CountedHeap other;
    expect_strong(heap_, "copy elsewhere", 0, make, [&](auto& a) {
        other.left_to_give = heap_.left_to_give;
        const List<long> copy(a, Allocator<long>(other));
        EXPECT_EQ(copy, a);
    });
    EXPECT_EQ(other.blocks, 0U);
}

TEST_F(HeapFailureTest, SlicesAreAsTheyWere) {
    const List<List<long>> lists = [&] {
        List<List<long>> made{Allocator<List<long>>(heap_)};
        for (long i = 0; i < 6; ++i) made.push_in_place(numbers({i, i}));
        return made;
    }();
    const auto one = [&] { return numbers({7}); };
    const auto check = [&](const auto& make) {
        expect_strong(heap_, "push", 2, make, [&](auto& a) { a = std::move(a).push(one()); });
        expect_strong(heap_, "push in place", 2, make, [&](auto& a) { a.push_in_place(one()); });
        expect_strong(heap_, "insert in place", 2, make, [&](auto& a) { a.insert_in_place(1, one()); });
        expect_strong(heap_, "remove in place", 0, make, [&](auto& a) { a.remove_in_place(1); });
        expect_strong(heap_, "pop in place", 0, make, [&](auto& a) { a.pop_in_place(); });
        expect_strong(heap_, "set in place", 1, make, [&](auto& a) { a.set_in_place(1, one()); });
        expect_strong(heap_, "update in place", 1, make,
                      [&](auto& a) { a.update_in_place(1, [](List<long>& each) { each.push_in_place(1); }); });
        expect_strong(heap_, "reverse in place", 0, make, [&](auto& a) { a.reverse_in_place(); });
        expect_strong(heap_, "concat itself", 1, make, [&](auto& a) { a.concat_in_place(a); });
        expect_strong(heap_, "concat a list", 1, make, [&](auto& a) { a.concat_in_place(lists); });
        expect_strong(heap_, "compact in place", 0, make, [&](auto& a) { a.compact_in_place(); });
        expect_strong(heap_, "to_list", 0, make, [&](auto& a) { static_cast<void>(a.to_list()); });
    };
    check([&] { return lists.slice(1, 4); });
    // Slices that do not share their memory: one ends before its list does, the other ends with it.
    const auto alone = [&] { return List<List<long>>(lists.span(), Allocator<List<long>>(heap_)); };
    check([&] { return alone().slice(1, 4); });
    check([&] { return alone().slice(2, 4); });
}

// The elements are lists, so that copying an element allocates, too.
TEST_F(HeapFailureTest, ListsOfListsAreAsTheyWere) {
    struct Deep {
        List<long> numbers;
        bool operator==(const Deep&) const = default;
        // The copy constructor allocates, as a user's type may do.
        Deep(List<long> made) : numbers(std::move(made)) {}  // NOLINT(google-explicit-constructor)
        Deep(const Deep& other) : numbers(other.numbers.push(0).pop()) {}
        Deep(Deep&&) noexcept = default;
        Deep& operator=(const Deep& other) { return *this = Deep(other); }
        Deep& operator=(Deep&&) noexcept = default;
        ~Deep() = default;
    };
    const auto make = [&] {
        List<Deep> made{Allocator<Deep>(heap_)};
        for (long i = 0; i < 4; ++i) made = std::move(made).push(Deep(numbers({i, i})));
        return made;
    };
    const auto one = [&] { return Deep(numbers({9})); };
    expect_strong(heap_, "push", 6, make, [&](auto& a) { a = std::move(a).push(one()); });
    expect_strong(heap_, "push in place", 6, make, [&](auto& a) { a.push_in_place(one()); });
    expect_strong(heap_, "insert in place", 6, make, [&](auto& a) { a.insert_in_place(1, one()); });
    expect_strong(heap_, "set in place", 5, make, [&](auto& a) { a.set_in_place(1, one()); });
    expect_strong(heap_, "concat in place", 8, make, [](auto& a) { a.concat_in_place(a); });
    expect_strong(heap_, "insert", 6, make, [&](auto& a) { a = std::move(a).insert(1, one()); });
    expect_strong(heap_, "set", 5, make, [&](auto& a) { a = std::move(a).set(1, one()); });
    expect_strong(heap_, "concat", 8, make, [](auto& a) { a = std::move(a).concat(a); });
    expect_strong(heap_, "remove", 4, make, [](auto& a) { a = std::move(a).remove(1); });
    expect_strong(heap_, "take", 3, make, [](auto& a) { a = std::move(a).take(2); });
}

TEST_F(HeapFailureTest, StringsAreAsTheyWere) {
    const auto make = [&] { return text("a text that is too long to be small"); };
    expect_strong(heap_, "concat", 1, make, [](auto& a) { a = std::move(a).concat(a); });
    expect_strong(heap_, "set", 1, make, [](auto& a) { a = std::move(a).set(0, 'A'); });
    expect_strong(heap_, "substring", 1, make, [](auto& a) { a = std::move(a).substring(1, 30); });
    expect_strong(heap_, "concat in place", 1, make, [](auto& a) { a.concat_in_place(a); });
    expect_strong(heap_, "set in place", 1, make, [](auto& a) { a.set_in_place(0, 'A'); });
    expect_strong(heap_, "substring in place", 1, make, [](auto& a) { a.substring_in_place(1, 30); });
    expect_strong(heap_, "trim in place", 1, make, [](auto& a) { a.trim_in_place("a"); });
    const auto small = [&] { return text("small text"); };
    expect_strong(heap_, "concat small in place", 1, small, [](auto& a) { a.concat_in_place("and more"); });
    expect_strong(heap_, "concat", 1, small, [](auto& a) { a = std::move(a).concat("and more"); });
}

TEST_F(HeapFailureTest, MapsAreAsTheyWere) {
    const auto check = [&]<class M>(M none) {
        const auto make = [&] {
            M made = none;
            for (int i = 0; i < 4; ++i) made = std::move(made).set(key(i), numbers({i}));
            return made;
        };
        expect_strong(heap_, "set", 5, make, [&](auto& a) { a = std::move(a).set(key(2), numbers({7})); });
        expect_strong(heap_, "add", 5, make, [&](auto& a) { a = std::move(a).set(key(9), numbers({7})); });
        expect_strong(heap_, "remove", 5, make, [&](auto& a) { a = std::move(a).remove(key(2)); });
        expect_strong(heap_, "update", 5, make, [&](auto& a) {
            a = std::move(a).update(key(2), [](List<long>& list) { list = std::move(list).push(1); });
        });
        expect_strong(heap_, "set in place", 5, make, [&](auto& a) { a.set_in_place(key(2), numbers({7})); });
        expect_strong(heap_, "add in place", 5, make, [&](auto& a) { a.set_in_place(key(9), numbers({7})); });
        expect_strong(heap_, "remove in place", 5, make, [&](auto& a) { a.remove_in_place(key(2)); });
        expect_strong(heap_, "update in place", 5, make,
                      [&](auto& a) { a.update_in_place(key(2), [](List<long>& list) { list.push_in_place(1); }); });
        expect_strong(
            heap_, "first", 2, [&] { return none; }, [&](auto& a) { a = std::move(a).set(key(1), numbers({1})); });
    };
    check(Map(Allocator<Entry>(heap_)));
    check(OrderedMap(Allocator<Entry>(heap_)));
}

TEST_F(HeapFailureTest, SetsAreAsTheyWere) {
    const auto make_from = [&](int first) {
        Set made{Allocator<String>(heap_)};
        for (int i = first; i < first + 4; ++i) made = std::move(made).insert(key(i));
        return made;
    };
    const auto make = [&] { return make_from(0); };
    expect_strong(heap_, "insert", 5, make, [&](auto& a) { a = std::move(a).insert(key(7)); });
    expect_strong(heap_, "remove", 5, make, [&](auto& a) { a = std::move(a).remove(key(2)); });
    expect_strong(heap_, "insert in place", 5, make, [&](auto& a) { a.insert_in_place(key(7)); });
    expect_strong(heap_, "remove in place", 5, make, [&](auto& a) { a.remove_in_place(key(2)); });
    expect_strong(heap_, "unite in place", 5, make, [&](auto& a) { a.unite_in_place(make_from(2)); });
    expect_strong(heap_, "intersect in place", 5, make, [&](auto& a) { a.intersect_in_place(make_from(2)); });
    expect_strong(heap_, "subtract in place", 5, make, [&](auto& a) { a.subtract_in_place(make_from(2)); });
    expect_strong(heap_, "unite", 5, make, [&](auto& a) { a = std::move(a).unite(make_from(2)); });
    expect_strong(heap_, "intersect", 5, make, [&](auto& a) { a = std::move(a).intersect(make_from(2)); });
    expect_strong(heap_, "subtract", 5, make, [&](auto& a) { a = std::move(a).subtract(make_from(2)); });
}

}  // namespace
