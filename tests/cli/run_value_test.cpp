// `procrun run` with values, which programs hand on by descriptor beside the bytes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/value.hpp"

namespace {

using nlohmann::json;
using tests::ChildEnd;
using tests::CommandResult;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;
using vmcow::sys::UniqueFd;
using Words = std::vector<std::string>;

constexpr std::size_t kNumbers = 100'000;
constexpr std::size_t kMuch = 3'000'000;  // bytes that value_enemy writes

/// A folder with the numbers 0, 1, 2 … in the image `numbers`, and the result of a command.
class RunValueTest : public testing::Test {
protected:
    RunValueTest() {
        vmcow::Value<double[]> numbers(kNumbers);
        numbers.edit([](std::span<double> all) { std::iota(all.begin(), all.end(), 0.0); });
        numbers.save(path("numbers"));
    }

    [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }

    /// Runs a pipeline that is given `numbers`.
    CommandResult& run_pipeline(const std::string& pipeline, Words options = {}) {
        options.insert(options.begin(),
                       {PROCRUN_COMMAND, "run", "--quiet", "--json", path("report"), "--value", path("numbers")});
        options.insert(options.end(), {"--", pipeline});
        result_ = tests::run_command(options);
        return result_;
    }
    [[nodiscard]] json report() const { return json::parse(read_text_file(path("report"))); }
    [[nodiscard]] json values_of(std::size_t stage) const { return report().at("stages").at(stage).at("values"); }
    [[nodiscard]] double saved_number(const std::string& name) const {
        const auto number = vmcow::Value<double>::load(path(name));
        return *number;
    }
    void write(const std::string& name, const std::string& text) const {
        const UniqueFd file = vmcow::sys::open_file(path(name), O_WRONLY | O_CREAT | O_TRUNC, 0755);
        vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), name);
    }

    static constexpr double kSumOfAll = double(kNumbers) * double(kNumbers - 1) / 2;
    static constexpr double kSumOf100 = 100.0 * 99 / 2;

    TemporaryDirectory folder_;
    CommandResult result_;
};

const std::string kScale = SCALE_VALUE;
const std::string kSum = SUM_VALUE;
const std::string kEnemy = VALUE_ENEMY;

TEST_F(RunValueTest, AValueGoesThroughThreePrograms) {
    run_pipeline(kScale + " 2 0 100 | " + kScale + " 3 0 100 | " + kSum, {"--save-value", path("sum")});
    ASSERT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    EXPECT_EQ(result_.err, "");
    EXPECT_EQ(saved_number("sum"), kSumOfAll + 5 * kSumOf100);
}

TEST_F(RunValueTest, OnlyThePagesThatAProgramChangesComeWithItsValue) {
    run_pipeline(kScale + " 2 0 100 | " + kScale + " 3 0 100 | " + kEnemy + " echo",
                 {"--save-value", path("numbers2")});
    ASSERT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    const json changed = {{"taken", 1}, {"given", 1}, {"passed_on", 0}, {"new_pages", 1}, {"untaken", 0}};
    EXPECT_EQ(values_of(0), changed) << "also of a value from disk";
    EXPECT_EQ(values_of(1), changed);
    EXPECT_EQ(values_of(2).at("new_pages"), 0);
    EXPECT_EQ(report().at("values"), 1);
    const auto numbers = vmcow::Value<double[]>::load(path("numbers2"));
    EXPECT_EQ(numbers[99], 6 * 99.0);
    EXPECT_EQ(numbers[100], 100.0);
    // The caller's file is unchanged.
    EXPECT_EQ(vmcow::Value<double[]>::load(path("numbers"))[99], 99.0);
}

TEST_F(RunValueTest, AProgramThatGivesNothingHasItsValuesGoOn) {
    vmcow::Value<long[]> threes(1000);
    threes.edit([](std::span<long> all) { std::fill(all.begin(), all.end(), 3); });
    threes.save(path("threes"));
    vmcow::Value<long[]> fives(1000);
    fives.edit([](std::span<long> all) { std::fill(all.begin(), all.end(), 5); });
    fives.save(path("fives"));
    const CommandResult result =
        tests::run_command({PROCRUN_COMMAND, "run", "--quiet", "--value", path("threes"), "--value", path("fives"),
                            "--", PRINT_VALUE, ":::", PRINT_VALUE, ":::", "cat"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.out, "3000 of 2\n3000 of 2\n");
    EXPECT_EQ(result.err, "");
}

TEST_F(RunValueTest, OrdinaryProgramsArePassedBy) {
    run_pipeline("echo b | " + kScale + " 2 0 100 | cat | tr b c | " + kSum + " | grep -c nothing",
                 {"--save-value", path("sum")});
    EXPECT_EQ(result_.end, (ChildEnd{1, 0})) << "as grep has it: " << result_.err;
    EXPECT_FALSE(std::filesystem::exists(path("sum"))) << "of a pipeline that failed";
    EXPECT_EQ(report().at("values"), 1) << "but it has come out behind grep";
    EXPECT_EQ(values_of(2), (json{{"taken", 0}, {"given", 0}, {"passed_on", 1}, {"new_pages", 0}, {"untaken", 0}}));
    EXPECT_EQ(values_of(4).at("taken"), 1);
}

TEST_F(RunValueTest, AnOrdinaryProgramHasNoFileOfAValueAndNoOtherConnection) {
    run_pipeline(kScale + " 2 0 100 | ls -l /proc/self/fd | cat | " + kEnemy + " copy-then-take");
    ASSERT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    const std::string_view fds = result_.out;
    EXPECT_EQ(fds.find("memfd:vmcow"), std::string_view::npos) << fds;
    const auto first = fds.find("socket:");
    ASSERT_NE(first, std::string_view::npos) << fds;
    EXPECT_EQ(fds.find("socket:", first + 1), std::string_view::npos) << fds;
}

// Whichever of bytes and value is written first, and whichever is read first, the pipeline does not deadlock.
TEST_F(RunValueTest, BytesAreHeldForAProgramThatWaitsForAValue) {
    for (const std::string writer : {" write-then-give", " give-then-write"}) {
        for (const std::string reader : {" take-then-copy", " copy-then-take"}) {
            for (const std::string between : {"", " cat |"}) {
                run_pipeline(kEnemy + writer + " |" + between + " " + kEnemy + reader, {"--timeout", "60s"});
                EXPECT_EQ(result_.end, tests::kChildExitedWell) << writer << between << reader << result_.err;
                EXPECT_EQ(result_.out.size(), kMuch) << writer << between << reader;
            }
        }
    }
}

TEST_F(RunValueTest, AWriterWhoseReaderEndsEarlyEnds) {
    run_pipeline("yes | head -n 1 | " + kEnemy + " copy-then-take", {"--timeout", "60s"});
    EXPECT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    EXPECT_EQ(result_.out, "y\n");
}

TEST_F(RunValueTest, AHundredProgramsHandItOn) {
    std::string pipeline;
    for (int i = 0; i < 99; ++i) pipeline += kScale + " -1 0 100 | ";
    run_pipeline(pipeline + kSum, {"--save-value", path("sum")});
    ASSERT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    EXPECT_EQ(saved_number("sum"), kSumOfAll - 2 * kSumOf100);
}

// ---- a notice of values that no program takes

TEST_F(RunValueTest, AValueThatNobodyTakesIsSaid) {
    run_pipeline(kEnemy + " two | " + kEnemy + " look-at-first | " + kEnemy + " one");
    EXPECT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    EXPECT_NE(result_.err.find("procrun run: nobody has taken a value that stage 1 '" + kEnemy + "' gave\n"),
              std::string::npos)
        << result_.err;
    EXPECT_NE(result_.err.find("procrun run: nobody has taken a value that stage 3 '" + kEnemy + "' gave\n"),
              std::string::npos)
        << result_.err;
    EXPECT_NE(result_.err.find("no stage has taken a value of the caller's"), std::string::npos) << result_.err;
    EXPECT_EQ(report().at("untaken_values"), 1);
    EXPECT_EQ(values_of(0).at("untaken"), 1);
}

TEST_F(RunValueTest, FewerValuesThanFilesAreAFailureAndNothingIsSaved) {
    run_pipeline(kSum, {"--save-value", path("one"), "--save-value", path("two")});
    EXPECT_EQ(result_.end, (ChildEnd{1, 0}));
    EXPECT_EQ(result_.err,
              "procrun run: save value 1 as '" + path("two") + "': 1 came out at the end, and the first is value 0\n");
    EXPECT_FALSE(std::filesystem::exists(path("one")));
}

// ---- programs that do something else

TEST_F(RunValueTest, WhatAFailedProgramWasGivenDoesNotGoOn) {
    run_pipeline(kScale + " 2 0 1000000000 | " + kSum);
    EXPECT_EQ(result_.end, (ChildEnd{1, 0}));
    EXPECT_EQ(result_.err, "scale_value: there are not so many\nsum_value: argument 0 of 0: Invalid argument\n");
}

TEST_F(RunValueTest, AProgramThatEndsBeforeItTakesItsValueIsPassedBy) {
    run_pipeline("true | false | " + kSum, {"--save-value", path("sum")});
    EXPECT_EQ(result_.end, (ChildEnd{1, 0})) << result_.err;
    EXPECT_EQ(values_of(2).at("taken"), 1);
}

TEST_F(RunValueTest, WhatAProgramGaveBeforeItCrashedHasGoneOn) {
    run_pipeline(kEnemy + " give-and-die | " + kEnemy + " echo", {"--save-value", path("saved")});
    EXPECT_EQ(result_.end, (ChildEnd{128 + SIGKILL, 0})) << result_.err;
    EXPECT_EQ(values_of(1).at("taken"), 1);
    EXPECT_NE(result_.err.find("no value is saved, because the pipeline has failed"), std::string::npos) << result_.err;
    EXPECT_FALSE(std::filesystem::exists(path("saved")));
}

TEST_F(RunValueTest, AProgramThatNeverAnswersIsStoppedAtTheTimeout) {
    for (const std::string mode : {" forever", " give-and-wait", " ask-and-wait", " close-and-wait"}) {
        run_pipeline(kEnemy + mode + " | " + kEnemy + " types", {"--timeout", "300ms"});
        EXPECT_EQ(result_.end, (ChildEnd{124, 0})) << mode << result_.err;
    }
}

TEST_F(RunValueTest, AProgramThatForgesIsEndedAndItsReaderGetsNothing) {
    for (const std::string mode :
         {" few-bytes", " many-bytes", " huge-file", " two-in-one", " none-in-one", " wrong-count", " wrong-magic",
          " many-deltas", " cut-short", " no-file", " more-files", " no-image", " unsealed", " flood"}) {
        run_pipeline(kEnemy + mode + " | " + kSum, {"--timeout", "60s"});
        EXPECT_EQ(result_.end, (ChildEnd{1, 0})) << mode << result_.err;
        const json outcome = report().at("stages").at(0).at("outcome");
        EXPECT_EQ(outcome.at("kind"), "result_lost") << mode << outcome;
        EXPECT_NE(outcome.at("text").get<std::string>().find("pass values on: "), std::string::npos) << outcome;
    }
}

TEST_F(RunValueTest, AnAttemptAfterAFailedOneHasTheSameValues) {
    write("once", "#!/bin/sh\ntest -e \"$1\" && exec \"$2\" 2 0 100\ntouch \"$1\"\nexit 3\n");
    run_pipeline(path("once") + " " + path("mark") + " " + kScale + " | cat | " + kSum,
                 {"--retry", "1", "--retry-after", "1ms", "--save-value", path("sum")});
    EXPECT_EQ(result_.end, tests::kChildExitedWell) << result_.err;
    EXPECT_EQ(saved_number("sum"), kSumOfAll + kSumOf100);
}

TEST_F(RunValueTest, OutsideOfAPipelineWithValuesAProgramSaysSo) {
    const CommandResult alone = tests::run_command({SUM_VALUE});
    EXPECT_EQ(alone.end, (ChildEnd{1, 0}));
    EXPECT_NE(alone.err.find("this program was not started with values"), std::string::npos) << alone.err;
    const CommandResult plain = tests::run_command({PROCRUN_COMMAND, "run", "--quiet", "--", kSum + " | cat"});
    EXPECT_EQ(plain.end, (ChildEnd{1, 0}));
    EXPECT_NE(plain.err.find("this program was not started with values"), std::string::npos) << plain.err;
}

TEST_F(RunValueTest, AFileThatIsNoImageIsAFailureAndNothingRuns) {
    write("text", "no image");
    const auto with_value = [&](const std::string& file) {
        return tests::run_command({PROCRUN_COMMAND, "run", "--value", file, "--", "touch", path("ran")});
    };
    const CommandResult result = with_value(path("text"));
    EXPECT_EQ(result.end, (ChildEnd{1, 0}));
    EXPECT_NE(result.err.find(path("text")), std::string::npos) << result.err;
    EXPECT_FALSE(std::filesystem::exists(path("ran")));
    EXPECT_EQ(with_value(path("none")).end, (ChildEnd{1, 0}));
}

// ---- stages of a file, and what would run

TEST_F(RunValueTest, StagesOfAFileSayWhetherTheyTakeValues) {
    write("stages.toml",
          "[[stage]]\nname = 'numbers'\nargv = ['" + kScale +
              "', '2', '0', '100']\n"
              "[[stage]]\nname = 'plain'\nrun = 'printenv VMCOW_VALUES'\nfrom = 'numbers'\nvalues = false\n"
              "[[stage]]\nname = 'one'\nargv = ['" +
              kSum +
              "']\nfrom = 'numbers'\n"
              "[[stage]]\nname = 'two'\nargv = ['" +
              kScale +
              "', '3', '0', '100']\nfrom = 'numbers'\n"
              "[[stage]]\nargv = ['" +
              kEnemy + "', 'echo']\nfrom = ['two', 'one', 'plain']\n");
    const Words words{PROCRUN_COMMAND, "run",          "--quiet",          "--value", path("numbers"),
                      "--json",        path("report"), "--save-value",     path("0"), "--save-value",
                      path("1"),       "--file",       path("stages.toml")};
    const CommandResult result = tests::run_command(words);
    EXPECT_EQ(result.end, (ChildEnd{1, 0})) << "as printenv has it: " << result.err;
    EXPECT_EQ(report().at("stages").at(1).at("values"), nullptr);
    EXPECT_EQ(values_of(0).at("given"), 1);
    EXPECT_EQ(values_of(2).at("taken"), 1);
    EXPECT_EQ(values_of(3).at("taken"), 1);
    EXPECT_EQ(values_of(4).at("taken"), 2);
    EXPECT_EQ(report().at("values"), 2);

    Words dry = words;
    dry.insert(dry.begin() + 2, "--dry-run");
    const std::string plan = tests::run_command(dry).out;
    EXPECT_NE(plan.find("values     those that are given below"), std::string::npos) << plan;
    EXPECT_NE(plan.find("values     what comes out of stage 4, 3\n"), std::string::npos) << plan;
    EXPECT_NE(plan.find("value    0 is '" + path("numbers") + "'"), std::string::npos) << plan;
    EXPECT_NE(plan.find("save     value 1 that comes out at the end as '" + path("1") + "'"), std::string::npos)
        << plan;
}

}  // namespace
