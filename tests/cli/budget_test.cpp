// Budgets of `vmcow measure`, `watch` and `report`: their text, and what is said when one is exceeded.
#include "vmcow/cli/kit/budget.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/cli/kit/command_line.hpp"

namespace {

using namespace vmcow::cli;

std::string rejection(const std::string& text) {
    try {
        static_cast<void>(Budget::parse(text));
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return {};
}

TEST(BudgetTest, WhatDoesNotParseIsNamed) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"", "'' is no limit"},
        {"copied", "'copied' is no limit"},
        {"copied=", "'' is not a size"},
        {"copied=many", "'many' is not a size"},
        {"copied=1M,", "'' is no limit"},
        {"copied=1M,,identical=1%", "'' is no limit"},
        {"copied=1M,copied=2M", "'copied=2M' is a second limit"},
        {"copy=1M", "'copy' is nothing that has a budget; there are: copied, amplification, identical"},
        {"amplification=x", "'amplification=x' is no number"},
        {"amplification=-1", "'amplification=-1' is no number"},
        {"amplification=nan", "'amplification=nan' is no number"},
        {"amplification=inf", "'amplification=inf' is no number"},
        {"amplification=64 ", "'amplification=64 ' is no number"},
        {"identical=20", "'identical=20' is no share"},
        {"identical=101%", "'identical=101%' is no share"},
        {"identical=%", "'identical=%' is no share"},
        {"=1", "'' is nothing that has a budget"},
    };
    for (const auto& [text, thing] : cases) {
        EXPECT_EQ(rejection(text).find(thing), 0U) << "of '" << text << "': " << rejection(text) << "; not: " << thing;
    }
}

TEST(BudgetTest, LimitsThemselvesAreKept) {
    const Budget budget = Budget::parse("copied=200M,amplification=64,identical=20%");
    EXPECT_EQ(budget.complaint({200 << 20, 64.0, 0.2}), std::nullopt);
    EXPECT_EQ(budget.complaint({0, 0.0, 0.0}), std::nullopt);
    EXPECT_EQ(Budget().complaint({}), std::nullopt);
    EXPECT_EQ(Budget::parse("copied=0").complaint({0, {}, {}}), std::nullopt);
}

TEST(BudgetTest, WhatIsExceededIsNamedWithByHowMuch) {
    const Budget budget = Budget::parse("identical=20%,copied=200M,amplification=64");
    EXPECT_EQ(budget.complaint({(200 << 20) + 1, 64.0, 0.2}),
              "budget exceeded: copied 200.0 MiB (209715201 bytes), 1 B more than 200.0 MiB (209715200 bytes)");
    EXPECT_EQ(budget.complaint({0, 100.5, 0.25}),
              "budget exceeded: amplification 100.5, 36.5 more than 64; identical 25 %, 5 points more than 20 %");
    EXPECT_EQ(Budget::parse("copied=0").complaint({4096, {}, {}}),
              "budget exceeded: copied 4.0 KiB (4096 bytes), 4.0 KiB (4096 bytes) more than 0 B");
}

TEST(BudgetTest, UnknownFigureIsAFailureThatSaysSo) {
    const Budget budget = Budget::parse("amplification=64");
    EXPECT_EQ(budget.complaint({}), "budget exceeded: amplification is unknown, and may be at most 64");
    try {
        budget.require({});
        FAIL() << "kept";
    } catch (const Failure& failure) {
        EXPECT_EQ(failure.code(), ExitCode::failure);
    }
}

TEST(BudgetTest, ShareOfIdenticalPagesIsUnknownOnlyWhereACountIs) {
    EXPECT_EQ(identical_share(1, 4), 0.25);
    EXPECT_EQ(identical_share(0, 0), 0.0);
    EXPECT_EQ(identical_share(std::nullopt, 4), std::nullopt);
    EXPECT_EQ(identical_share(1, std::nullopt), std::nullopt);
}

}  // namespace
