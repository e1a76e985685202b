// Programs that take and give values, beside functions in a procrun::Pipeline.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/pipeline.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_launcher.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::OutcomeKind;
using procrun::Pipeline;
using procrun::PipelineResult;
using procrun::PipelineStage;
using procrun::StageIo;
using procrun::StageValues;

using Numbers = vmcow::Value<double[]>;
using Number = vmcow::Value<double>;

constexpr std::size_t kNumbers = 100'000;
constexpr double kSum = double(kNumbers) * double(kNumbers - 1) / 2;

Numbers first_numbers() {
    Numbers numbers(kNumbers);
    numbers.edit([](std::span<double> all) { std::iota(all.begin(), all.end(), 0.0); });
    return numbers;
}

class ProgramStageTest : public testing::Test {
protected:
    PipelineStage scale(const std::string& factor, const std::string& count = "100") {
        return pipeline_.program({SCALE_VALUE, factor, "0", count}).takes_values();
    }
    PipelineStage enemy(const std::string& mode) { return pipeline_.program({VALUE_ENEMY, mode}).takes_values(); }

    void run(const procrun::PipelineRunOptions& options = {}) { result_ = pipeline_.run(options); }
    [[nodiscard]] std::string outcomes() const {
        std::string text;
        for (const auto& stage : result_.report().stages) text += stage.outcome.describe() + "; ";
        return text;
    }

    /// The next number that the run has left in an output.
    template <class Output>
    [[nodiscard]] double next(const Output& output) {
        const auto number = result_.take<Number>(output);
        return number ? **number : std::numeric_limits<double>::quiet_NaN();
    }

    Pipeline pipeline_;
    PipelineResult result_;
};

TEST_F(ProgramStageTest, AValueGoesFromAFunctionThroughAProgramToAFunction) {
    auto numbers = pipeline_.function([](StageIo& io) { io.give(first_numbers()); });
    auto scaled = scale("2").reads(numbers);
    auto sum = pipeline_.function([](StageIo& io) {
        while (auto all = io.take<Numbers>()) {
            const auto read = all->read();
            io.give(Number(std::accumulate(read.begin(), read.end(), 0.0)));
        }
    });
    auto out = pipeline_.output(sum.reads(scaled));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), kSum + 4950);
    EXPECT_FALSE(result_.take<Number>(out));
    EXPECT_EQ(result_.stage(scaled).values, (StageValues{.taken = 1, .given = 1, .new_pages = 1}));
    EXPECT_EQ(result_.traffic(sum)->taken, 1U);
}

TEST_F(ProgramStageTest, TheCallersValueGoesThroughThreeProgramsAndBack) {
    const Numbers numbers = first_numbers();
    auto given = pipeline_.values(numbers);
    auto twice = scale("2").reads(given);
    auto thrice = scale("3").reads(twice);
    auto sum = pipeline_.program({SUM_VALUE}).takes_values().reads(thrice);
    auto out = pipeline_.output(sum);
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), kSum + 5 * 4950);
    EXPECT_EQ(numbers[99], 99.0);
}

TEST_F(ProgramStageTest, ValuesOfTheOptionsAreTheArgumentsOfThoseThatReadNothing) {
    const Numbers numbers = first_numbers();
    auto doubled = scale("2");
    auto negative = scale("-1");
    auto out = pipeline_.output(enemy("echo").reads(doubled, negative));
    procrun::PipelineRunOptions options;
    options.values = {{numbers.snapshot(), Numbers::type()}};
    run(options);
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ((*result_.take<vmcow::Snapshot>(out)).page_count(), numbers.snapshot().page_count());
    EXPECT_TRUE(result_.take<vmcow::Snapshot>(out));
    EXPECT_FALSE(result_.take<vmcow::Snapshot>(out));
}

TEST_F(ProgramStageTest, EveryReaderGetsWhatAProgramGives) {
    auto numbers = pipeline_.values(first_numbers());
    auto scaled = scale("2").reads(numbers);
    auto sum = pipeline_.output(pipeline_.program({SUM_VALUE}).takes_values().reads(scaled));
    auto first = pipeline_.function([](StageIo& io) { io.give(Number((*io.take<Numbers>())[1])); });
    auto out = pipeline_.output(first.reads(scaled));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(sum), kSum + 4950);
    EXPECT_EQ(next(out), 2.0);
}

TEST_F(ProgramStageTest, ManyValuesGoOnOneByOneWhileTheirGiverRuns) {
    constexpr double kMany = 200;
    auto numbers = pipeline_.function([](StageIo& io) {
        for (double i = 0; i < kMany; ++i) io.give(Number(i));
    });
    auto first = enemy("echo").reads(numbers);
    auto second = enemy("echo").reads(first);
    auto sum = pipeline_.function([](StageIo& io) {
        double all = 0;
        while (const auto next = io.take<Number>()) all += **next;
        io.give(Number(all));
    });
    auto out = pipeline_.output(sum.reads(second));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), kMany * (kMany - 1) / 2);
}

TEST_F(ProgramStageTest, WhatAProgramDoesNotTakeGoesOnToAFunction) {
    auto numbers = pipeline_.values(Number(7), Number(8));
    auto passed = pipeline_.program({"true"}).takes_values().reads(numbers);
    auto out = pipeline_.output(pipeline_
                                    .function([](StageIo& io) {
                                        while (const auto next = io.take<Number>()) io.give(*next);
                                    })
                                    .reads(passed));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), 7.0);
    EXPECT_EQ(next(out), 8.0);
    EXPECT_EQ(result_.stage(passed).values, (StageValues{.passed_on = 2}));
}

TEST_F(ProgramStageTest, BytesAreHeldForAFunctionThatWaitsForAValue) {
    const auto take_first = [](StageIo& io) {
        const auto number = io.take<Number>();
        io.give(Number(static_cast<double>(io.read_all().size()) + **number));
    };
    auto number = pipeline_.values(Number(1));
    auto writer = enemy("write-then-give").reads(number);
    auto out = pipeline_.output(pipeline_.function(take_first).reads(writer));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), 3'000'001.0);
}

TEST_F(ProgramStageTest, BytesOfAFunctionAreHeldForAProgramThatWaitsForItsValue) {
    auto writer = pipeline_.function([](StageIo& io) {
        io.write(std::string(3'000'000, 'x'));
        io.give(Number(1));
    });
    auto copied = enemy("take-then-copy").reads(writer);
    auto out = pipeline_.output(
        pipeline_.function([](StageIo& io) { io.give(Number(static_cast<double>(io.read_all().size()))); })
            .reads(copied));
    run();
    ASSERT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(next(out), 3'000'000.0);
}

// A program that never asks would make its giver wait for ever, and that giver may write the bytes that the program
// waits for.
TEST_F(ProgramStageTest, MoreValuesThanWaitForAProgramThatAsksForNoneEndIt) {
    auto numbers = pipeline_.function([](StageIo& io) {
        for (double i = 0; i < 1000; ++i) io.give(Number(i));
    });
    auto copied = enemy("copy-then-take").reads(numbers);
    run();
    EXPECT_FALSE(result_.ok());
    EXPECT_EQ(result_.stage(copied).outcome.kind, OutcomeKind::result_lost);
    EXPECT_EQ(result_.stage(copied).outcome.code, EDQUOT) << outcomes();
    EXPECT_EQ(result_.stage(numbers).outcome.code, SIGPIPE) << outcomes();
}

// Without the hang-up the giver would wait for the program, and the program for the end of the giver's bytes.
TEST_F(ProgramStageTest, AGiverEndsWhenAProgramThatHasGivenHangsUp) {
    auto numbers = pipeline_.function([](StageIo& io) {
        for (double i = 0; i < 1000; ++i) io.give(Number(i));
    });
    auto first = enemy("give-then-hang-up").reads(numbers);
    auto out = pipeline_.output(first);
    procrun::PipelineRunOptions options;
    options.deadline = procrun::Deadline::in(std::chrono::seconds{60});
    run(options);
    EXPECT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(result_.stage(numbers).outcome.describe(), "killed by SIGPIPE") << outcomes();
    EXPECT_EQ(next(out), 0.0);
}

// The program may only be slow, so that it is not ended. A notice tells the user once what the giver waits for.
TEST_F(ProgramStageTest, AProgramThatAsksForNoMoreIsToldOnce) {
    auto numbers = pipeline_.function([](StageIo& io) {
        for (double i = 0; i < 1000; ++i) io.give(Number(i));
    });
    auto some = enemy("take-then-copy").reads(numbers);
    some.name("some");
    pipes::Pipe stop = pipes::Pipe::open();
    std::vector<std::string> notices;
    procrun::PipelineRunOptions options;
    options.deadline = procrun::Deadline::in(std::chrono::seconds{60});
    options.stop_fd = stop.read_end().get();
    options.on_notice = [&](const std::string& notice) {
        notices.push_back(notice);
        vmcow::sys::write_all(stop.write_end().get(), std::as_bytes(std::span("x", 1)), "stop");
    };
    run(options);
    EXPECT_TRUE(result_.report().stopped) << outcomes();
    ASSERT_FALSE(notices.empty());
    EXPECT_EQ(notices.front(),
              "values wait for stage 2 'some', which has asked for none for 2 s: the stage that gives them waits "
              "until it asks or ends");
    EXPECT_EQ(std::count(notices.begin(), notices.end(), notices.front()), 1);
    EXPECT_EQ(result_.stage(some).values->taken, 1U);
}

TEST_F(ProgramStageTest, AProgramThatDiesHasNeitherValuesNorReadersLeft) {
    auto numbers = pipeline_.function([](StageIo& io) {
        while (true) io.give(Number(1));
    });
    auto dying = enemy("give-and-die").reads(numbers);
    auto out = pipeline_.output(pipeline_
                                    .function([](StageIo& io) {
                                        while (const auto next = io.take<vmcow::Snapshot>()) io.give(*next);
                                    })
                                    .reads(dying));
    run();
    EXPECT_EQ(result_.stage(dying).outcome.code, SIGKILL) << outcomes();
    EXPECT_EQ(result_.stage(numbers).outcome.code, SIGPIPE) << outcomes();
    EXPECT_TRUE(result_.take<vmcow::Snapshot>(out)) << "given before";
    EXPECT_FALSE(result_.take<vmcow::Snapshot>(out));
}

TEST_F(ProgramStageTest, UntakenValuesAreTold) {
    std::vector<std::string> notices;
    procrun::PipelineRunOptions options;
    options.on_notice = [&](const std::string& notice) { notices.push_back(notice); };
    auto two = enemy("two");
    run(options);
    EXPECT_TRUE(result_.ok()) << outcomes();
    EXPECT_EQ(result_.stage(two).values->untaken, 2U);
    EXPECT_EQ(notices, std::vector<std::string>{"nobody has taken 2 values that stage 1 '" + std::string(VALUE_ENEMY) +
                                                "' gave"});
}

TEST_F(ProgramStageTest, APipelineWithProgramsThatTakeValuesCanBeRunAgain) {
    auto numbers = pipeline_.values(first_numbers());
    auto scaled = scale("2").reads(numbers);
    auto sum = pipeline_.program({SUM_VALUE}).takes_values().reads(scaled);
    auto out = pipeline_.output(sum);
    for (int i = 0; i < 3; ++i) {
        run();
        ASSERT_TRUE(result_.ok()) << outcomes();
        EXPECT_EQ(next(out), kSum + 4950);
    }
}

}  // namespace
