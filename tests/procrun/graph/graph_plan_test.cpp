// The plan of a graph: what it moves, shares and lends, the order it sets, and the graphs that it refuses.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "procrun/graph/graph_plan.hpp"
#include "procrun/graph/graph_problems.hpp"
#include "procrun/graph/graph_shape.hpp"

namespace {

using procrun::GraphDecision;
using procrun::GraphPlan;
using procrun::GraphPreference;
using procrun::detail::analyse;
using procrun::detail::GraphAccess;
using procrun::detail::GraphAnalysis;
using procrun::detail::GraphForm;
using procrun::detail::GraphShape;
using procrun::detail::GraphUse;
using procrun::detail::problems_of;
using Index = std::size_t;

/// A graph in short notation: "make" is a node with one result.
struct Sketch {
    GraphShape shape;

    Index input(const std::string& name, GraphForm form = GraphForm::movable) {
        shape.values.push_back({.name = name, .type = "T", .form = form, .is_input = true, .definitions = 1});
        return shape.values.size() - 1;
    }
    Index declare(const std::string& name) {
        shape.values.push_back({.name = name, .type = "T"});
        return shape.values.size() - 1;
    }
    void define(Index declared, Index value) {
        if (++shape.values[declared].definitions == 1) shape.values[declared].stands_for = value;
    }
    Index node(const std::string& name, std::vector<GraphUse> uses) {
        shape.nodes.push_back({.name = name, .uses = std::move(uses), .makes = {}});
        return shape.nodes.size() - 1;
    }
    Index result(Index node, const std::string& name, GraphForm form) {
        shape.values.push_back({.name = name, .type = "T", .form = form, .maker = node, .definitions = 1});
        shape.nodes[node].makes.push_back(shape.values.size() - 1);
        return shape.values.size() - 1;
    }
    /// Adds a node that makes a number of an image.
    Index call(const std::string& name, Index value) {
        return result(node(name, {{value, GraphAccess::reads, 0}}), name, GraphForm::bytes);
    }
    Index apply(const std::string& name, Index value) {
        return result(node(name, {{value, GraphAccess::applies, 0}}), name, GraphForm::frozen);
    }
    void effect(const std::string& name, Index value) {
        shape.nodes[node(name, {{value, GraphAccess::reads, 0}})].is_effect = true;
    }
    void output(Index value) { shape.values[value].is_output = true; }

    [[nodiscard]] GraphPlan plan(GraphPreference preference = GraphPreference::moves) const {
        const GraphShape real = shape.resolved();
        return analyse(real, preference).plan(real);
    }
};

using Problems = std::vector<std::string>;

// ---- what is wrong

TEST(GraphProblemsTest, AGraphThatIsWellHasNone) {
    Sketch sketch;
    const Index a = sketch.input("a");
    sketch.output(sketch.apply("f", a));
    EXPECT_EQ(problems_of(sketch.shape), Problems{});
}

TEST(GraphProblemsTest, ACycleIsNamedInTheOrderInWhichValuesWouldFlow) {
    Sketch sketch;
    const Index x = sketch.declare("x");
    const Index y = sketch.apply("f", x);
    const Index z = sketch.apply("g", y);
    const Index w = sketch.apply("h", z);
    sketch.define(x, w);
    sketch.output(w);
    EXPECT_EQ(problems_of(sketch.shape), Problems{"cycle: 'f' -> 'g' -> 'h' -> 'f'"});
}

TEST(GraphProblemsTest, ANodeThatReadsItsOwnResultIsACycle) {
    Sketch sketch;
    const Index x = sketch.declare("x");
    sketch.define(x, sketch.apply("f", x));
    sketch.output(x);
    EXPECT_EQ(problems_of(sketch.shape), Problems{"cycle: 'f' -> 'f'"});
}

TEST(GraphProblemsTest, ValuesThatAreDefinedToBeEachOtherAreACycle) {
    Sketch sketch;
    const Index x = sketch.declare("x");
    const Index y = sketch.declare("y");
    sketch.define(x, y);
    sketch.define(y, x);
    sketch.output(sketch.call("f", x));
    EXPECT_EQ(problems_of(sketch.shape),
              (Problems{"cycle: 'x' is defined to be itself", "cycle: 'y' is defined to be itself"}));
}

TEST(GraphProblemsTest, AllThatIsWrongIsSaidAtOnce) {
    Sketch sketch;
    const Index gone = sketch.input("gone", GraphForm::gone);
    sketch.input("idle");
    const Index x = sketch.declare("x");
    const Index twice = sketch.declare("twice");
    sketch.define(twice, gone);
    sketch.define(twice, x);
    sketch.call("f", x);
    sketch.output(sketch.apply("g", twice));
    sketch.input("g");
    EXPECT_EQ(problems_of(sketch.shape),
              (Problems{"input 'gone' is gone: an earlier run has moved it", "input 'idle' is unused: nobody reads it",
                        "'x' is declared and never defined, and 'f' reads it", "'twice' is defined twice",
                        "two values are named 'g'", "input 'g' is unused: nobody reads it",
                        "'f' is unused: nobody reads what 'f' makes"}));
}

TEST(GraphProblemsTest, WhatAnAppliedFunctionReturnsMayBeLeftButNotTheValue) {
    Sketch sketch;
    const Index a = sketch.input("a");
    const Index node = sketch.node("f", {{a, GraphAccess::applies, 0}});
    const Index value = sketch.result(node, "f", GraphForm::frozen);
    const Index number = sketch.result(node, "f.result", GraphForm::bytes);
    Sketch other = sketch;
    sketch.output(value);
    EXPECT_EQ(problems_of(sketch.shape), Problems{});
    other.output(number);
    EXPECT_EQ(problems_of(other.shape),
              Problems{"'f' is unused: nobody reads the value that 'f' makes: call it, do not apply it"});
}

// ---- decisions

TEST(GraphPlanTest, TheOnlyReaderGetsAValueMoved) {
    Sketch sketch;
    const Index a = sketch.input("a");
    sketch.output(sketch.apply("g", sketch.apply("f", a)));
    const GraphPlan plan = sketch.plan();
    EXPECT_EQ(plan.find("a", "f")->decision, GraphDecision::moved);
    EXPECT_EQ(plan.find("a", "f")->reason, "last reader");
    EXPECT_EQ(plan.find("f", "g")->decision, GraphDecision::moved);
    EXPECT_EQ(plan.find("g", "")->decision, GraphDecision::output);
}

TEST(GraphPlanTest, EachReasonNotToMoveIsSaid) {
    const auto reason = [](auto&& write, GraphForm form = GraphForm::movable,
                           GraphPreference preference = GraphPreference::moves) {
        Sketch sketch;
        const Index a = sketch.input("a", form);
        const Index b = sketch.apply("f", a);
        sketch.output(b);
        write(sketch, a, b);
        const GraphPlan plan = sketch.plan(preference);
        const auto* const edge = plan.find("a", "f");
        return std::pair(edge->decision, edge->reason);
    };
    const auto shared = [](const char* why) { return std::pair(GraphDecision::shared, std::string(why)); };
    EXPECT_EQ(reason([](Sketch& s, Index a, Index) { s.output(a); }), shared("the caller reads it after the run"));
    EXPECT_EQ(reason([](Sketch& s, Index a, Index) { s.effect("print", a); }), shared("side effect 'print' has it"));
    EXPECT_EQ(reason([](Sketch& s, Index a, Index) { s.output(s.apply("g", a)); }),
              shared("'g' makes another value of it"));
    EXPECT_EQ(reason([](Sketch& s, Index a, Index b) {
                  const Index node = s.node("g", {{a, GraphAccess::reads, 0}, {b, GraphAccess::reads, 1}});
                  s.output(s.result(node, "g", GraphForm::bytes));
              }),
              shared("'g' reads it later"));
    EXPECT_EQ(reason([](Sketch& s, Index a, Index) { s.output(s.call("g", a)); }, GraphForm::movable,
                     GraphPreference::parallel),
              shared("'g' may read it at the same time"));
    const auto nothing = [](Sketch&, Index, Index) {};
    EXPECT_EQ(reason(nothing, GraphForm::kept), shared("last reader, but the caller keeps a copy"));
    EXPECT_EQ(reason(nothing, GraphForm::frozen), shared("last reader, but its image is frozen or empty"));
}

TEST(GraphPlanTest, TheOneWhoMovesWaitsForThoseWhoOnlyRead) {
    Sketch sketch;
    const Index a = sketch.input("a");
    const Index changed = sketch.apply("change", a);
    for (const char* const name : {"sum", "max", "min"}) sketch.output(sketch.call(name, a));
    sketch.output(changed);
    const GraphPlan plan = sketch.plan();
    EXPECT_EQ(plan.find("a", "change")->reason, "last reader, waits for 'sum', 'max' and 'min'");
    EXPECT_EQ(plan.waits().size(), 3U);
    EXPECT_EQ(plan.levels(), (GraphPlan::Levels{{"sum", "max", "min"}, {"change"}}));
}

// f reads x and changes y, g reads y and changes x: only one of the two calls can wait for the other.
TEST(GraphPlanTest, NobodyWaitsInACircle) {
    Sketch sketch;
    const Index x = sketch.input("x");
    const Index y = sketch.input("y");
    const Index f = sketch.node("f", {{y, GraphAccess::applies, 0}, {x, GraphAccess::reads, 1}});
    const Index g = sketch.node("g", {{x, GraphAccess::applies, 0}, {y, GraphAccess::reads, 1}});
    sketch.output(sketch.result(f, "f", GraphForm::frozen));
    sketch.output(sketch.result(g, "g", GraphForm::frozen));
    const GraphPlan plan = sketch.plan();
    EXPECT_EQ(plan.find("x", "g")->decision, GraphDecision::moved);
    EXPECT_EQ(plan.find("y", "f")->decision, GraphDecision::shared);
    EXPECT_EQ(plan.find("y", "f")->reason, "'g' reads it later");
}

// ---- how it is printed

Sketch printed_sketch() {
    Sketch sketch;
    const Index a = sketch.input("a");
    const Index changed = sketch.apply("change", a);
    sketch.output(sketch.call("sum", a));
    sketch.output(changed);
    sketch.effect("print \"it\"\\\n", changed);
    return sketch;
}

TEST(GraphPlanTest, TheTextIsATableOfEdgesAndTheLevels) {
    EXPECT_EQ(printed_sketch().plan().text(),
              "value   from -> to              type  decision  reason\n"
              "a       (caller) -> change      T     moved     last reader, waits for 'sum'\n"
              "a       (caller) -> sum         T     alias     read only\n"
              "change  change -> print \"it\"\\?  T     snapshot  side effect\n"
              "change  change -> (caller)      T     output    read after the run\n"
              "sum     sum -> (caller)         T     output    read after the run\n"
              "level 1: sum\n"
              "level 2: change\n"
              "level 3: print \"it\"\\?\n");
}

TEST(GraphPlanTest, TheDigraphQuotesNames) {
    const std::string dot = printed_sketch().plan().dot();
    EXPECT_NE(dot.find("n2 [label=\"print \\\"it\\\"\\\\\\n\"]"), std::string::npos) << dot;
    EXPECT_NE(dot.find("n0 -> n1 [label=\"before\", style=dashed]"), std::string::npos) << dot;
    EXPECT_EQ(std::count(dot.begin(), dot.end(), '{'), std::count(dot.begin(), dot.end(), '}'));
}

// ---- any graph

/// A graph whose nodes use earlier values in any way.
Sketch any_sketch() {
    Sketch sketch;
    const int inputs = *rc::gen::inRange(1, 4);
    for (int i = 0; i < inputs; ++i) {
        sketch.input("in" + std::to_string(i),
                     *rc::gen::weightedElement<GraphForm>(
                         {{4, GraphForm::movable}, {1, GraphForm::kept}, {1, GraphForm::frozen}}));
    }
    const int nodes = *rc::gen::inRange(1, 12);
    for (int i = 0; i < nodes; ++i) {
        std::vector<GraphUse> uses;
        const Index count = *rc::gen::inRange<Index>(1, 4);
        for (Index use = 0; use < count; ++use) {
            const Index value = *rc::gen::inRange<Index>(0, sketch.shape.values.size());
            const auto access =
                *rc::gen::weightedElement<GraphAccess>({{3, GraphAccess::reads}, {1, GraphAccess::writes}});
            uses.push_back({value, access, use});
        }
        const int kind = *rc::gen::weightedElement<int>({{5, 0}, {2, 1}, {1, 2}});
        if (kind == 0) uses[0].access = GraphAccess::applies;
        const std::string name = "n" + std::to_string(i);
        const Index node = sketch.node(name, std::move(uses));
        sketch.shape.nodes[node].is_effect = kind == 2;
        if (kind != 2) sketch.result(node, name, GraphForm::frozen);
    }
    for (Index i = 0; i < sketch.shape.values.size(); ++i) {
        const auto uses_it = [&](const auto& node) {
            return std::any_of(node.uses.begin(), node.uses.end(), [&](const GraphUse& use) { return use.value == i; });
        };
        if (std::none_of(sketch.shape.nodes.begin(), sketch.shape.nodes.end(), uses_it) || *rc::gen::inRange(0, 6) == 0)
            sketch.output(i);
    }
    return sketch;
}

/// before[a][b] is true when b ends before a begins.
std::vector<std::vector<bool>> closure(const GraphAnalysis& analysis) {
    const Index nodes = analysis.choices.size();
    std::vector<std::vector<bool>> before(nodes, std::vector<bool>(nodes));
    for (Index i = 0; i < nodes; ++i) {
        for (const Index first : analysis.data_before[i]) before[i][first] = true;
        for (const Index first : analysis.order_before[i]) before[i][first] = true;
    }
    for (Index k = 0; k < nodes; ++k) {
        for (Index i = 0; i < nodes; ++i) {
            for (Index j = 0; j < nodes; ++j) {
                if (before[i][k] && before[k][j]) before[i][j] = true;
            }
        }
    }
    return before;
}

RC_GTEST_PROP(GraphPlanPropertyTest, WhatIsMovedHasNoReaderThatIsNotDone, ()) {
    const Sketch sketch = any_sketch();
    RC_ASSERT(problems_of(sketch.shape).empty());
    const auto preference = *rc::gen::element(GraphPreference::moves, GraphPreference::parallel);
    const GraphAnalysis analysis = analyse(sketch.shape, preference);
    const auto before = closure(analysis);
    for (Index node = 0; node < before.size(); ++node) RC_ASSERT(!before[node][node]);
    if (preference == GraphPreference::parallel) {
        for (const auto& order : analysis.order_before) RC_ASSERT(order.empty());
    }
    const auto& nodes = sketch.shape.nodes;
    for (Index value = 0; value < sketch.shape.values.size(); ++value) {
        bool changes_nothing = true;
        for (Index node = 0; node < nodes.size(); ++node) {
            for (Index use = 0; use < nodes[node].uses.size(); ++use) {
                if (nodes[node].uses[use].value != value) continue;
                const GraphDecision decision = analysis.choices[node][use].decision;
                if (decision == GraphDecision::shared || decision == GraphDecision::snapshot) changes_nothing = false;
                if (decision != GraphDecision::moved) continue;
                RC_ASSERT(!sketch.shape.values[value].is_output);
                for (Index other = 0; other < nodes.size(); ++other) {
                    for (Index i = 0; i < nodes[other].uses.size(); ++i) {
                        if (nodes[other].uses[i].value != value || (other == node && i == use)) continue;
                        RC_ASSERT(before[node][other]);
                        RC_ASSERT(!nodes[other].is_effect);
                    }
                }
            }
        }
        // No reader freezes a borrowed value, so that no reader may change it.
        RC_ASSERT(!analysis.borrowed[value] || changes_nothing);
    }
}

/// Moving nothing at all would be safe too: every value that is shared must have a reason that forbids the move.
RC_GTEST_PROP(GraphPlanPropertyTest, WhatIsSharedHasAReasonToBe, ()) {
    const Sketch sketch = any_sketch();
    const GraphAnalysis analysis = analyse(sketch.shape, GraphPreference::moves);
    const auto before = closure(analysis);
    const auto& nodes = sketch.shape.nodes;
    for (Index node = 0; node < nodes.size(); ++node) {
        if (analysis.choices[node][0].decision != GraphDecision::shared) continue;
        const Index value = nodes[node].uses[0].value;
        const auto& known = sketch.shape.values[value];
        bool reason = known.is_output || (!known.maker && known.form != GraphForm::movable);
        if (known.maker) {
            const auto& made_by = analysis.choices[*known.maker];
            reason = reason || made_by[0].decision != GraphDecision::moved;
        }
        for (Index other = 0; other < nodes.size(); ++other) {
            for (Index use = 0; use < nodes[other].uses.size(); ++use) {
                if (nodes[other].uses[use].value != value || (other == node && use == 0)) continue;
                reason = reason || other == node || nodes[other].is_effect || before[other][node] ||
                         nodes[other].uses[use].access == GraphAccess::applies;
            }
        }
        RC_ASSERT(reason);
    }
}

}  // namespace
