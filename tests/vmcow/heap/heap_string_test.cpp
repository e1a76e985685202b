// Tests string: small strings, shared strings, and arguments that are views of the string itself.
#include "vmcow/heap/string.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"

namespace {

namespace heap = vmcow::heap;
using heap::counters;
using String = heap::basic_string<heap::Options{.counted = true}>;

const String kLong = "a text that is too long to be small";  // NOLINT(cert-err58-cpp)

TEST(HeapStringTest, SmallOnesTakeNoMemory) {
    counters() = {};
    String a = "fifteen letters";
    ASSERT_EQ(a.size(), String::kSmall);
    const String b = a;  // NOLINT(performance-unnecessary-copy-initialization)
    a = std::move(a).set(0, 'F').substring(0, 7).trim().concat(" ").concat(b.substring(8));
    EXPECT_EQ(a, "Fifteen letters");
    EXPECT_EQ(b, "fifteen letters");
    EXPECT_EQ(counters(), heap::Counters{});
    a = std::move(a).concat("!");
    EXPECT_EQ(a, "Fifteen letters!");
    EXPECT_EQ(counters().allocations, 1U);
    EXPECT_EQ(counters().copies, 0U);
}

TEST(HeapStringTest, LongOnesAreSharedUntilTheyAreChanged) {
    counters() = {};
    String a = kLong;
    EXPECT_TRUE(a.shares_with(kLong));
    EXPECT_EQ(counters().allocations, 0U);
    a = std::move(a).set(0, 'A');
    EXPECT_EQ(counters().copies, 1U);
    EXPECT_EQ(counters().copied_bytes, kLong.size());
    a = std::move(a).set(1, '-').substring(0, 30).trim().concat("more");
    EXPECT_EQ(a, "A-text that is too long to bemore");
    EXPECT_EQ(counters().copies, 1U);
    EXPECT_EQ(kLong.substring(2, 4), "text");
    EXPECT_EQ(kLong, "a text that is too long to be small");
}

TEST(HeapStringTest, LittleOfASharedOneIsKeptInTheStringItself) {
    String a = kLong;
    counters() = {};
    a = std::move(a).substring(2, 4);
    EXPECT_EQ(a, "text");
    EXPECT_EQ(counters(), heap::Counters{});
    EXPECT_EQ(kLong.trim(" al"), "text that is too long to be sm");
}

TEST(HeapStringTest, TextOfTheStringItselfMayGoIntoIt) {
    String a = "abcdefgh";
    a = std::move(a).concat(a);
    EXPECT_EQ(a, "abcdefghabcdefgh");
    a = std::move(a).concat(a.view().substr(14));
    EXPECT_EQ(a, "abcdefghabcdefghgh");
    a = String("abc");
    a = std::move(a).concat(a.view().substr(1));
    EXPECT_EQ(a, "abcbc");
}

TEST(HeapStringTest, AMovedFromOneIsEmpty) {
    for (const char* text : {"short", "a text that is too long to be small"}) {
        String a = text;
        String b = std::move(a);
        EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is the claim
        a = std::move(b);
        EXPECT_TRUE(b.empty());  // NOLINT(bugprone-use-after-move)
        EXPECT_EQ(a, text);
        String& same = a;
        a = std::move(same);
        EXPECT_EQ(a, text);
        swap(a, b);
        EXPECT_EQ(b, text);
    }
}

TEST(HeapStringTest, WhatIsOutOfRangeIsRefused) {
    const String a = "abc";
    EXPECT_THROW(static_cast<void>(a[3]), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.set(3, 'x')), std::out_of_range);
    EXPECT_THROW(static_cast<void>(a.substring(4)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(String(a).substring(4, 0)), std::out_of_range);
    EXPECT_EQ(a.substring(3), "");
    EXPECT_EQ(a.find("c", 99), std::nullopt);
    EXPECT_EQ(a.find(""), 0U);
    EXPECT_EQ(String("").trim(), "");
    EXPECT_EQ(String(" \t\n ").trim(), "");
    EXPECT_EQ(String(" a b ").trim(), "a b");
}

TEST(HeapStringTest, ItIsAKeyAndPrintsItself) {
    heap::map<heap::string, heap::list<int>> map;
    map = std::move(map).set("one", {1}).set("two", {2, 2}).set("one", {3});
    EXPECT_EQ(map.at("one"), (heap::list<int>{3}));
    EXPECT_EQ(std::hash<heap::string>()("x"), std::hash<heap::string>()(heap::string("xy").substring(0, 1)));
    std::ostringstream out;
    out << heap::string("text") << (heap::string("a") < heap::string("b"));
    EXPECT_EQ(out.str(), "text1");
    std::string letters;
    for (const char each : heap::string("abc")) letters += each;
    EXPECT_EQ(letters, "abc");
}

RC_GTEST_PROP(HeapStringPropertyTest, StringsAgreeWithStrings, ()) {
    std::vector<std::pair<String, std::string>> all(1);
    all.reserve(5);
    const int steps = *rc::gen::inRange(1, 50);
    for (int i = 0; i < steps; ++i) {
        auto& [ours, model] = all[*rc::gen::inRange<std::size_t>(0, all.size())];
        const auto at = *rc::gen::inRange<std::size_t>(0, 40) % (model.size() + 1);
        const auto count = *rc::gen::inRange<std::size_t>(0, 40);
        switch (*rc::gen::inRange(0, 6)) {
            case 0:
                if (all.size() < 5) all.emplace_back(std::pair(ours, model));
                break;
            case 1:
                if (model.size() > 500) break;
                ours = std::move(ours).concat(ours.view().substr(at, count));
                model += std::string(model.substr(at, count));
                break;
            case 2: {
                const auto text = *rc::gen::container<std::string>(rc::gen::element('a', ' ', 'b'));
                ours = std::move(ours).concat(text);
                model += text;
                break;
            }
            case 3:
                RC_ASSERT(ours.substring(at, count) == model.substr(at, count));
                ours = std::move(ours).substring(at, count + 10);
                model = model.substr(at, count + 10);
                break;
            case 4: {
                ours = std::move(ours).trim();
                const auto first = std::min(model.find_first_not_of(' '), model.size());
                model = model.substr(first, model.find_last_not_of(' ') + 1 - first);
                break;
            }
            default:
                if (at == model.size()) break;
                ours = std::move(ours).set(at, 'c');
                model[at] = 'c';
        }
        for (const auto& [text, expected] : all) RC_ASSERT(text.view() == expected);
        RC_ASSERT(ours.find("ab").value_or(std::string::npos) == model.find("ab"));
    }
}

}  // namespace
