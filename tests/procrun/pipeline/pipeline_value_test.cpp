// Values between function stages: which stage gets a value moved, and what editing it copies.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline/bounded_channel.hpp"
#include "tests/support/support.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::Pipeline;
using procrun::PipelineResult;
using procrun::StageIo;
using vmcow::PageCount;

using Numbers = vmcow::Value<long[]>;
using Words = vmcow::Value<vmcow::vector<vmcow::string>>;

constexpr std::size_t kLongsInPage = vmcow::kPageBytes / sizeof(long);
constexpr std::size_t kPages = 1024;

/// A value of this many numbers or words lies in a file of its own.
constexpr std::size_t kInAFile = 300'000;

Numbers first_numbers(std::size_t count) {
    Numbers numbers(count);
    numbers.edit([](std::span<long> all) { std::iota(all.begin(), all.end(), 0L); });
    return numbers;
}

/// Writes to the first `pages` pages, to one number in each.
void change_pages(Numbers& numbers, std::size_t pages, long to = -1) {
    numbers.edit([&](std::span<long> all) {
        for (std::size_t page = 0; page < pages; ++page) all[page * kLongsInPage + 1] = to;
    });
}

PageCount copied_by(const PipelineResult& result, const procrun::PipelineStage& stage) {
    return result.traffic(stage).value().changes.value().copied;
}

/// A stage that makes a value and gives it away.
void make_and_give(StageIo& io) { io.give(first_numbers(kPages * kLongsInPage)); }

TEST(MovedValueTest, EachLastUserChangesItInPlaceAndNothingIsCopied) {
    Pipeline pipeline;
    auto made = pipeline.function(make_and_give);
    const auto change_and_give = [](StageIo& io) {
        while (auto value = io.take<Numbers>()) {
            change_pages(*value, 100);
            io.give(*std::move(value));
        }
    };
    auto first = pipeline.function(change_and_give).reads(made);
    auto second = pipeline.output(pipeline.function(change_and_give).reads(first));
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.traffic(made)->moved, 1U);
    EXPECT_EQ(result.traffic(first)->moved, 1U);
    EXPECT_EQ(result.traffic(second)->moved, 0U) << "nothing that a stage could still write to comes to the caller";
    for (const auto& stage : {made, first, second}) EXPECT_EQ(copied_by(result, stage), PageCount{0});
    const Numbers numbers = result.take<Numbers>(second).value();
    EXPECT_EQ(numbers[1], -1);
    EXPECT_EQ(numbers[99 * kLongsInPage + 1], -1);
    EXPECT_EQ(numbers[100 * kLongsInPage + 1], static_cast<long>(100 * kLongsInPage + 1));
}

TEST(MovedValueTest, WhatItsGiverKeepsIsSharedAndEachSideCopiesWhatItChanges) {
    Pipeline pipeline;
    auto made = pipeline.function([](StageIo& io) {
        Numbers numbers = first_numbers(kPages * kLongsInPage);
        io.give(numbers);
        change_pages(numbers, 5, 7);
        if (numbers[1] != 7) throw std::runtime_error("it is the giver's, too");
    });
    auto changed = pipeline.output(pipeline
                                       .function([](StageIo& io) {
                                           Numbers value = io.take<Numbers>().value();
                                           change_pages(value, 3);
                                           io.give(std::move(value));
                                       })
                                       .reads(made));
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok()) << result.stage(made).outcome.describe();
    EXPECT_EQ(result.traffic(made)->moved, 0U);
    EXPECT_EQ(copied_by(result, made), PageCount{5});
    EXPECT_EQ(copied_by(result, changed), PageCount{3});
    EXPECT_EQ(result.take<Numbers>(changed).value()[4 * kLongsInPage + 1], static_cast<long>(4 * kLongsInPage + 1));
}

TEST(MovedValueTest, ACopyThatTheGiverHasMadeKeepsTheValueShared) {
    Pipeline pipeline;
    auto made = pipeline.function([](StageIo& io) {
        Numbers numbers = first_numbers(kLongsInPage);
        const Numbers copy = numbers;
        io.give(std::move(numbers));
        if (copy[1] != 1) throw std::runtime_error("the copy is as it was");
    });
    auto out = pipeline.output(pipeline
                                   .function([](StageIo& io) {
                                       Numbers value = io.take<Numbers>().value();
                                       change_pages(value, 1);
                                       io.give(std::move(value));
                                   })
                                   .reads(made));
    PipelineResult result = pipeline.run();
    EXPECT_TRUE(result.ok()) << result.stage(made).outcome.describe();
    EXPECT_EQ(result.traffic(made)->moved, 0U);
    EXPECT_EQ(result.take<Numbers>(out).value()[1], -1);
}

TEST(MovedValueTest, TwoReadersShareIt) {
    Pipeline pipeline;
    auto made = pipeline.function(make_and_give);
    const auto take_and_change = [](long to) {
        return [to](StageIo& io) {
            Numbers value = io.take<Numbers>().value();
            change_pages(value, 2, to);
            io.give(std::move(value));
        };
    };
    auto one = pipeline.output(pipeline.function(take_and_change(-1)).reads(made));
    auto other = pipeline.output(pipeline.function(take_and_change(-2)).reads(made));
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.traffic(made)->given, 2U);
    EXPECT_EQ(result.traffic(made)->moved, 0U);
    EXPECT_EQ(result.take<Numbers>(one).value()[1], -1);
    EXPECT_EQ(result.take<Numbers>(other).value()[1], -2);
}

TEST(MovedValueTest, TheCallersValueIsCopiedInAStageAndStaysAsItWas) {
    Numbers ours = first_numbers(kPages * kLongsInPage);
    Pipeline pipeline;
    auto made = pipeline.function([&](StageIo& io) {
        change_pages(ours, 4);
        io.give(std::move(ours));
    });
    auto out = pipeline.output(pipeline.function([](StageIo& io) { io.give(io.take<Numbers>().value()); }).reads(made));
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok()) << result.stage(made).outcome.describe();
    EXPECT_EQ(result.traffic(made)->moved, 0U);
    EXPECT_EQ(copied_by(result, made), PageCount{4});
    EXPECT_EQ(ours[1], 1);
    EXPECT_EQ(result.take<Numbers>(out).value()[1], -1);
}

TEST(MovedValueTest, ContainersGrowInPlaceWhereTheyHaveComeTo) {
    Pipeline pipeline;
    auto made = pipeline.function([](StageIo& io) {
        Words words;
        words.edit([](auto& all) {
            all.reserve(kInAFile);
            all.push_back("a word that is too long for the string itself");
        });
        io.give(std::move(words));
    });
    auto grown = pipeline.output(pipeline
                                     .function([](StageIo& io) {
                                         Words words = io.take<Words>().value();
                                         words.edit([](auto& all) {
                                             for (int i = 0; i < 10'000; ++i) all.push_back(all.front());
                                         });
                                         io.give(std::move(words));
                                     })
                                     .reads(made));
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok()) << result.stage(grown).outcome.describe();
    EXPECT_EQ(result.traffic(made)->moved, 1U);
    const Words words = result.take<Words>(grown).value();
    ASSERT_EQ(words->size(), 10'001U);
    EXPECT_EQ(words->back(), "a word that is too long for the string itself");
}

TEST(MovedValueTest, CanBeTakenAsASnapshotAndAnotherTypeIsRefused) {
    Pipeline pipeline;
    auto made = pipeline.function([](StageIo& io) {
        io.give(first_numbers(kInAFile));
        io.give(first_numbers(kInAFile));
    });
    auto taken = pipeline
                     .function([](StageIo& io) {
                         const auto snapshot = io.take<vmcow::Snapshot>().value();
                         if (snapshot.extent_bytes() != kInAFile * sizeof(long))
                             throw std::runtime_error("another extent");
                         if (tests::error_of([&] { static_cast<void>(io.take<Words>()); }) != EBADMSG) {
                             throw std::runtime_error("numbers were taken for words");
                         }
                     })
                     .reads(made);
    const PipelineResult result = pipeline.run();
    EXPECT_TRUE(result.ok()) << result.stage(taken).outcome.describe();
    EXPECT_EQ(result.traffic(made)->moved, 2U);
}

TEST(MovedValueTest, WhoeverMustNotBeWrittenToByOthersRefusesIt) {
    procrun::BoundedChannel channel = procrun::BoundedChannel::open(1, true);
    ASSERT_TRUE(channel.sender.has_room());
    ASSERT_TRUE(channel.sender.send(vmcow::TypedArena{vmcow::Arena(), 0}));
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(channel.receiver.receive_snapshot()); }), EBADMSG);
}

// ---- what is counted

TEST(StageChangesTest, PagesOfAValueThatIsEditedAndDroppedAreCounted) {
    Pipeline pipeline;
    auto made = pipeline.values(first_numbers(kPages * kLongsInPage));
    auto dropping = pipeline
                        .function([](StageIo& io) {
                            while (auto value = io.take<Numbers>()) change_pages(*value, 30);
                        })
                        .reads(made);
    const PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(copied_by(result, dropping), PageCount{30});
    EXPECT_EQ(result.stage(dropping).copied_pages, 30U);
    EXPECT_EQ(result.traffic(dropping)->changes->identical, PageCount{0});
}

// A long run of pages is mapped, not placed page by page, when the value becomes a snapshot. It must not be counted
// twice.
TEST(StageChangesTest, PagesOfAValueThatIsGivenAndKeptAreCountedOnce) {
    Pipeline pipeline;
    auto made = pipeline.values(first_numbers(kPages * kLongsInPage));
    auto changed = pipeline
                       .function([](StageIo& io) {
                           Numbers value = io.take<Numbers>().value();
                           change_pages(value, 200);
                           io.give(value);
                           change_pages(value, 201, 7);
                           io.give(value);
                       })
                       .reads(made);
    auto out = pipeline.output(changed);
    PipelineResult result = pipeline.run();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(copied_by(result, changed), PageCount{201});
    EXPECT_EQ(result.take<Numbers>(out).value()[1], -1);
    EXPECT_EQ(result.take<Numbers>(out).value()[1], 7);
}

// ---- what a stage waits for

constexpr auto kPause = 20ms;
constexpr int kRounds = 25;

TEST(ValueWaitTest, AStageWithoutAValueIsBlockedReadingAndItsGiverWaits) {
    Pipeline pipeline;
    auto slow = pipeline.function([](StageIo& io) {
        for (int i = 0; i < kRounds; ++i) {
            std::this_thread::sleep_for(kPause);
            io.give(first_numbers(1));
        }
    });
    auto quick = pipeline
                     .function([](StageIo& io) {
                         while (io.take<Numbers>()) {
                         }
                     })
                     .reads(slow);
    const PipelineResult result = pipeline.run();
    const procrun::StageShares& shares = result.stage(quick).shares;
    ASSERT_TRUE(shares.blocked_read && result.stage(slow).shares.waiting);
    EXPECT_GT(*shares.blocked_read, 0.9 * (1 - *shares.running));
    EXPECT_GT(*result.stage(slow).shares.waiting, 0.9 * (1 - *result.stage(slow).shares.running));
}

TEST(ValueWaitTest, AStageWhoseReaderIsBehindIsBlockedWriting) {
    Pipeline pipeline;
    auto quick = pipeline.function([](StageIo& io) {
        const Numbers one = first_numbers(1);
        for (int i = 0; i < kRounds; ++i) io.give(one);
    });
    quick.bounds({.under_way = 1});
    auto slow = pipeline
                    .function([](StageIo& io) {
                        while (io.take<Numbers>()) std::this_thread::sleep_for(kPause);
                    })
                    .reads(quick);
    const PipelineResult result = pipeline.run();
    const procrun::StageShares& shares = result.stage(quick).shares;
    ASSERT_TRUE(shares.blocked_write && result.stage(slow).shares.waiting);
    EXPECT_GT(*shares.blocked_write, 0.9 * (1 - *shares.running));
    EXPECT_GT(*result.stage(slow).shares.waiting, 0.8);
}

}  // namespace
