// What CallCost and its enumerations print: the words for paths, reasons and steps, and the sums over images.
#include "procrun/call_cost.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace {

using namespace procrun;

template <class Enum, class Name>
std::set<std::string> names_of(Enum last, const Name& name) {
    std::set<std::string> names;
    for (int i = 0; i <= static_cast<int>(last); ++i) {
        const std::string each = name(static_cast<Enum>(i));
        EXPECT_TRUE(names.insert(each).second) << each;
    }
    return names;
}

TEST(CallCostTest, EveryPathAndEveryReasonHasAWordOfItsOwn) {
    EXPECT_EQ(names_of(CallPath::moved, [](CallPath path) { return name_of(path); }),
              (std::set<std::string>{"alias", "private", "resident", "remapped", "moved"}));
    const auto reasons = names_of(PathReason::forked, [](PathReason reason) { return describe(reason); });
    EXPECT_EQ(reasons.count(""), 0U);
}

TEST(CallCostTest, EveryStepHasAWordButNone) {
    const auto steps = names_of(CallStep::idle, [](CallStep step) { return describe(step); });
    EXPECT_EQ(steps.size(), static_cast<std::size_t>(CallStep::idle) + 1);
    EXPECT_STREQ(describe(CallStep::none), "");
}

// The step is read from a channel that a worker can overwrite with any number.
TEST(CallCostTest, StepThatAWorkerHasMadeUpIsNoStep) { EXPECT_STREQ(describe(static_cast<CallStep>(200)), ""); }

TEST(CallCostTest, ImagesAreThoseThatWereCounted) {
    CallCost cost;
    EXPECT_TRUE(cost.images().empty());
    cost.image_costs.resize(2);
    EXPECT_EQ(cost.images().size(), 2U);
    EXPECT_EQ(cost.images().data(), cost.image_costs.data());
    EXPECT_FALSE(cost.copied.has_value()) << "unknown, and not 0 (I8)";
}

}  // namespace
