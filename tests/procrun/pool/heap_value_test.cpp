// The structures of vmcow/heap inside a Value: read from read-only pages, edited, and passed through a pool.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"
#include "vmcow/value.hpp"

namespace {

namespace heap = vmcow::heap;
using procrun::Pool;
using vmcow::Value;

template <class T>
using List = heap::list<T, heap::Options{}, vmcow::allocator<T>>;
template <class T>
using Slice = heap::slice<T, heap::Options{}, vmcow::allocator<T>>;
using String = heap::basic_string<heap::Options{}, vmcow::allocator<char>>;
template <class K, class V>
using Map = heap::map<K, V, heap::Options{}, vmcow::allocator<std::pair<const K, V>>>;
template <class K, class V>
using OrderedMap = heap::ordered_map<K, V, heap::Options{}, vmcow::allocator<std::pair<const K, V>>>;
template <class T>
using Set = heap::set<T, heap::Options{}, vmcow::allocator<T>>;

struct Doc {
    List<List<long>> rows;
    Slice<long> part;
    String title;
    Map<String, List<long>> index;
    OrderedMap<long, String> names;
    Set<long> tags;
};

void fill(Doc& doc) {
    doc.rows = std::move(doc.rows).push(List<long>{1, 2, 3}).push({4});
    doc.rows = std::move(doc.rows).push(doc.rows[0]);
    doc.part = doc.rows[0].slice(1, 2);
    doc.title = String("a title that is too long to be small");
    doc.index = std::move(doc.index).set(String("a key that is too long, too"), doc.rows[0]).set("k", {9});
    doc.names = std::move(doc.names).set(2, doc.title).set(1, "one");
    doc.tags = std::move(doc.tags).insert(5).insert(6);
}
void change(Doc& doc) {
    doc.rows = std::move(doc.rows).update(0, [](List<long>& row) { row = std::move(row).push(7).set(0, 0); });
    doc.part = std::move(doc.part).set(0, 20);
    doc.title = std::move(doc.title).concat("!");
    doc.index = std::move(doc.index).remove("k").set("new", doc.rows[0]);
    doc.names = std::move(doc.names).remove(2).set(3, "three").set(2, "two");
    doc.tags = std::move(doc.tags).unite(Set<long>{7, 8}).remove(5);
}
/// Does what `change` does, one step at a time and in place.
void change_in_place(Doc& doc) {
    doc.rows.update_in_place(0, [](List<long>& row) {
        row.push_in_place(7);
        row.set_in_place(0, 0);
    });
    doc.part.set_in_place(0, 20);
    doc.title.concat_in_place("!");
    doc.index.remove_in_place("k");
    doc.index.set_in_place("new", doc.rows[0]);
    doc.names.remove_in_place(2);
    doc.names.set_in_place(3, "three");
    doc.names.set_in_place(2, "two");
    doc.tags.unite_in_place(Set<long>{7, 8});
    doc.tags.remove_in_place(5);
}
std::string text_of(const List<long>& list) {
    std::string text = "[";
    for (const long each : list) text += std::to_string(each) + ",";
    return text + "]";
}
std::string text_of(const Doc& doc) {
    std::string text;
    for (const auto& row : doc.rows) text += text_of(row);
    text += " " + text_of(doc.part.to_list()) + " " + std::string(doc.title.view()) + " ";
    for (const char* key : {"a key that is too long, too", "k", "new"}) {
        const auto* const found = doc.index.find(key);
        text += found == nullptr ? "-" : text_of(*found);
    }
    text += " ";
    for (const auto& [key, value] : doc.names) text += std::to_string(key) + "=" + std::string(value.view()) + ",";
    for (const long tag : {5L, 6L, 7L, 8L}) text += doc.tags.contains(tag) ? '+' : '-';
    return text;
}
std::string text_and_change(Doc& doc) {
    std::string text = text_of(doc);
    change(doc);
    return text;
}

constexpr const char* kFilled =
    "[1,2,3,][4,][1,2,3,] [2,3,] a title that is too long to be small [1,2,3,][9,]- "
    "2=a title that is too long to be small,1=one,++--";
constexpr const char* kChanged =
    "[0,2,3,7,][4,][1,2,3,] [20,3,] a title that is too long to be small! [1,2,3,]-[0,2,3,7,] "
    "1=one,3=three,2=two,-+++";

TEST(HeapValueTest, AValueIsEditedAndItsCopiesStay) {
    Value<Doc> value;
    value.edit(fill);
    EXPECT_EQ(text_of(*value), kFilled);
    Value<Doc> copy = value;
    copy.edit(change);
    EXPECT_EQ(text_of(*copy), kChanged);
    EXPECT_EQ(text_of(*value), kFilled);
    value.edit(change);
    EXPECT_EQ(text_of(*value), kChanged);
}

TEST(HeapValueTest, HandlesWithinAValueShare) {
    Value<Doc> value;
    value.edit([](Doc& doc) {
        fill(doc);
        EXPECT_TRUE(doc.rows[0].shares_with(doc.rows[2]) && doc.part.shares_with(doc.rows[0]));
        const List<long> local = doc.rows[0];
        EXPECT_TRUE(local.shares_with(doc.rows[0]));
        const auto in_place = doc.rows[1].data();
        doc.rows = std::move(doc.rows).update(1, [](List<long>& row) { row = std::move(row).set(0, 8); });
        EXPECT_EQ(doc.rows[1].data(), in_place);
    });
    EXPECT_TRUE(value->part.shares_with(value->rows[2]));
    EXPECT_EQ(value->rows[1].first(), 8);
}

TEST(HeapValueTest, AValueIsEditedInPlaceAndItsCopiesStay) {
    Value<Doc> value;
    value.edit(fill);
    Value<Doc> copy = value;
    copy.edit(change_in_place);
    EXPECT_EQ(text_of(*copy), kChanged);
    EXPECT_EQ(text_of(*value), kFilled);
    Pool pool({.workers = 1});
    const auto applied = pool.apply(change_in_place, value);
    ASSERT_TRUE(applied.ok()) << applied.outcome().describe();
    EXPECT_EQ(text_of(*applied.value()), kChanged);
    EXPECT_EQ(text_of(*value), kFilled);
}

TEST(HeapValueTest, SlicesGrowWithinAValue) {
    Value<Doc> value;
    value.edit(fill);
    const Value<Doc> before = value;
    value.edit([](Doc& doc) {
        EXPECT_TRUE(doc.part.shares_with(doc.rows[0]));
        doc.part.push_in_place(8);
        doc.part.insert_in_place(0, 1);
        doc.part.concat_in_place(doc.rows[1]);
        EXPECT_FALSE(doc.part.shares_with(doc.rows[0]));
    });
    EXPECT_EQ(value->part, (List<long>{1, 2, 3, 8, 4}));
    EXPECT_EQ(value->rows[0], (List<long>{1, 2, 3}));
    EXPECT_EQ(text_of(*before), kFilled);
}

// A value copies whatever is moved into it; the source is empty all the same.
TEST(HeapValueTest, WhatIsMovedIntoAValueIsEmpty) {
    Value<Doc> value;
    Doc outside;
    fill(outside);
    value.edit([&](Doc& doc) { doc = std::move(outside); });
    EXPECT_EQ(text_of(*value), kFilled);
    // NOLINTBEGIN(bugprone-use-after-move): the test looks at the moved-from object.
    EXPECT_TRUE(outside.rows.empty() && outside.part.empty() && outside.title.empty() && outside.index.empty());
    EXPECT_TRUE(outside.names.empty() && outside.tags.empty());
    fill(outside);
    // NOLINTEND(bugprone-use-after-move)
    EXPECT_EQ(text_of(outside), kFilled);
    value.edit([&](Doc& doc) {
        outside = std::move(doc);
        EXPECT_TRUE(doc.rows.empty() && doc.part.empty() && doc.title.empty() && doc.index.empty());
        EXPECT_TRUE(doc.names.empty() && doc.tags.empty());
    });
    EXPECT_EQ(text_of(outside), kFilled);
}

// Changing a reference count on a read-only page would be SIGSEGV.
TEST(HeapValueTest, AFrozenValueIsReadAndCopiedOutOf) {
    Value<Doc> value;
    value.edit(fill);
    const Value<Doc> frozen = Value<Doc>::from_snapshot(value.snapshot());
    EXPECT_EQ(text_of(*frozen), kFilled);
    const Doc out = *frozen;
    EXPECT_EQ(text_of(out), kFilled);
    EXPECT_FALSE(out.rows.shares_with(frozen->rows));
    EXPECT_EQ(text_of(frozen->rows[0].push(5).reverse()), "[5,3,2,1,]");
    EXPECT_EQ(text_of(frozen->rows[0].take(1).concat(frozen->rows[1])), "[1,4,]");
    EXPECT_EQ(text_of(frozen->part.set(0, 1).to_list()), "[1,3,]");
    EXPECT_EQ(frozen->title.substring(2, 20).trim(), "title that is too lo");
    EXPECT_EQ(frozen->index.remove("k").size(), 1U);
    EXPECT_EQ(frozen->names.set(9, "nine").size(), 3U);
    EXPECT_EQ(frozen->tags.unite(Set<long>{1, 2}).intersect(frozen->tags).size(), 2U);
}

TEST(HeapValueTest, BetweenTwoValuesEverythingIsCopied) {
    Value<Doc> from;
    from.edit(fill);
    const Value<Doc> frozen = Value<Doc>::from_snapshot(from.snapshot());
    Value<Doc> to;
    to.edit([&](Doc& doc) {
        doc = *frozen;
        EXPECT_FALSE(doc.rows.shares_with(frozen->rows));
        doc.tags = std::move(doc.tags).unite(frozen->tags);
        doc.rows = std::move(doc.rows).concat(frozen->rows).take(3);
    });
    EXPECT_EQ(text_of(*to), kFilled);
    to.edit([&](Doc& doc) {
        from.edit([&](Doc& other) {
            doc.rows = other.rows;
            other.rows = std::move(other.rows).push(doc.rows[1]);
            doc.index = std::move(doc.index).set("new", other.rows[0]);
        });
        doc.title = from->title;
    });
    EXPECT_EQ(from->rows.size(), 4U);
    EXPECT_EQ(to->rows.size(), 3U);
    EXPECT_EQ(text_of(*frozen), kFilled);
}

TEST(HeapValueTest, FunctionProcessesReadAndChangeThem) {
    Pool pool({.workers = 1});
    Value<Doc> value;
    value.edit(fill);
    const auto seen = pool.call(
        +[](const Doc& doc) { return text_of(doc); }, value);
    ASSERT_TRUE(seen.ok()) << seen.outcome().describe();
    EXPECT_EQ(seen.value(), kFilled);
    const auto by_value = pool.call(text_and_change, value);
    ASSERT_TRUE(by_value.ok()) << by_value.outcome().describe();
    EXPECT_EQ(text_of(*value), kFilled);
    auto applied = pool.apply(text_and_change, value);
    ASSERT_TRUE(applied.ok()) << applied.outcome().describe();
    EXPECT_EQ(applied.value().second, kFilled);
    EXPECT_EQ(text_of(*applied.value().first), kChanged);
    EXPECT_EQ(text_of(*value), kFilled);
    auto moved = pool.apply(text_and_change, std::move(value));
    ASSERT_TRUE(moved.ok()) << moved.outcome().describe();
    EXPECT_EQ(text_of(*moved.value().first), kChanged);
}

TEST(HeapValueTest, AValueOfALongListGrowsInPlace) {
    Value<List<long>> value;
    value.edit([](List<long>& list) {
        for (long i = 0; i < 100'000; ++i) list = std::move(list).push(i);
    });
    const Value<List<long>> copy = value;
    value.edit([](List<long>& list) { list = std::move(list).set(50'000, -1); });
    EXPECT_EQ(copy->at(50'000), 50'000);
    EXPECT_EQ(value->at(50'000), -1);
    // The kernel has copied single pages and not the whole list.
    EXPECT_LE(value.changes().copied.value, 8U);
}

}  // namespace
