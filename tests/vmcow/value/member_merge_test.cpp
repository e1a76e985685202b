// Tests joining values member by member: containers that several sides have changed, by rules, and conflicts.
#include "vmcow/member_merge.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/containers.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/value.hpp"

namespace vmcow {
namespace {

struct Totals {
    int visits = 0;
    double weight = 0;
};

struct Log {
    vmcow::vector<vmcow::string> lines;
    vmcow::map<vmcow::string, int> prices;
    vmcow::unordered_set<int> seen;
    Totals totals;
    int places[3] = {};
};

/// A copy of `value` that `change` has edited.
template <class T, class Change>
Value<T> with(const Value<T>& value, Change&& change) {
    Value<T> changed = value;
    changed.edit(std::forward<Change>(change));
    return changed;
}

template <class T>
std::vector<T> elements(const auto& container) {
    return {container.begin(), container.end()};
}

Value<Log> log_of_two_lines() {
    Value<Log> log;
    log.edit([](Log& to) {
        to.lines.push_back("first");
        to.lines.push_back("second");
        to.prices["tea"] = 2;
        to.prices["milk"] = 1;
        to.seen.insert(7);
        to.totals.visits = 10;
    });
    return log;
}

MemberRules<Log> all_rules() {
    return MemberRules<Log>().append(&Log::lines).unite(&Log::prices).unite(&Log::seen).sum([](auto& log) -> auto& {
        return log.totals.visits;
    });
}

TEST(MemberMergeTest, TwoSidesAppendUniteAndCount) {
    const Value<Log> log = log_of_two_lines();
    const Value<Log> a = with(log, [](Log& to) {
        to.lines.push_back("of a");
        to.prices["tea"] = 3;
        to.seen.insert(8);
        to.totals.visits += 5;
        to.places[0] = 1;
    });
    const Value<Log> b = with(log, [](Log& to) {
        to.lines.push_back("of b");
        to.lines.push_back("too");
        to.prices.erase("milk");
        to.prices["salt"] = 9;
        to.seen.insert(8);
        to.seen.erase(7);
        to.totals.visits += 2;
        to.totals.weight = 0.5;
        to.places[2] = 3;
    });
    const auto merged = merge_members(log, {a, b}, all_rules());
    ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
    const Value<Log>& joined = merged.value();
    EXPECT_EQ((std::vector<vmcow::string>{"first", "second", "of a", "of b", "too"}),
              elements<vmcow::string>(joined->lines));
    EXPECT_EQ(2U, joined->prices.size());
    EXPECT_EQ(3, joined->prices.at("tea"));
    EXPECT_EQ(9, joined->prices.at("salt"));
    EXPECT_EQ((std::set<int>{8}), std::set<int>(joined->seen.begin(), joined->seen.end()));
    EXPECT_EQ(17, joined->totals.visits);
    EXPECT_EQ(0.5, joined->totals.weight);
    EXPECT_EQ((std::vector<int>{1, 0, 3}), std::vector<int>(std::begin(joined->places), std::end(joined->places)));
    // Nobody else sees that.
    EXPECT_EQ(2U, log->lines.size());
    EXPECT_EQ(3U, a->lines.size());
    EXPECT_EQ(4U, b->lines.size());
}

TEST(MemberMergeTest, WithoutRulesOneSideAloneMayHaveChangedAMember) {
    const Value<Log> log = log_of_two_lines();
    const Value<Log> a = with(log, [](Log& to) { to.lines.clear(); });
    const Value<Log> b = with(log, [](Log& to) { to.totals.weight = 2; });
    const auto merged = merge_members(log, {a, b, log});
    ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
    EXPECT_TRUE(merged.value()->lines.empty());
    EXPECT_EQ(2.0, merged.value()->totals.weight);
    EXPECT_EQ(2U, merged.value()->prices.size());
}

TEST(MemberMergeTest, ConflictNamesTheMemberAndTheSides) {
    const Value<Log> log = log_of_two_lines();
    const Value<Log> a = with(log, [](Log& to) { to.lines.push_back("of a"); });
    const Value<Log> b = with(log, [](Log& to) { to.lines.push_back("of b"); });
    EXPECT_EQ("member 0: side 0 and side 2 have changed it to different values",
              merge_members(log, {a, log, b}).conflict().describe());
    const Value<Log> c = with(log, [](Log& to) { to.places[1] = 1; });
    const Value<Log> d = with(log, [](Log& to) { to.places[1] = 2; });
    EXPECT_EQ("member 4, element 1", merge_members(log, {c, d}).conflict().place);
    const Value<Log> e = with(log, [](Log& to) { to.totals.weight = 1; });
    const Value<Log> f = with(log, [](Log& to) { to.totals.weight = 2; });
    EXPECT_EQ("member 3, member 1", merge_members(log, {e, f}).conflict().place);
}

TEST(MemberMergeTest, EqualChangesAreNoConflict) {
    const Value<Log> log = log_of_two_lines();
    const auto change = [](Log& to) {
        to.lines[0] = "changed";
        to.lines.reserve(100);
        to.totals.weight = std::numeric_limits<double>::quiet_NaN();
    };
    const auto merged = merge_members(log, {with(log, change), with(log, change)});
    ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
    EXPECT_EQ("changed", merged.value()->lines[0]);
    EXPECT_TRUE(std::isnan(merged.value()->totals.weight));
}

TEST(MemberMergeTest, NoSideOrNoChangeIsTheBase) {
    const Value<Log> log = log_of_two_lines();
    EXPECT_EQ(2U, merge_members(log, {}).value()->lines.size());
    EXPECT_EQ(2U, merge_members(log, {log, log}, all_rules()).value()->lines.size());
    EXPECT_EQ(10, merge_members(log, {log, log}, all_rules()).value()->totals.visits);
}

using Numbers = vmcow::vector<int>;

Value<Numbers> one_two_three() {
    Value<Numbers> numbers;
    numbers.edit([](Numbers& to) { to.assign({1, 2, 3}); });
    return numbers;
}

MergedMembers<Numbers> append(const Value<Numbers>& base, const std::vector<Value<Numbers>>& sides) {
    return merge_members(base, sides, MemberRules<Numbers>().append());
}

std::vector<int> appended(const Value<Numbers>& base, const std::vector<Value<Numbers>>& sides) {
    const Value<Numbers> joined = append(base, sides).value();
    return elements<int>(*joined);
}

TEST(MemberMergeTest, AppendComparesTheOldElementsPlaceByPlace) {
    const Value<Numbers> base = one_two_three();
    const Value<Numbers> a = with(base, [](Numbers& to) { to[0] = 10, to.push_back(4); });
    const Value<Numbers> b = with(base, [](Numbers& to) { to[2] = 30, to.push_back(5); });
    EXPECT_EQ((std::vector<int>{10, 2, 30, 4, 5}), appended(base, {a, b}));
    EXPECT_EQ((std::vector<int>{10, 2, 30, 5, 4}), appended(base, {b, a}));
    EXPECT_EQ((std::vector<int>{10, 2, 3, 4, 4}), appended(base, {a, a}));
    const Value<Numbers> c = with(base, [](Numbers& to) { to[0] = 11; });
    EXPECT_EQ("the value, element 0: side 0 and side 1 have changed it to different values",
              append(base, {a, c}).conflict().describe());
}

TEST(MemberMergeTest, AppendRefusesThatElementsWereRemovedBesideOtherChanges) {
    const Value<Numbers> base = one_two_three();
    const Value<Numbers> shorter = with(base, [](Numbers& to) { to.pop_back(); });
    const Value<Numbers> longer = with(base, [](Numbers& to) { to.push_back(4); });
    EXPECT_EQ("the value, where elements were removed", append(base, {longer, shorter}).conflict().place);
    EXPECT_EQ((std::vector<int>{1, 2}), appended(base, {shorter, base}));
    EXPECT_EQ((std::vector<int>{1, 2}), appended(base, {shorter, shorter}));
}

TEST(MemberMergeTest, UniteIsInConflictAboutOneKeyAlone) {
    using Prices = vmcow::map<vmcow::string, int>;
    const auto unite = MemberRules<Prices>().unite();
    Value<Prices> base;
    base.edit([](Prices& to) { to["tea"] = 1, to["milk"] = 2; });
    const auto set = [&](const char* key, int price) { return with(base, [&](Prices& to) { to[key] = price; }); };
    const Value<Prices> erased = with(base, [](Prices& to) { to.erase("tea"); });
    EXPECT_EQ("the value, key 'tea': side 0 and side 1 have changed it to different values",
              merge_members(base, {set("tea", 3), set("tea", 4)}, unite).conflict().describe());
    EXPECT_FALSE(merge_members(base, {erased, set("tea", 4)}, unite).ok());
    EXPECT_FALSE(merge_members(base, {set("new", 3), set("new", 4)}, unite).ok());
    EXPECT_EQ(3, merge_members(base, {set("tea", 3), set("tea", 3)}, unite).value()->at("tea"));
    EXPECT_EQ(1U, merge_members(base, {erased, erased, base}, unite).value()->size());
    EXPECT_EQ(4U, merge_members(base, {set("a", 3), set("b", 4)}, unite).value()->size());
}

TEST(MemberMergeTest, SumWrapsAround) {
    const auto joined = [](auto base, auto a, auto b) {
        using N = decltype(base);
        const auto merged = merge_members(Value<N>(base), {Value<N>(a), Value<N>(b)}, MemberRules<N>().sum());
        return N(*merged.value());
    };
    EXPECT_EQ(5, joined(10, 8, 7));
    EXPECT_EQ(std::uint8_t{4}, joined(std::uint8_t{250}, std::uint8_t{255}, std::uint8_t{255}));
    constexpr int kMost = std::numeric_limits<int>::max();
    constexpr int kLeast = std::numeric_limits<int>::min();
    EXPECT_EQ(kLeast, joined(0, kMost, 1));
    EXPECT_EQ(kMost, joined(0, kLeast, -1));
    EXPECT_EQ(4.5, joined(1.0, 2.0, 3.5));
}

template <class T>
using HeapList = heap::list<T, heap::Options{}, allocator<T>>;
template <class T>
using HeapSet = heap::set<T, heap::Options{}, allocator<T>>;
template <class K, class V>
using HeapMap = heap::map<K, V, heap::Options{}, allocator<std::pair<const K, V>>>;

struct OfHeap {
    HeapList<int> list;
    HeapSet<int> set;
    HeapMap<int, int> map;
    HeapList<HeapList<int>> rows;
};

TEST(MemberMergeTest, StructuresOfTheHeapAreJoinedToo) {
    Value<OfHeap> base;
    base.edit([](OfHeap& to) {
        to.list.push_in_place(1);
        to.set.insert_in_place(1);
        to.map.set_in_place(1, 1);
    });
    const auto side = [&](int number) {
        return with(base, [&](OfHeap& to) {
            to.list.push_in_place(number);
            to.set.insert_in_place(number);
            to.map.set_in_place(number, number);
        });
    };
    const Value<OfHeap> erased = with(base, [](OfHeap& to) {
        to.list.set_in_place(0, 9);
        to.set.remove_in_place(1);
        to.map.remove_in_place(1);
    });
    const auto rules = MemberRules<OfHeap>().append(&OfHeap::list).unite(&OfHeap::set).unite(&OfHeap::map);
    const auto merged = merge_members(base, {side(2), side(3), erased}, rules);
    ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
    EXPECT_EQ((std::vector<int>{9, 2, 3}), elements<int>(merged.value()->list));
    const auto& set = merged.value()->set;
    EXPECT_EQ((std::set<int>{2, 3}), std::set<int>(set.begin(), set.end()));
    EXPECT_EQ(2U, merged.value()->map.size());
    EXPECT_FALSE(merged.value()->map.contains(1));
}

HeapList<int> thousand(int number) {
    HeapList<int> all;
    for (int i = 0; i < 1000; ++i) all.push_in_place(number);
    return all;
}

TEST(MemberMergeTest, ResultStandsByItself) {
    Value<OfHeap> joined;
    {
        Value<OfHeap> base;
        base.edit([](OfHeap& to) { to.rows.push_in_place({1, 2}); });
        const Value<OfHeap> a = with(base, [](OfHeap& to) { to.rows.push_in_place(thousand(3)); });
        const Value<OfHeap> b = with(base, [](OfHeap& to) { to.rows.push_in_place(thousand(4)); });
        joined = merge_members(base, {a, b}, MemberRules<OfHeap>().append(&OfHeap::rows)).value();
    }
    const Value<Numbers> other(std::in_place, std::size_t{10'000}, -1);  // takes the memory of what has ended
    ASSERT_EQ(3U, joined->rows.size());
    EXPECT_EQ((std::vector<int>{1, 2}), elements<int>(joined->rows[0]));
    EXPECT_EQ(std::vector<int>(1000, 3), elements<int>(joined->rows[1]));
    EXPECT_EQ(std::vector<int>(1000, 4), elements<int>(joined->rows[2]));
}

TEST(MemberMergeTest, RuleAboutNothingIsRefused) {
    static int elsewhere = 0;
    const Value<Log> log;
    const auto rules = MemberRules<Log>().append(&Log::lines).sum([](auto&) -> int& { return elsewhere; });
    std::string message;
    try {
        (void)merge_members(log, {log}, rules);
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    EXPECT_EQ("merge: rule 1 is about no member of the value", message);
}

/// Each of many sides does random things to the keys and places that are its own.
TEST(MemberMergeTest, SidesThatTouchDifferentThingsAreNeverInConflict) {
    std::mt19937 random(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): each run is the same
    for (int round = 0; round < 50; ++round) {
        const int sides = 1 + round % 7;
        Value<Log> base;
        base.edit([&](Log& to) {
            for (int i = 0; i < 40; ++i) to.prices[std::to_string(i).c_str()] = i, to.lines.push_back("old");
        });
        std::map<std::string, int> expected;
        for (const auto& [key, price] : base->prices) expected[key.c_str()] = price;
        std::size_t lines = 40;
        std::vector<Value<Log>> all;
        for (int side = 0; side < sides; ++side) {
            all.push_back(with(base, [&](Log& to) {
                for (int key = side; key < 80; key += sides) {
                    const std::string name = std::to_string(key);
                    const auto what = random() % 3;
                    if (what == 0) continue;
                    if (what == 1) to.prices.erase(name.c_str()), expected.erase(name);
                    if (what == 2) to.prices[name.c_str()] = -key, expected[name] = -key;
                }
                for (auto i = random() % 5; i > 0; --i) to.lines.push_back("new"), ++lines;
            }));
        }
        const auto merged = merge_members(base, all, all_rules());
        ASSERT_TRUE(merged.ok()) << merged.conflict().describe();
        std::map<std::string, int> seen;
        for (const auto& [key, price] : merged.value()->prices) seen[key.c_str()] = price;
        ASSERT_EQ(expected, seen);
        ASSERT_EQ(lines, merged.value()->lines.size());
    }
}

TEST(MemberMergeTest, ManyElementsOfManySides) {
    constexpr int kEach = 25'000;
    const Value<Numbers> base(std::in_place, std::size_t{100'000}, 1);
    std::vector<Value<Numbers>> sides;
    for (int side = 0; side < 4; ++side) {
        sides.push_back(with(base, [&](Numbers& to) {
            for (int i = 0; i < kEach; ++i) to.push_back(side * kEach + i);
        }));
    }
    const Value<Numbers> joined = append(base, sides).value();
    ASSERT_EQ(200'000U, joined->size());
    for (int i = 0; i < 4 * kEach; ++i) ASSERT_EQ(i, (*joined)[100'000 + static_cast<std::size_t>(i)]);
}

}  // namespace
}  // namespace vmcow
