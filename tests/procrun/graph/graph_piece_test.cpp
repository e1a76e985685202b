// Tests parts and members of a graph's values: what their readers get, and what the plan says of the whole value.
#include <gtest/gtest.h>

#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "procrun/graph.hpp"
#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::Graph;
using procrun::Pool;
using tests::contains;
using vmcow::Value;

using Words = vmcow::vector<long>;

struct Doc {
    Words words;
    Words more;
};

void push(Words& words, long word) { words.push_back(word); }
long sum(const Words& words) { return std::accumulate(words.begin(), words.end(), 0L); }
long sum_of_span(std::span<const long> words) { return std::accumulate(words.begin(), words.end(), 0L); }
void add_one(std::span<long> words) {
    for (long& word : words) ++word;
}
void clear(Doc& doc) { doc.words.clear(), doc.more.clear(); }

Value<Doc> doc_with(std::size_t words) {
    Value<Doc> doc;
    doc.edit([&](Doc& to) {
        to.words.assign(words, 1);
        to.more.assign(3, 10);
    });
    return doc;
}

/// How many words the value begins with: it is sent with the call, or has a file.
class GraphPieceTest : public testing::TestWithParam<std::size_t> {
protected:
    Pool pool_{tests::workers(2)};
    Graph graph_;
    Graph::Edge<Value<Doc>> doc_ = graph_.input("doc", doc_with(GetParam()));
    long before_ = static_cast<long>(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Words, GraphPieceTest, testing::Values(2, 100'000));

TEST_P(GraphPieceTest, MemberIsChangedInPlaceByItsLastReader) {
    const auto first = graph_.apply("first", push, doc_.member(&Doc::words), 5L);
    const auto second = graph_.apply("second", push, first.member(&Doc::more), 6L);
    graph_.output(second);
    EXPECT_TRUE(contains(graph_.plan().text(), "moved")) << graph_.plan().text();
    EXPECT_FALSE(contains(graph_.plan().text(), "shared")) << graph_.plan().text();
    auto run = graph_.run(pool_);
    const Value<Doc> changed = run.take(second);
    EXPECT_EQ(before_ + 5, sum(changed->words));
    EXPECT_EQ(36, sum(changed->more));
}

TEST_P(GraphPieceTest, ReadersOfPiecesSeeTheValueAsItWas) {
    const auto words = graph_.call("words", sum, doc_.member(&Doc::words));
    const auto more = graph_.call("more", sum_of_span, doc_.part(&Doc::more));
    const auto changed = graph_.apply("clear", clear, doc_);
    graph_.output(words);
    graph_.output(more);
    graph_.output(changed);
    EXPECT_TRUE(contains(graph_.plan().text(), "'words' has a part of it")) << graph_.plan().text();
    auto run = graph_.run(pool_);
    EXPECT_EQ(before_, run.take(words));
    EXPECT_EQ(30, run.take(more));
    EXPECT_TRUE(run.take(changed)->words.empty());
}

TEST_P(GraphPieceTest, TwoThatChangePiecesMakeTwoValues) {
    const auto one = graph_.apply("one", push, doc_.member(&Doc::words), 5L);
    const auto other = graph_.apply("other", add_one, doc_.part(&Doc::more));
    const auto both = graph_.apply("both", push, other.member(&Doc::words), 7L);
    graph_.output(one);
    graph_.output(both);
    auto run = graph_.run(pool_);
    const Value<Doc> first = run.take(one);
    const Value<Doc> second = run.take(both);
    EXPECT_EQ(before_ + 5, sum(first->words));
    EXPECT_EQ(30, sum(first->more));
    EXPECT_EQ(before_ + 7, sum(second->words));
    EXPECT_EQ(33, sum(second->more));
}

TEST_P(GraphPieceTest, CallMayTakeTwoPiecesOfOneValue) {
    const auto add = [](const Words& words, std::span<const long> more) { return sum(words) + sum_of_span(more); };
    const auto total = graph_.call("total", add, doc_.member(&Doc::words), doc_.part(&Doc::more));
    graph_.effect("log", sum, doc_.member(&Doc::words));
    graph_.output(total);
    EXPECT_EQ(before_ + 30, graph_.run(pool_).take(total));
    EXPECT_EQ(before_ + 30, graph_.run(pool_).take(total));  // the value is still there
}

}  // namespace
