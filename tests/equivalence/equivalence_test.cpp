// Random programs run alike on deep copies, on structures that share in the heap, on values and in function processes.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <memory>
#include <string>
#include <utility>

#include "tests/equivalence/comparison.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/warm_page_store.hpp"

namespace {

using equivalence::Action;
using equivalence::Comparison;
using equivalence::Form;
using equivalence::Program;
using equivalence::Verb;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kPrograms = 250;
#else
constexpr int kPrograms = 5000;
#endif

/// Each parameter runs a quarter of the programs, so that tests that run in parallel finish sooner.
class EquivalenceTest : public testing::TestWithParam<int> {};

TEST_P(EquivalenceTest, EveryEngineDoesWhatDeepCopiesDo) {
    procrun::Pool pool(tests::workers(2));
    const auto reference = equivalence::reference_engine();
    const std::uint64_t seed = rc::detail::configuration().testParams.seed + static_cast<std::uint64_t>(GetParam());
    const Comparison done = compare(*reference, equivalence::all_engines(pool), kPrograms, seed);
    EXPECT_EQ(done.describe(), "") << "seed " << seed;
    EXPECT_EQ(done.programs, static_cast<std::uint64_t>(kPrograms));
    for (const auto& tally : done.tallies) EXPECT_EQ(tally.passed, done.programs) << tally.engine;
}

INSTANTIATE_TEST_SUITE_P(Quarters, EquivalenceTest, testing::Range(0, 4));

TEST(EquivalenceHarnessTest, AWrongEngineIsFoundAndItsProgramIsShrunk) {
    const auto reference = equivalence::reference_engine();
    equivalence::Engines engines;
    engines.push_back(equivalence::broken_engine());
    const Comparison done = compare(*reference, engines, 1000, 7);
    ASSERT_TRUE(done.mismatch);
    EXPECT_EQ(done.mismatch->engine, "broken");
    EXPECT_LT(done.tallies[1].passed, done.programs);
    EXPECT_EQ(done.tallies[0].passed, done.programs);
    // The shortest such program is a share and a change that is seen through the other name.
    const Program& program = done.mismatch->program;
    ASSERT_EQ(program.size(), 2U) << done.describe();
    EXPECT_EQ(program[0].verb, Verb::share);
    EXPECT_EQ(program[1].verb, Verb::change);
    EXPECT_EQ(program[1].ops.size(), 1U);
    EXPECT_NE(equivalence::mismatch(*reference, *engines[0], program), "");
    EXPECT_NE(done.describe().find("Verb::share"), std::string::npos);
}

// A failure prints the program between the braces.
TEST(EquivalenceHarnessTest, AProgramIsPrintedAsItIsPasted) {
    const Program program{
        {Verb::change, 0, 0, {{Action::push, 1, Form::kept, 3, -5}, {Action::text_concat_self, 0, Form::moved, 0, 0}}},
        {Verb::share, 1, 0},
    };
    EXPECT_EQ(to_cpp(program), R"(const Program program{
    {Verb::change, 0, 0, {{Action::push, 1, Form::kept, 3, -5}, {Action::text_concat_self, 0, Form::moved, 0, 0}}},
    {Verb::share, 1, 0},
};
)");
}

TEST(EquivalenceHarnessTest, AnEngineThatThrowsIsAMismatch) {
    struct Throws : equivalence::Engine {
        Throws() : Engine("throws") {}
        equivalence::Trace run(const Program& program) override {
            if (program.size() > 1) throw std::runtime_error("two steps are too many");
            return equivalence::reference_engine()->run(program);
        }
    };
    const auto reference = equivalence::reference_engine();
    equivalence::Engines engines;
    engines.push_back(std::make_unique<Throws>());
    const Comparison done = compare(*reference, engines, 1000, 7);
    ASSERT_TRUE(done.mismatch);
    EXPECT_EQ(done.mismatch->where, "two steps are too many");
    EXPECT_EQ(done.mismatch->program.size(), 2U);
}

}  // namespace
