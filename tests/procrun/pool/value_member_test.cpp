// Tests members of values with containers as arguments: they grow, and the rest of the value stays.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/member_merge.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::Pool;
using vmcow::Value;

using Words = vmcow::vector<long>;
using Index = vmcow::map<vmcow::string, Words>;

struct Doc {
    vmcow::string title;
    Words words;
    Index index;
    int number = 0;
};

void push(Words& words, long count) {
    for (long i = 0; i < count; ++i) words.push_back(i);
}
void put(Index& index, long key) { index[std::to_string(key).c_str()].push_back(key); }
long sum(const Words& words) { return std::accumulate(words.begin(), words.end(), 0L); }
long sum_and_clear(Words words) {
    const long all = sum(words);
    words.clear();
    return all;
}
long copy_into(Words& words, Index& index) {
    index["words"] = words;
    words.clear();
    return sum(index["words"]);
}

Value<Doc> doc_with(std::size_t words) {
    Value<Doc> doc;
    doc.edit([&](Doc& to) {
        to.title = "a title that is too long to lie within the string";
        to.words.assign(words, 1);
        to.index["first"].push_back(7);
        to.number = 5;
    });
    return doc;
}

void expect_the_rest(const Value<Doc>& doc) {
    EXPECT_EQ("a title that is too long to lie within the string", doc->title);
    EXPECT_EQ(5, doc->number);
    EXPECT_EQ(7, doc->index.at("first").at(0));
}

/// How many words the value begins with: it is sent with the call, lies in memory of the process, or has a file.
class ValueMemberTest : public testing::TestWithParam<std::size_t> {
protected:
    Pool pool_{tests::workers(2)};
    Value<Doc> doc_ = doc_with(GetParam());
    long before_ = static_cast<long>(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Words, ValueMemberTest, testing::Values(0, 100, 5000, 400'000));

TEST_P(ValueMemberTest, GrowsInTheResult) {
    const Value<Doc> changed = pool_.apply(push, doc_.member(&Doc::words), 100'000L).value();
    EXPECT_EQ(GetParam() + 100'000, changed->words.size());
    EXPECT_EQ(99'999, changed->words.back());
    expect_the_rest(changed);
    EXPECT_EQ(GetParam(), doc_->words.size());
    expect_the_rest(doc_);
}

TEST_P(ValueMemberTest, LastUseIsChangedInPlaceAgainAndAgain) {
    for (int i = 0; i < 20; ++i) doc_ = pool_.apply(push, std::move(doc_).member(&Doc::words), 1000L).value();
    EXPECT_EQ(GetParam() + 20'000, doc_->words.size());
    for (long key = 0; key < 20; ++key) doc_ = pool_.apply(put, std::move(doc_).member(&Doc::index), key).value();
    EXPECT_EQ(21U, doc_->index.size());
    expect_the_rest(doc_);
}

TEST_P(ValueMemberTest, IsReadOrTakenByValueWithoutAChange) {
    EXPECT_EQ(before_, pool_.call(sum, doc_.member(&Doc::words)).value());
    EXPECT_EQ(before_, pool_.call(sum_and_clear, doc_.member(&Doc::words)).value());
    EXPECT_TRUE(pool_.call(push, doc_.member(&Doc::words), 10L).ok());
    EXPECT_EQ(before_, sum(doc_->words));
    expect_the_rest(doc_);
}

TEST_P(ValueMemberTest, IsTheValueAsItWasWhenItWasTaken) {
    const auto member = doc_.member(&Doc::words);
    auto future = pool_.async(sum, member);
    auto applied = pool_.async_apply(push, member, 10L);
    doc_.edit([](Doc& doc) { doc.words.assign(3, 100); });
    EXPECT_EQ(before_, future.get().value());
    EXPECT_EQ(before_ + 45, sum(applied.get().value()->words));
    EXPECT_EQ(before_, sum(member.read()));
    EXPECT_EQ(300, sum(doc_->words));
}

TEST_P(ValueMemberTest, TwoMembersOfOneValueAreTwoValues) {
    auto [words, index, copied] = pool_.apply(copy_into, doc_.member(&Doc::words), doc_.member(&Doc::index)).value();
    EXPECT_EQ(before_, copied);
    EXPECT_EQ(0U, words->words.size());
    EXPECT_EQ(before_, sum(index->index.at("words")));
    EXPECT_EQ(before_, sum(index->words));
}

TEST_P(ValueMemberTest, FunctionsThatChangeDifferentMembersAreJoined) {
    auto one = pool_.async_apply(push, doc_.member(&Doc::words), 10L);
    auto other = pool_.async_apply(put, doc_.member(&Doc::index), 3L);
    const auto joined = vmcow::merge_members(doc_, {one.get().value(), other.get().value()});
    ASSERT_TRUE(joined.ok()) << joined.conflict().describe();
    EXPECT_EQ(before_ + 45, sum(joined.value()->words));
    EXPECT_EQ(2U, joined.value()->index.size());
    expect_the_rest(joined.value());
}

TEST_P(ValueMemberTest, LiesAnywhereInTheValue) {
    doc_.edit([](Doc& doc) { doc.index["second"].assign(4, 2); });
    const auto second = [](const Doc& doc) -> const Words& { return doc.index.at("second"); };
    EXPECT_EQ(8, pool_.call(sum, doc_.member(second)).value());
    const Value<Doc> changed = pool_.apply(push, doc_.member(second), 3L).value();
    EXPECT_EQ(11, sum(changed->index.at("second")));
    expect_the_rest(changed);
    static const Words elsewhere;
    EXPECT_THROW((void)doc_.member([](const Doc&) -> const Words& { return elsewhere; }), std::out_of_range);
}

}  // namespace
