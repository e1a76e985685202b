// Graphs that are run: their results, and the pages that were copied for them.
#include <gtest/gtest.h>

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "procrun/graph.hpp"
#include "tests/procrun/graph/graphs.hpp"
#include "tests/support/values_in_files.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::CallPath;
using procrun::Graph;
using procrun::GraphDecision;
using procrun::GraphRun;
using procrun::Pool;
using tests::append;
using tests::largest;
using tests::Numbers;
using tests::pop;
using tests::push;
using tests::scale;
using tests::set;
using tests::sum_of;
using tests::sum_of_scaled;
using vmcow::PageCount;
using vmcow::Value;

class GraphTest : public tests::GraphFixture {};

TEST_F(GraphTest, TheProgramOfItsDescription) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto total = graph.call("total", sum_of, a);
    auto b = graph.apply("scale", scale, a, total);
    graph.effect("log",
                 procrun::by_bytes([board = board_.get()](const Numbers& numbers) { board->printed[0] = numbers[0]; }),
                 b);
    graph.output(b);
    GraphRun run = graph.run(pool_);
    ASSERT_TRUE(run.ok()) << run.failure();
    EXPECT_EQ(*run.get(b), (Numbers{6, 12, 18}));
    EXPECT_EQ(board_->printed[0], 6);
    EXPECT_EQ(decision(run, "a", "total"), GraphDecision::alias);
    EXPECT_EQ(decision(run, "a", "scale"), GraphDecision::moved);
    EXPECT_EQ(decision(run, "scale", "log"), GraphDecision::snapshot);
    EXPECT_EQ(path(run, "total"), CallPath::alias);
    EXPECT_EQ(path(run, "scale"), CallPath::moved);
}

// ---- programs whose answers are known

// The program is b = a..[4], and a is read afterwards.
TEST_F(GraphTest, AValueThatIsUsedLaterIsCopiedWhereItIsChanged) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto b = graph.apply("push", push, a, 4L);
    graph.output(a);
    graph.output(b);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(a), (Numbers{1, 2, 3}));
    EXPECT_EQ(*run.get(b), (Numbers{1, 2, 3, 4}));
    EXPECT_EQ(decision(run, "a", "push"), GraphDecision::shared);
    EXPECT_EQ(copied(run, "push"), PageCount{1});
}

TEST_F(GraphTest, AValueThatIsNotUsedLaterIsChangedInPlace) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto b = graph.apply("push", push, a, 4L);
    graph.output(b);
    GraphRun run = graph.run(pool_);
    EXPECT_EQ(decision(run, "a", "push"), GraphDecision::moved);
    EXPECT_EQ(path(run, "push"), CallPath::moved);
    EXPECT_EQ(copied(run, "push"), PageCount{});
    // The result belongs to the caller, who can change it in place in turn.
    Value<Numbers> taken = run.take(b);
    const Numbers* const before = &*taken;
    taken.edit([](Numbers& numbers) { numbers.push_back(5); });
    EXPECT_EQ(&*taken, before);
    EXPECT_EQ(*taken, (Numbers{1, 2, 3, 4, 5}));
}

// The program is async print(a); a[0] = 10; print(a). It prints [1, 2, 3] and [10, 2, 3], whichever print runs first.
TEST_F(GraphTest, ASideEffectSeesTheValueAsItWasInEveryInterleaving) {
    enum Wait { nobody, effect_waits_for_change, change_waits_for_effect };
    const auto print = procrun::by_bytes([board = board_.get()](const Numbers& numbers, bool waits) {
        if (waits) {
            while (board->here == 0) tests::sleep_ms(1);
        }
        board->printed[0] = numbers[0] * 100 + numbers[1] * 10 + numbers[2];
        board->open = true;
    });
    const auto change = procrun::by_bytes([board = board_.get()](Numbers& numbers, bool waits) {
        if (waits) {
            while (!board->open) tests::sleep_ms(1);
        }
        numbers[0] = 10;
        board->here = 1;
    });
    for (std::size_t i = 0; i < 60; ++i) {
        board_->here = 0;
        board_->open = false;
        board_->printed[0] = 0;
        const Wait wait = std::array{nobody, effect_waits_for_change, change_waits_for_effect}[i % 3];
        Graph graph;
        auto a = graph.input("a", Value<Numbers>{1, 2, 3});
        graph.effect("print", print, a, wait == effect_waits_for_change);
        auto changed = graph.apply("change", change, a, wait == change_waits_for_effect);
        graph.output(changed);
        const GraphRun run = graph.run(pool_);
        ASSERT_TRUE(run.ok()) << run.failure();
        ASSERT_EQ(board_->printed[0], 123);
        ASSERT_EQ(*run.get(changed), (Numbers{10, 2, 3}));
        ASSERT_EQ(decision(run, "a", "change"), GraphDecision::shared);
    }
}

// The program is a = f(a). The caller's variable holds the array while f has it, so that a reference count says
// "shared".
TEST_F(GraphTest, AnArrayThatIsAssignedBackIsNotCopiedAlthoughItsCountSaysShared) {
    Value<Numbers> a(Numbers(100'000, 1L));
    const auto counted = pool_.apply(set, a, std::size_t{7}, 5L);
    EXPECT_EQ(counted.cost().copied, PageCount{1});

    Graph graph;
    auto passed = graph.input("a", Value<Numbers>(Numbers(100'000, 1L)));
    auto before = graph.call("sum", sum_of, passed);
    auto back = graph.apply("set", set, passed, std::size_t{7}, 5L);
    graph.output(before);
    graph.output(back);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(before), 100'000);
    EXPECT_EQ((*run.get(back))[7], 5);
    EXPECT_EQ(path(run, "set"), CallPath::moved);
    EXPECT_EQ(copied(run, "set"), PageCount{});
}

TEST_F(GraphTest, TheSameArrayIsCopiedWhenTheCallerReadsTheOldOneAgain) {
    Graph graph;
    auto passed = graph.input("a", Value<Numbers>(Numbers(100'000, 1L)));
    auto back = graph.apply("set", set, passed, std::size_t{7}, 5L);
    auto changed = graph.call("sum of changed", sum_of, back);
    auto again = graph.call(
        "read again", [](const Numbers& old, long sum) { return old[7] + sum; }, passed, changed);
    graph.output(again);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(again), 1 + 100'004);
    EXPECT_EQ(decision(run, "a", "set"), GraphDecision::shared);
    EXPECT_EQ(run.plan().find("a", "set")->reason, "'read again' reads it later");
    EXPECT_EQ(copied(run, "set"), PageCount{1});
}

TEST_F(GraphTest, TwoNestedCallsChangeTheirArgumentInPlace) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1}));
    auto inner = graph.apply("inner", push, a, 2L);
    auto outer = graph.apply("outer", push, inner, 3L);
    graph.output(outer);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(outer), (Numbers{1, 2, 3}));
    for (const char* const node : {"inner", "outer"}) {
        EXPECT_EQ(path(run, node), CallPath::moved);
        EXPECT_EQ(copied(run, node), PageCount{});
    }
}

TEST_F(GraphTest, TwoNestedCallsLeaveAValueThatIsReadLater) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    auto inner = graph.apply("inner", push, a, 2L);
    auto outer = graph.apply("outer", push, inner, 3L);
    graph.output(a);
    graph.output(outer);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(a), (Numbers{1}));
    EXPECT_EQ(*run.get(outer), (Numbers{1, 2, 3}));
    EXPECT_EQ(run.plan().find("inner", "outer")->reason, "last reader, but 'inner' has made it as a delta");
    EXPECT_NE(path(run, "outer"), CallPath::moved);
}

TEST_F(GraphTest, ADiamondSharesItsBase) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto left = graph.apply("left", push, a, 4L);
    auto right = graph.apply("right", push, a, 5L);
    auto joined = graph.apply("join", append, left, right);
    graph.output(joined);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(joined), (Numbers{1, 2, 3, 4, 1, 2, 3, 5}));
    EXPECT_EQ(decision(run, "a", "left"), GraphDecision::shared);
    EXPECT_EQ(decision(run, "a", "right"), GraphDecision::shared);
    EXPECT_EQ(path(run, "join", run.plan().find("right", "join")->image.value()), CallPath::alias);
}

// Each call waits until the other has begun, so that the run ends only if both run at once.
TEST_F(GraphTest, IndependentCallsRunAtTheSameTime) {
    const auto meet = procrun::by_bytes([board = board_.get()](const Numbers& numbers) {
        ++board->here;
        while (board->here < 2) tests::sleep_ms(1);
        return numbers[0];
    });
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    auto b = graph.input("b", Value<Numbers>{2});
    auto first = graph.call("first", meet, a);
    auto second = graph.call("second", meet, b);
    graph.output(graph.call(
        "sum", [](long x, long y) { return x + y; }, first, second));
    const GraphRun run = graph.run(pool_);
    ASSERT_TRUE(run.ok()) << run.failure();
    EXPECT_EQ(run.plan().levels()[0], (std::vector<std::string>{"first", "second"}));
}

// ---- who shares what

TEST_F(GraphTest, TheOneWhoChangesInPlaceWaitsForThoseWhoRead) {
    const auto slow = procrun::by_bytes([board = board_.get()](const Numbers& numbers) {
        tests::sleep_ms(20);
        board->open = true;
        return numbers[0];
    });
    const auto change =
        procrun::by_bytes([board = board_.get()](Numbers& numbers) { numbers[0] = board->open ? 7 : -1; });
    Graph graph;
    auto a = graph.input("a", tests::in_file({1}));
    auto changed = graph.apply("change", change, a);
    auto read = graph.call("slow", slow, a);
    graph.output(read);
    graph.output(changed);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(read), 1);
    EXPECT_EQ(*run.get(changed), (Numbers{7}));
    EXPECT_EQ(path(run, "change"), CallPath::moved);
    EXPECT_EQ(run.plan().find("a", "change")->reason, "last reader, waits for 'slow'");
}

TEST_F(GraphTest, WithParallelismPreferredNobodyWaits) {
    // Neither call would end without the other.
    const auto read = procrun::by_bytes([board = board_.get()](const Numbers& numbers) {
        ++board->here;
        while (board->here < 2) tests::sleep_ms(1);
        return numbers[0];
    });
    const auto change = procrun::by_bytes([board = board_.get()](Numbers& numbers) {
        ++board->here;
        while (board->here < 2) tests::sleep_ms(1);
        numbers[0] = 7;
    });
    Graph graph({.prefer = procrun::GraphPreference::parallel});
    auto a = graph.input("a", Value<Numbers>{1});
    auto first = graph.call("read", read, a);
    auto changed = graph.apply("change", change, a);
    graph.output(first);
    graph.output(changed);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(first), 1);
    EXPECT_EQ(*run.get(changed), (Numbers{7}));
    EXPECT_EQ(decision(run, "a", "change"), GraphDecision::shared);
}

TEST_F(GraphTest, ACallThatWritesToItsArgumentChangesNobodysValue) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto scaled = graph.call("scaled", sum_of_scaled, a, 10L);
    auto plain = graph.call("plain", sum_of, a);
    graph.output(scaled);
    graph.output(plain);
    graph.output(a);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(scaled), 60);
    EXPECT_EQ(run.get(plain), 6);
    EXPECT_EQ(*run.get(a), (Numbers{1, 2, 3}));
    EXPECT_EQ(decision(run, "a", "scaled"), GraphDecision::private_copy);
}

TEST_F(GraphTest, ReadersAreLentAValueThatTheCallerCanChangeInPlaceAfterwards) {
    Value<Numbers> a = tests::in_file({1, 2, 3});  // it is moved, not sent
    const Numbers* const before = &*a;
    Graph graph;
    auto in = graph.input("a", std::move(a));
    graph.output(graph.call("sum", sum_of, in));
    graph.output(graph.call("largest", largest, in));
    auto more = graph.apply("push", push, in, 4L);
    graph.output(more);
    GraphRun run = graph.run(pool_);
    Value<Numbers> taken = run.take(more);
    taken.edit([](Numbers& numbers) { numbers.push_back(5); });
    EXPECT_EQ(&*taken, before);
}

TEST_F(GraphTest, AnInputOfWhichTheCallerKeepsACopyIsSharedWithIt) {
    const Value<Numbers> kept{1, 2, 3};
    Graph graph;
    auto a = graph.input("a", kept);
    auto b = graph.apply("push", push, a, 4L);
    graph.output(b);
    for (int i = 0; i < 3; ++i) {
        const GraphRun run = graph.run(pool_);
        EXPECT_EQ(*run.get(b), (Numbers{1, 2, 3, 4}));
        EXPECT_EQ(decision(run, "a", "push"), GraphDecision::shared);
        EXPECT_NE(path(run, "push"), CallPath::moved);
    }
    EXPECT_EQ(*kept, (Numbers{1, 2, 3}));
    EXPECT_EQ(graph.plan().find("a", "push")->reason, "last reader, but the caller keeps a copy");
}

TEST_F(GraphTest, WhatAnAppliedFunctionReturnsIsAValueToo) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1, 2, 3}));
    auto [rest, last] = graph.apply("pop", pop, a);
    auto [less, unread] = graph.apply("pop", pop, rest);
    auto again = graph.apply("push", push, less, last);
    graph.output(again);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(again), (Numbers{1, 3}));
    EXPECT_EQ(path(run, "pop#2"), CallPath::moved);
}

TEST_F(GraphTest, AValueCanBeBothArgumentsOfACall) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1, 2});
    auto twice = graph.apply("append", append, a, a);
    graph.output(twice);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(twice), (Numbers{1, 2, 1, 2}));
    EXPECT_EQ(decision(run, "a", "append"), GraphDecision::shared);
}

TEST_F(GraphTest, BytesTextsArraysAndSnapshotsAreValues) {
    Graph graph;
    auto text = graph.input("text", std::string("abc"));
    auto array = graph.input("array", Value<double[]>{1.0, 2.0});
    auto image = graph.input("image", tests::counting_snapshot(2));
    auto length = graph.call(
        "length", [](const std::string& s) { return s.size(); }, text);
    auto halved = graph.apply(
        "halve", [](std::span<double> d, std::size_t n) { d[0] /= static_cast<double>(n); }, array, length);
    auto added = graph.apply("add", tests::add_to_pages, image, std::size_t{1}, 5L);
    auto made = graph.call(
        "make", [](std::size_t n) { return Value<Numbers>(Numbers(n, 2L)); }, length);
    graph.output(halved);
    graph.output(added);
    graph.output(made);
    GraphRun run = graph.run(pool_);
    ASSERT_TRUE(run.ok()) << run.failure();
    EXPECT_DOUBLE_EQ(run.get(halved)[0], 1.0 / 3);
    EXPECT_EQ(tests::longs_in(run.get(added))[0], 5);
    EXPECT_EQ(*run.get(made), (Numbers{2, 2, 2}));
    EXPECT_EQ(run.plan().find("image", "add")->reason, "last reader, but its image is frozen or empty");
}

TEST_F(GraphTest, AValueCanBeDefinedAfterWhatReadsIt) {
    Graph graph;
    auto later = graph.declare<Value<Numbers>>("later");
    auto total = graph.call("sum", sum_of, later);
    auto a = graph.input("a", Value<Numbers>{1});
    graph.define(later, graph.apply("push", push, a, 4L));
    graph.output(total);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.get(total), 5);
    EXPECT_EQ(decision(run, "later", "sum"), GraphDecision::alias);
}

TEST_F(GraphTest, MoreCallsThanThePoolHasRoomForAreMadeOneAfterTheOther) {
    Pool small({.workers = 1, .queue = 1, .copy_costs = vmcow::CopyCosts{}});
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1, 2, 3});
    auto total = graph.input("zero", 0L);
    const auto add = [](const Numbers& numbers, long i) { return numbers[0] + i; };
    std::vector<Graph::Edge<long>> parts;
    for (long i = 0; i < 50; ++i) parts.push_back(graph.call("part", add, a, i));
    for (const auto& part : parts)
        total = graph.call(
            "add", [](long x, long y) { return x + y; }, total, part);
    graph.output(total);
    const GraphRun run = graph.run(small);
    ASSERT_TRUE(run.ok()) << run.failure();
    EXPECT_EQ(run.get(total), 50 + 49 * 25);
}

TEST_F(GraphTest, AnEmptyValueCanBeApplied) {
    Graph graph;
    auto a = graph.input("a", Value<long[]>(std::size_t{0}));
    auto b = graph.apply(
        "add",
        [](std::span<long> values, long by) {
            for (long& value : values) value += by;
        },
        a, 1L);
    auto size = graph.call(
        "size", [](std::span<const long> values) { return values.size(); }, b);
    graph.output(size);
    const GraphRun run = graph.run(pool_);
    ASSERT_TRUE(run.ok()) << run.failure();
    EXPECT_EQ(run.get(size), 0U);
}

}  // namespace
