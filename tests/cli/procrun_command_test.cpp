// `procrun run` of a pipeline: what it runs, prints and refuses, full disks, early ends, and the terminal.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "procrun/process.hpp"
#include "procrun/program.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/pidfd.hpp"

namespace {

using nlohmann::json;
using procrun::Deadline;
using procrun::Process;
using procrun::Program;
using tests::ChildEnd;
using tests::CommandResult;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;
using vmcow::sys::UniqueFd;

CommandResult procrun_command(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), PROCRUN_COMMAND);
    return tests::run_command(words, input);
}

/// `procrun run` of a pipeline, without a table.
CommandResult run(const std::string& pipeline, const tests::CommandInput& input = {}) {
    return procrun_command({"run", "--quiet", "--", pipeline}, input);
}

/// The exit status of `procrun run` of a pipeline.
int status_of(const std::string& pipeline) { return run(pipeline).end.exit_status; }

/// The report of `procrun run` of a pipeline that prints nothing itself.
json report_of(const std::string& pipeline) {
    return json::parse(procrun_command({"run", "--quiet", "--json", "-", "--", pipeline}).out);
}

/// Expects one line on standard error that names `thing`, and nothing on standard output.
void expect_complaint(const CommandResult& result, int exit_status, const std::string& thing) {
    EXPECT_EQ(result.end, (ChildEnd{exit_status, 0}));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.starts_with("procrun")) << result.err;
    EXPECT_NE(result.err.find(thing), std::string::npos) << result.err;
}

// ---- what it runs

TEST(ProcrunCommandTest, RunsAPipelineFromItsInputToItsOutput) {
    const CommandResult result =
        run("tr A-Z a-z | sort | uniq -c", {.text = "b\nA\nB\n", .environment = {}, .out_path = {}});
    EXPECT_EQ(result.end, tests::kChildExitedWell);
    EXPECT_EQ(result.out, "      1 a\n      2 b\n");
    EXPECT_EQ(result.err, "");
}

TEST(ProcrunCommandTest, ExitStatusIsThatOfTheLastFailingStage) {
    EXPECT_EQ(status_of("true"), 0);
    EXPECT_EQ(status_of("sh -c 'exit 3' | true"), 3);
    EXPECT_EQ(status_of("sh -c 'exit 3' | sh -c 'exit 4' | true"), 4);
    EXPECT_EQ(status_of("sh -c 'kill -9 $$' | true"), 137);
}

TEST(ProcrunCommandTest, DeathBySigpipeAfterTheReaderEndedWellIsNoFailure) {
    const CommandResult result = run("yes | head -n 1");
    EXPECT_EQ(result.end, tests::kChildExitedWell);
    EXPECT_EQ(result.out, "y\n");
    EXPECT_EQ(status_of("yes | sh -c 'read line; exit 3'"), 3);
}

TEST(ProcrunCommandTest, TwoHundredStagesRun) {
    std::string pipeline = "cat";
    for (int i = 1; i < 200; ++i) pipeline += " | cat";
    EXPECT_EQ(run(pipeline, {.text = "payload\n", .environment = {}, .out_path = {}}).out, "payload\n");
}

// ---- what it says

TEST(ProcrunCommandTest, TableShowsEachStageWithinEightyColumns) {
    const CommandResult result = procrun_command({"run", "--", "yes " + std::string(200, 'x') + " | head -n 1"});
    EXPECT_EQ(result.end, tests::kChildExitedWell);
    EXPECT_TRUE(result.err.starts_with("stage ")) << result.err;
    std::istringstream lines(result.err);
    for (std::string line; std::getline(lines, line);) {
        const auto columns = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
        EXPECT_LE(columns, 80) << line;
    }
    for (const char* part : {"\n1      yes xxx", "\n2      head -n 1\n", "killed by SIGPIPE", "exit 0", "\ntotal ",
                             "status 0", "stage 1: SIGPIPE is no failure"}) {
        EXPECT_NE(result.err.find(part), std::string::npos) << part << "\n" << result.err;
    }
}

TEST(ProcrunCommandTest, JsonTellsEveryStage) {
    const json report = report_of("sh -c 'sleep 0.2; echo 12345; exit 3' | dd of=/dev/null status=none");
    EXPECT_EQ(report.at("status"), 3);
    ASSERT_EQ(report.at("stages").size(), 2U);
    const json& first = report.at("stages")[0];
    EXPECT_EQ(first.at("argv"), (json{"sh", "-c", "sleep 0.2; echo 12345; exit 3"}));
    EXPECT_GT(first.at("pid").get<int>(), 0);
    EXPECT_EQ(first.at("outcome").at("kind"), "exited");
    EXPECT_EQ(first.at("outcome").at("code"), 3);
    for (const char* key : {"wall_seconds", "user_seconds", "system_seconds"}) {
        EXPECT_TRUE(first.at(key).is_number_float()) << key;
    }
    const json& second = report.at("stages")[1];
    EXPECT_EQ(second.at("written_bytes"), 6);
    EXPECT_GE(second.at("read_bytes"), 6);
    EXPECT_TRUE(second.at("peak_bytes").is_null() || second.at("peak_bytes") > 0);
}

TEST(ProcrunCommandTest, WhatNeverWasIsNull) {
    const json report = report_of("true | /no/such/program");
    EXPECT_EQ(report.at("status"), 1);
    const json& stage = report.at("stages")[1];
    EXPECT_EQ(stage.at("outcome").at("kind"), "not_started");
    EXPECT_EQ(stage.at("outcome").at("code"), ENOENT);
    for (const char* key :
         {"pid", "wall_seconds", "user_seconds", "system_seconds", "read_bytes", "written_bytes", "peak_bytes"}) {
        EXPECT_TRUE(stage.at(key).is_null()) << key;
    }
}

TEST(ProcrunCommandTest, WordsThatAreNoUtf8AreReported) {
    EXPECT_EQ(report_of("true 'a\xff'").at("stages")[0].at("argv")[1], "a\xEF\xBF\xBD");
}

TEST(ProcrunCommandTest, ReportReplacesItsFileWhateverTheStatus) {
    const TemporaryDirectory folder;
    const std::string path = folder / "report.json";
    for (const int status : {0, 7}) {
        const CommandResult result =
            procrun_command({"run", "--quiet", "--json", path, "--", "sh -c 'exit " + std::to_string(status) + "'"});
        EXPECT_EQ(result.end, (ChildEnd{status, 0}));
        EXPECT_EQ(json::parse(read_text_file(path)).at("status"), status);
    }
    const auto entries = std::filesystem::directory_iterator(folder.path());
    EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "a temporary file was left";
}

TEST(ProcrunCommandTest, HelpAndVersionGoToStandardOutput) {
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"--help"}, {"run", "--help"}, {"--version"}}) {
        const CommandResult result = procrun_command(words);
        EXPECT_EQ(result.end, tests::kChildExitedWell);
        EXPECT_EQ(result.err, "");
        EXPECT_NE(result.out.find("procrun"), std::string::npos);
    }
}

// ---- what it refuses

TEST(ProcrunCommandTest, WrongCommandLineIsOneLineThatNamesIt) {
    expect_complaint(procrun_command({}), 2, "a command is missing");
    expect_complaint(procrun_command({"rnu"}), 2, "'rnu'");
    expect_complaint(procrun_command({"run", "--jsno", "x", "--", "true"}), 2, "'--jsno'");
    expect_complaint(procrun_command({"run"}), 2, "a pipeline is missing");
    expect_complaint(procrun_command({"run", "sort", "-u"}), 2, "'-u'");
    expect_complaint(procrun_command({"run", "sort", "--", "-u"}), 2, "'sort' stands before --");
    expect_complaint(procrun_command({"run", "--", ""}), 2, "the pipeline is empty");
    expect_complaint(procrun_command({"run", "--", "ls | $HOME"}), 2, "pipeline:6: '$' starts an expansion");
    expect_complaint(procrun_command({"run", "--", "[ a ]"}), 2, "pipeline:1: '['");
}

TEST(ProcrunCommandTest, WrongTimeIsOneLineThatNamesIt) {
    for (const char* time : {"0s", "0.0000000001s", "-1s", "10", "s", "1w", "1.5.2s", "9999999999h", ""}) {
        expect_complaint(procrun_command({"run", "--timeout=" + std::string(time), "--", "true"}), 2, "--timeout");
    }
    for (const char* time : {"50000ms", "30s", "2m", "1.5h"}) {
        EXPECT_EQ(procrun_command({"run", "--quiet", "--timeout", time, "--", "true"}).end, tests::kChildExitedWell);
    }
}

TEST(ProcrunCommandTest, WhatCannotStartIsOneLineThatNamesIt) {
    const TemporaryDirectory folder;
    static_cast<void>(vmcow::sys::open_file(folder / "text", O_WRONLY | O_CREAT, 0644));
    const auto complaint = [](const std::string& pipeline) { return procrun_command({"run", "--", pipeline}); };
    expect_complaint(complaint("true | /no/such/program"), 1,
                     "stage 2: execve '/no/such/program': No such file or directory");
    expect_complaint(complaint(folder / "text"), 1, "stage 1: execve '" + (folder / "text") + "': Permission denied");
    expect_complaint(complaint("cat < /no/such/file"), 1, "stage 1: open '/no/such/file': No such file or directory");
    expect_complaint(complaint("true > /no/such/file"), 1, "stage 1: open '/no/such/file': No such file or directory");
}

TEST(ProcrunCommandTest, TooFewDescriptorsIsOneLineAndNothingStaysBehind) {
    const tests::ScopedLimit limit{RLIMIT_NOFILE, 24};
    std::string pipeline = "sleep 60";
    for (int i = 1; i < 40; ++i) pipeline += " | sleep 60";
    expect_complaint(run(pipeline), 1, "Too many open files");
}

// ---- full disks

TEST(ProcrunCommandTest, ReportThatCannotBeWrittenIsFoundBeforeAnythingRuns) {
    const TemporaryDirectory folder;
    expect_complaint(procrun_command({"run", "--json", folder / "none/report.json", "--", "touch " + (folder / "ran")}),
                     1, "none/report.json");
    EXPECT_FALSE(std::filesystem::exists(folder / "ran"));
}

TEST(ProcrunCommandTest, FullDiskUnderTheReportIsAFailureAndTheTableIsKept) {
    const CommandResult result = procrun_command({"run", "--json", "/dev/full", "--", "true"});
    EXPECT_EQ(result.end, (ChildEnd{1, 0}));
    EXPECT_NE(result.err.find("exit 0"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("'/dev/full': No space left on device"), std::string::npos) << result.err;
    expect_complaint(procrun_command({"run", "--quiet", "--json", "-", "--", "true"},
                                     {.text = {}, .environment = {}, .out_path = "/dev/full"}),
                     1, "standard output: No space left on device");
}

TEST(ProcrunCommandTest, FileSizeLimitLeavesTheOldReportWhole) {
    const TemporaryDirectory folder;
    const std::string path = folder / "report.json";
    vmcow::sys::write_all(vmcow::sys::open_file(path, O_WRONLY | O_CREAT).get(), std::as_bytes(std::span("old", 3)),
                          path);
    const ChildEnd end = tests::in_child([&] {
        const rlimit limit{.rlim_cur = 16, .rlim_max = 16};
        setrlimit(RLIMIT_FSIZE, &limit);
        const std::string made = folder / "made";
        execl(PROCRUN_COMMAND, PROCRUN_COMMAND, "run", "--quiet", "--json", path.c_str(), "--", "mkdir", made.c_str(),
              ":::", "true", nullptr);
        return 127;
    });
    EXPECT_EQ(end, (ChildEnd{1, 0}));
    EXPECT_TRUE(std::filesystem::exists(folder / "made")) << "the programs run all the same";
    EXPECT_EQ(read_text_file(path), "old");
}

TEST(ProcrunCommandTest, FullDiskUnderTheLastStageIsItsFailure) {
    EXPECT_NE(run("sh -c 'echo x'", {.text = {}, .environment = {}, .out_path = "/dev/full"}).end.exit_status, 0);
}

// ---- what ends it early

TEST(ProcrunCommandTest, TimeoutEndsThePipelineWith124AndIsReported) {
    const CommandResult result =
        procrun_command({"run", "--quiet", "--timeout", "100ms", "--json", "-", "--", "sleep 60 | sleep 60"});
    EXPECT_EQ(result.end, (ChildEnd{124, 0}));
    const json report = json::parse(result.out);
    EXPECT_EQ(report.at("status"), 124);
    for (const json& stage : report.at("stages")) EXPECT_EQ(stage.at("outcome").at("kind"), "deadline_passed");
}

/// `procrun run` in the background. The constructor returns when the first stage has started, which writes its pid into
/// a named pipe.
class RunningPipeline {
public:
    explicit RunningPipeline(const TemporaryDirectory& folder, const std::string& shell_prefix = "")
        : report_path_(folder / "report.json") {
        const std::string fifo = folder / "fifo";
        if (mkfifo(fifo.c_str(), 0600) != 0) vmcow::sys::throw_errno("mkfifo");
        const std::string pipeline = "sh -c 'echo $$ > \"$0\"; exec sleep 60' " + fifo + " | sleep 60";
        auto started = Program({"sh", "-c", shell_prefix + "exec \"$@\"", "sh", PROCRUN_COMMAND, "run", "--quiet",
                                "--json", report_path_, "--", pipeline})
                           .die_with_parent()
                           .start();
        process_ = std::get<Process>(std::move(started));
        stage_ = std::stoi(read_text_file(fifo));
        stage_pidfd_ = vmcow::sys::open_pidfd(stage_, "pidfd_open");
    }

    [[nodiscard]] Process& process() { return process_; }
    [[nodiscard]] json report() const { return json::parse(read_text_file(report_path_)); }
    /// Returns false when the first stage still runs after a long time.
    [[nodiscard]] bool stage_ends() const {
        return vmcow::sys::wait_for_end(stage_pidfd_.get(), std::chrono::seconds{30});
    }

private:
    std::string report_path_;
    Process process_;
    pid_t stage_ = -1;
    UniqueFd stage_pidfd_;
};

TEST(ProcrunCommandTest, SignalStopsTheStagesAndTheReportIsStillWritten) {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        const TemporaryDirectory folder;
        RunningPipeline running(folder);
        ASSERT_TRUE(running.process().signal(number));
        EXPECT_EQ(running.process().wait().outcome.describe(), "exit " + std::to_string(128 + number));
        EXPECT_TRUE(running.stage_ends());
        const json report = running.report();
        EXPECT_EQ(report.at("status"), 128 + number);
        for (const json& stage : report.at("stages")) EXPECT_EQ(stage.at("outcome").at("code"), SIGTERM);
    }
}

TEST(ProcrunCommandTest, SignalThatIsIgnoredStaysIgnored) {
    const TemporaryDirectory folder;
    RunningPipeline running(folder, "trap '' HUP; ");
    ASSERT_TRUE(running.process().signal(SIGHUP));
    ASSERT_TRUE(running.process().signal(SIGTERM));
    EXPECT_EQ(running.process().wait().outcome.describe(), "exit " + std::to_string(128 + SIGTERM));
}

TEST(ProcrunCommandTest, NoStageOutlivesIt) {
    const TemporaryDirectory folder;
    RunningPipeline running(folder);
    EXPECT_EQ(running.process().kill_and_wait().outcome.describe(), "killed by SIGKILL");
    EXPECT_TRUE(running.stage_ends());
}

// ---- a terminal

TEST(ProcrunCommandTest, OnATerminalTheWrongCharacterIsPointedAt) {
    const UniqueFd terminal(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    std::array<char, 128> name{};
    if (!terminal || grantpt(terminal.get()) != 0 || unlockpt(terminal.get()) != 0 ||
        ptsname_r(terminal.get(), name.data(), name.size()) != 0) {
        GTEST_SKIP() << "pseudo-terminals are missing";
    }
    const UniqueFd screen = vmcow::sys::open_file(name.data(), O_RDWR | O_NOCTTY);
    auto started = Program({PROCRUN_COMMAND, "run", "--", "ls $x"}).descriptor(STDERR_FILENO, screen.get()).start();
    EXPECT_EQ(std::get<Process>(started).wait().outcome.describe(), "exit 2");
    std::array<char, 1024> shown{};
    const ssize_t got = read(terminal.get(), shown.data(), shown.size());
    ASSERT_GT(got, 0);
    EXPECT_TRUE(
        std::string(shown.data(), static_cast<std::size_t>(got)).starts_with("  ls $x\r\n     ^\r\nprocrun run"))
        << shown.data();
}

}  // namespace
