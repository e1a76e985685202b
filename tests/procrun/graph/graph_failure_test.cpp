// Graphs that are refused, and graphs in which a call does not return.
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "procrun/graph.hpp"
#include "tests/procrun/graph/graphs.hpp"
#include "tests/support/values_in_files.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

namespace tests {

/// A type that no call can take as an argument.
struct Unsendable {
    long number = 0;
    Unsendable() = default;
    Unsendable(const Unsendable& other) : number(other.number) {}  // makes the type not trivially copyable
};

}  // namespace tests

template <>
struct procrun::Transfer<tests::Unsendable> {
    static void put(pipes::MessageWriter&, const tests::Unsendable&) { throw std::domain_error("unsendable"); }
    static tests::Unsendable take(pipes::MessageReader&) { return {}; }
};

namespace {

using procrun::CallPath;
using procrun::Graph;
using procrun::GraphRun;
using procrun::OutcomeKind;
using tests::append;
using tests::die;
using tests::Numbers;
using tests::push;
using tests::sum_of;
using vmcow::Value;

class GraphFailureTest : public tests::GraphFixture {};

TEST_F(GraphFailureTest, AnInputThatARunHasMovedIsGone) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    graph.output(graph.apply("push", push, a, 4L));
    static_cast<void>(graph.run(pool_));
    try {
        static_cast<void>(graph.run(pool_));
        FAIL() << "it has run";
    } catch (const procrun::GraphError& error) {
        EXPECT_STREQ(error.what(), "graph: input 'a' is gone: an earlier run has moved it");
    }
}

TEST_F(GraphFailureTest, AGraphThatIsWrongRunsNothing) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    graph.effect("come", procrun::by_bytes([board = board_.get()](const Numbers&) { ++board->here; }), a);
    static_cast<void>(graph.call("sum", sum_of, a));
    EXPECT_THROW(static_cast<void>(graph.run(pool_)), procrun::GraphError);
    EXPECT_EQ(board_->here, 0);
}

TEST_F(GraphFailureTest, AskingForAValueAsAnotherTypeIsAnError) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    static_cast<void>(graph.edge<Value<Numbers>>("a"));
    try {
        static_cast<void>(graph.edge<Value<double[]>>("a"));
        FAIL() << "it is another type";
    } catch (const procrun::GraphError& error) {
        EXPECT_STREQ(error.what(), "graph: 'a' is a Value<vector<long>>, and is asked for as a Value<double []>");
    }
    EXPECT_THROW(static_cast<void>(graph.edge<long>("b")), procrun::GraphError);
    Graph other;
    EXPECT_THROW(other.output(a), procrun::GraphError);
    EXPECT_THROW(static_cast<void>(other.call("sum", sum_of, a)), procrun::GraphError);
}

TEST_F(GraphFailureTest, WhatDoesNotDependOnAFailureIsMade) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1, 2});
    auto b = graph.input("b", Value<Numbers>{3});
    auto dead = graph.apply("die", die, a);
    auto after = graph.call("after", sum_of, dead);
    auto taken = graph.apply("append", append, b, dead);
    auto fine = graph.call("fine", sum_of, b);
    graph.output(dead);
    graph.output(after);
    graph.output(taken);
    graph.output(fine);
    const GraphRun run = graph.run(pool_);
    EXPECT_FALSE(run.ok());
    EXPECT_EQ(run.failure().rfind("'die' failed: killed by SIGKILL", 0), 0U) << run.failure();
    EXPECT_EQ(run.get(fine), 3);
    EXPECT_EQ(run.outcome("after").kind, OutcomeKind::cancelled);
    EXPECT_EQ(run.outcome("after").describe(), "cancelled because 'die' failed");
    for (const auto& edge : {dead, taken}) EXPECT_THROW(static_cast<void>(run.get(edge)), procrun::GraphFailed);
    try {
        static_cast<void>(run.get(after));
        FAIL() << "there is a value";
    } catch (const procrun::GraphFailed& error) {
        EXPECT_NE(std::string(error.what()).find("'die' failed: killed by SIGKILL"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(run.plan().find("b", "append") != nullptr);
}

TEST_F(GraphFailureTest, AnInputWhoseLastReaderWasNotReachedIsAsBefore) {
    Graph graph;
    auto a = graph.input("a", tests::in_file({1}));
    auto bad = graph.call("bad", procrun::by_bytes([board = board_.get()](long x) -> long {
                              if (board->here == 0) throw std::runtime_error("not yet");
                              return x;
                          }),
                          5L);
    auto b = graph.apply("push", push, a, bad);
    graph.output(b);
    EXPECT_EQ(graph.run(pool_).failure(), "'bad' failed: threw: not yet");
    board_->here = 1;
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(*run.get(b), (Numbers{1, 5}));
    EXPECT_EQ(path(run, "push"), CallPath::moved);
}

// One message takes some hundreds of descriptors; this argument needs more.
TEST_F(GraphFailureTest, ACallThatCannotBeMadeFailsAlone) {
    using Images = std::vector<vmcow::Snapshot>;
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1, 2});
    auto b = graph.input("b", Value<Numbers>{3});
    auto many = graph.input("many", Images(1000, tests::counting_snapshot(1)));
    const auto change = [](Numbers& numbers, const Images& images) {
        numbers.push_back(static_cast<long>(images.size()));
    };
    const auto count = [](const Numbers& numbers, const Images& images) { return numbers.size() + images.size(); };
    auto changed = graph.apply("change", change, a, many);
    auto counted = graph.call("count", count, b, many);
    auto sum = graph.call("sum", sum_of, b);
    graph.output(changed);
    graph.output(counted);
    graph.output(sum);
    const GraphRun run = graph.run(pool_);
    for (const char* const node : {"change", "count"}) {
        EXPECT_EQ(run.outcome(node).kind, OutcomeKind::not_started);
        EXPECT_EQ(run.outcome(node).code, E2BIG);
    }
    EXPECT_EQ(run.get(sum), 3);
    EXPECT_NE(run.outcome("change").text.find("the moved value is gone"), std::string::npos);
    EXPECT_EQ(run.outcome("count").text.find("gone"), std::string::npos);
    try {
        static_cast<void>(graph.plan());
        FAIL() << "the moved input is there";
    } catch (const procrun::GraphError& error) {
        EXPECT_EQ(error.problems(), std::vector<std::string>{"input 'a' is gone: an earlier run has moved it"});
    }
}

TEST_F(GraphFailureTest, WhatStillRunsIsCancelledWhenAnArgumentsTransferThrows) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    graph.output(graph.call(
        "hang", [](const Numbers&) { return tests::hang(); }, a));
    graph.output(graph.call(
        "send", [](const tests::Unsendable& x) { return x.number; }, tests::Unsendable{}));
    EXPECT_THROW(static_cast<void>(graph.run(pool_)), std::domain_error);
    const Value<Numbers> five{5};
    EXPECT_EQ(pool_.call(sum_of, five).value(), 5);
}

TEST_F(GraphFailureTest, ACallKeepsItsOwnDeadline) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    const auto hang = [](const Numbers&) { return tests::hang(); };
    const procrun::CallOptions soon{.deadline = procrun::Deadline::in(std::chrono::milliseconds(30))};
    graph.output(graph.call(soon, "hang", hang, a));
    auto fine = graph.call("fine", sum_of, a);
    graph.output(fine);
    const GraphRun run = graph.run(pool_);
    EXPECT_EQ(run.outcome("hang").kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(run.get(fine), 1);
}

TEST_F(GraphFailureTest, AFailedSideEffectIsToldThoughNobodyNeedsIt) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    graph.effect(
        "die", [](const Numbers&) { ::raise(SIGKILL); }, a);
    auto fine = graph.call("fine", sum_of, a);
    graph.output(fine);
    const GraphRun run = graph.run(pool_);
    EXPECT_FALSE(run.ok());
    EXPECT_EQ(run.get(fine), 1);
}

TEST_F(GraphFailureTest, OnlyOutputsCanBeHadAndEachIsTakenOnce) {
    Graph graph;
    auto a = graph.input("a", Value<Numbers>{1});
    auto b = graph.apply("push", push, a, 2L);
    auto total = graph.call("sum", sum_of, b);
    graph.output(total);
    GraphRun run = graph.run(pool_);
    EXPECT_THROW(static_cast<void>(run.get(b)), std::invalid_argument);
    EXPECT_EQ(run.take(total), 3);
    EXPECT_THROW(static_cast<void>(run.take(total)), std::invalid_argument);
    EXPECT_THROW(static_cast<void>(run.cost("nobody")), std::out_of_range);
}

}  // namespace
