// Tests a span that owns its elements.
#include "vmcow/sys/owned_span.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace {

using vmcow::OwnedSpan;

using Owner = std::shared_ptr<std::vector<int>>;
using Numbers = OwnedSpan<Owner, int>;

Numbers numbers(std::vector<int> values) {
    auto owner = std::make_shared<std::vector<int>>(std::move(values));
    const std::span<int> elements(*owner);
    return {std::move(owner), elements};
}

TEST(OwnedSpanTest, ElementsOfATemporaryAreThereForTheWholeLoop) {
    int sum = 0;
    for (const int number : numbers({1, 2, 3})) sum += number;
    EXPECT_EQ(sum, 6);
}

TEST(OwnedSpanTest, OwnerLivesAsLongAsTheSpan) {
    auto owner = std::make_shared<std::vector<int>>(3, 7);
    const std::weak_ptr<std::vector<int>> alive = owner;
    {
        const std::span<int> elements(*owner);
        const Numbers all(std::move(owner), elements);
        EXPECT_FALSE(alive.expired());
    }
    EXPECT_TRUE(alive.expired());
}

TEST(OwnedSpanTest, ItIsReadAndWrittenAsASpan) {
    const Numbers all = numbers({1, 2, 3});
    EXPECT_EQ(all.size(), 3U);
    EXPECT_FALSE(all.empty());
    EXPECT_EQ(all.front(), 1);
    EXPECT_EQ(all.back(), 3);
    all[1] = 20;
    EXPECT_EQ(all.data()[1], 20);
    EXPECT_EQ(std::accumulate(all.begin(), all.end(), 0), 24);
    EXPECT_EQ(all.span().data(), all.data());
    EXPECT_TRUE(numbers({}).empty());
}

TEST(OwnedSpanTest, MovedOneHasTheElements) {
    Numbers first = numbers({1, 2, 3});
    const int* const at = first.data();
    const Numbers second = std::move(first);
    EXPECT_EQ(second.data(), at);
    EXPECT_EQ(second.back(), 3);
}

}  // namespace
