// `procrun run`: its words and files, limits, attempts, stopping, and the terminal.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/cli/on_terminal.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using nlohmann::json;
using tests::ChildEnd;
using tests::CommandResult;
using tests::OnTerminal;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;
using vmcow::sys::UniqueFd;

CommandResult run(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), {PROCRUN_COMMAND, "run", "--quiet"});
    return tests::run_command(words, input);
}

json report_of(std::vector<std::string> words) {
    const TemporaryDirectory folder;
    words.insert(words.begin(), {"--json", folder / "report"});
    (void)run(std::move(words));
    return json::parse(read_text_file(folder / "report"));
}

void write_file(const std::string& path, const std::string& text) {
    const UniqueFd file = vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), path);
}

void expect_usage_error(const CommandResult& result, const std::string& reason) {
    EXPECT_EQ(result.end, (ChildEnd{2, 0})) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(reason), std::string::npos) << result.err;
}

// ---- programs as words

TEST(RunWordsTest, ProgramsAreSeparatedByThreeColonsAndEveryWordIsTakenAsItIs) {
    const CommandResult result = run({"--", "printf", "%s\n", "b|c", "a $x", ":::", "sort"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.out, "a $x\nb|c\n");
}

TEST(RunWordsTest, OneProgramWithWordsNeedsNoColons) { EXPECT_EQ(run({"--", "echo", "a  b", "<c"}).out, "a  b <c\n"); }

TEST(RunWordsTest, BracketsAndFlagsBehindTheMarkAreWords) {
    EXPECT_EQ(run({"--", "echo", "[a,b]", "--json", "--"}).out, "[a,b] --json --\n");
    EXPECT_EQ(run({"echo", "a"}).out, "a\n");
}

TEST(RunWordsTest, AMissingProgramIsAUsageError) {
    expect_usage_error(run({"--", "true", ":::"}), "stage 2 is empty");
    expect_usage_error(run({"--", ":::", "true"}), "stage 1 is empty");
    expect_usage_error(run({"--", "", "x"}), "stage 1: the program's name is empty");
    expect_usage_error(run({}), "a pipeline is missing");
}

// ---- a file

constexpr const char* kFile = R"(
timeout = "1m"
kill_after = "3s"
pipe_size = "128K"

[[stage]]
name = "words"
argv = ["printenv", "COLOUR"]
environment = { COLOUR = "blue | green", HOME = false }

[[stage]]
run = "tr a-z A-Z"
directory = "/"
limits = { memory = "1G", cpu = "30s", files = 64, output = "10M" }
)";

TEST(RunFileTest, StagesHaveNamesEnvironmentDirectoryAndLimits) {
    const TemporaryDirectory folder;
    write_file(folder / "stages.toml", kFile);
    const CommandResult result = run({"--file", folder / "stages.toml"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.out, "BLUE | GREEN\n");
    const json report = report_of({"--file", folder / "stages.toml"});
    EXPECT_EQ(report.at("stages")[0].at("name"), "words");
    EXPECT_TRUE(report.at("stages")[1].at("name").is_null());
    EXPECT_GE(report.at("stages")[0].at("pipe_bytes"), 4096);
}

TEST(RunFileTest, StandardInputCanBeTheFile) {
    const CommandResult result =
        run({"--file", "-"}, {.text = "[[stage]]\nrun = 'echo here'\n", .environment = {}, .out_path = {}});
    EXPECT_EQ(result.out, "here\n") << result.err;
}

TEST(RunFileTest, FilesAreOpenedInOurDirectoryAndTheProgramRunsInItsOwn) {
    const TemporaryDirectory folder;
    write_file(folder / "in", "text\n");
    const std::string stage = "[[stage]]\nargv = ['sh', '-c', 'cat; pwd']\ndirectory = '/'\nstdin = '" +
                              (folder / "in") + "'\nstdout = '" + (folder / "out") + "'\n";
    const CommandResult result = run({"--file", "-"}, {.text = stage, .environment = {}, .out_path = {}});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(read_text_file(folder / "out"), "text\n/\n");
}

TEST(RunFileTest, SeveralStagesReadOneAndOneReadsSeveral) {
    const std::string file =
        "[[stage]]\nname = 'numbers'\nrun = 'seq 1 9'\n"
        "[[stage]]\nname = 'count'\nrun = 'wc -l'\n"
        "[[stage]]\nname = 'last'\nfrom = 'numbers'\nrun = 'tail -n 1'\n"
        "[[stage]]\nfrom = ['last', 'count']\njoin = 'order'\nrun = 'cat'\n";
    const auto run_file = [&](std::vector<std::string> words) {
        words.insert(words.end(), {"--file", "-"});
        return run(words, {.text = file, .environment = {}, .out_path = {}});
    };
    const CommandResult result = run_file({});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.out, "9\n9\n");
    const std::string shown = run_file({"--dry-run"}).out;
    EXPECT_NE(shown.find("output     stage 2, 3\n"), std::string::npos) << shown;
    EXPECT_NE(shown.find("input      stage 3, 2, one after the other\n"), std::string::npos) << shown;
}

TEST(RunFileTest, EveryMistakeIsNamedWithItsPlace) {
    const auto refused = [](const std::string& text, const std::string& reason) {
        expect_usage_error(run({"--file", "-"}, {.text = text, .environment = {}, .out_path = {}}), reason);
    };
    refused("", "no stage");
    refused("[[stage]\n", "standard input:1:");
    refused("stage = 3\n", "no stage");
    refused("[[stage]]\nname = 'x'\n",
            "standard input:1:1: stage 1: a stage has either 'run' or 'argv', to say what to run");
    refused("[[stage]]\nrun = 'a'\nargv = ['b']\n", "a stage has either 'run' or 'argv'");
    refused("[[stage]]\nrun = 'a | b'\n", "standard input:2:7: stage 1: 'run' is one program");
    refused("[[stage]]\nrun = 'a $x'\n", "run: pipeline:3: '$' starts an expansion");
    refused("[[stage]]\nargv = []\n", "'argv' is a list");
    refused("[[stage]]\nargv = ['a', 1]\n", "'argv' is no string");
    refused("[[stage]]\nargv = [\"a\\u0000b\"]\n", "a zero byte in 'argv'");
    refused("[[stage]]\nrun = 'a'\n[[stage]]\nrun = 'b'\ndir = '/'\n",
            "standard input:5:1: stage 2: unknown key 'dir'");
    refused("[[stage]]\nrun = 'a'\nlimits = { memory = '1X' }\n", "memory: '1X'");
    refused("[[stage]]\nrun = 'a'\nfrom = 'b'\n", "standard input:3:8: stage 1: no stage above is named 'b'");
    refused("[[stage]]\nrun = 'a'\njoin = 'lines'\n", "'join' says how");
    refused("[[stage]]\nname = 'a'\nrun = 'a'\n[[stage]]\nrun = 'b'\nfrom = ['a', 'a']\n", "'a' stands twice");
    refused("[[stage]]\nrun = 'a'\nlimits = { files = -1 }\n", "'files' is no count");
    refused("[[stage]]\nrun = 'a'\nenvironment = { 'A=B' = 'c' }\n", "'A=B' is no name of a variable");
    refused("[[stage]]\nrun = 'a'\nenvironment = { A = true }\n", "a variable is a string, or false");
    refused("timeout = '5'\n[[stage]]\nrun = 'a'\n", "timeout: '5'");
    expect_usage_error(run({"--file", "-", "--", "true"}), "a pipeline and --file");
}

// ---- what would run

TEST(DryRunTest, ShowsWhatWouldRunAndRunsNothing) {
    const TemporaryDirectory folder;
    const CommandResult result =
        run({"--dry-run", "--timeout", "5s", "--memory", "1G", "--", "touch", folder / "x", ":::", "sort", "-u"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    for (const char* part :
         {"stage 1  touch ", "program    /", "/touch\n", "output     stage 2\n", "stage 2  sort -u\n",
          "input      stage 1\n", "limits     memory 1.0 GiB\n", "timeout  5.0 s\n"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(DryRunTest, AProgramThatIsNotThereIsAFailure) {
    const CommandResult result = run({"--dry-run", "--", "/no/such/program"});
    EXPECT_EQ(result.end, (ChildEnd{1, 0}));
    EXPECT_NE(result.out.find("No such file"), std::string::npos) << result.out;
}

// ---- limits

json outcome_of(const std::vector<std::string>& flags, const std::string& pipeline) {
    std::vector<std::string> words = flags;
    words.insert(words.end(), {"--", pipeline});
    return report_of(words).at("stages")[0].at("outcome");
}

TEST(StageLimitTest, ProcessorTimeIsKept) {
    const json outcome = outcome_of({"--cpu", "200ms", "--timeout", "60s"}, "sh -c 'while :; do :; done'");
    EXPECT_EQ(outcome.at("kind"), "limit_exceeded");
    EXPECT_NE(outcome.at("text").get<std::string>().find("processor time"), std::string::npos);
}

TEST(StageLimitTest, MemoryIsKeptAndTheReportSaysByWhom) {
    const json report =
        report_of({"--memory", "64M", "--timeout", "60s", "--", "head -c 400M /dev/zero | tail -c 300M | wc -c"});
    const json& stage = report.at("stages")[1];
    EXPECT_EQ(stage.at("outcome").at("kind"), "limit_exceeded") << report.dump();
    EXPECT_NE(stage.at("outcome").at("text").get<std::string>().find("memory"), std::string::npos);
    EXPECT_TRUE(stage.at("memory_limit_by") == "polling" || stage.at("memory_limit_by") == "cgroup");
    EXPECT_EQ(report.at("status"), 1);
}

TEST(StageLimitTest, OutputIsKeptAndTheStageThatReadsItEndsByItself) {
    const json report = report_of({"--output", "1M", "--timeout", "60s", "--", "yes | tail -n 1 > /dev/null"});
    const json& stages = report.at("stages");
    EXPECT_EQ(stages[0].at("outcome").at("kind"), "limit_exceeded");
    EXPECT_NE(stages[0].at("outcome").at("text").get<std::string>().find("output: "), std::string::npos);
    EXPECT_EQ(stages[1].at("outcome").at("kind"), "exited");
}

TEST(StageLimitTest, OpenFilesAreRefusedToTheProgramItself) {
    EXPECT_EQ(run({"--files", "20", "--", "sh", "-c", "ulimit -n"}).out, "20\n");
    const std::string two_more = "exec 3< /dev/null 4< /dev/null";
    EXPECT_EQ(run({"--files", "20", "--", "sh", "-c", two_more}).end, tests::kChildExitedWell);
    const CommandResult refused = run({"--files", "4", "--", "sh", "-c", two_more});
    EXPECT_NE(refused.end, tests::kChildExitedWell);
    EXPECT_NE(refused.err.find("Too many open files"), std::string::npos) << refused.err;
}

// ---- attempts

TEST(RetryTest, AFailingPipelineRunsAgainUntilItSucceeds) {
    const TemporaryDirectory folder;
    const std::string count = "echo x >> " + (folder / "tries") + "; test $(wc -l < " + (folder / "tries") + ") -ge 3";
    const CommandResult from_file = run({"--retry", "5", "--retry-after", "1ms", "--json", folder / "report", "--",
                                         "sh -c '" + count + "' < /dev/null"});
    EXPECT_EQ(from_file.end, tests::kChildExitedWell) << from_file.err;
    EXPECT_EQ(json::parse(read_text_file(folder / "report")).at("attempts"), 3);
    EXPECT_NE(from_file.err.find("attempt 1 of 6 failed with status 1"), std::string::npos) << from_file.err;
}

TEST(RetryTest, APipeCannotBeReadAgain) {
    const std::string script = std::string("true | exec ") + PROCRUN_COMMAND + " run --retry 2 -- ";
    expect_usage_error(tests::run_command({"sh", "-c", script + "cat"}), "--retry: standard input is a pipe");
    EXPECT_EQ(tests::run_command({"sh", "-c", script + "'cat < /dev/null' 2> /dev/null"}).end, tests::kChildExitedWell);
}

TEST(RetryTest, TheLastAttemptsStatusIsTheCommands) {
    EXPECT_EQ(run({"--retry", "2", "--retry-after", "1ms", "--", "sh -c 'exit 7' < /dev/null"}).end, (ChildEnd{7, 0}));
}

TEST(RetryTest, FilesAreReadAgainFromTheStartAndWrittenAnew) {
    const TemporaryDirectory folder;
    write_file(folder / "in", "line\n");
    const std::string script = std::string("exec ") + PROCRUN_COMMAND +
                               " run --quiet --retry 2 --retry-after 1ms -- sh -c 'cat; exit 1' < \"$0\" >> \"$1\"";
    write_file(folder / "out", "before\n");
    const CommandResult result = tests::run_command({"sh", "-c", script, folder / "in", folder / "out"});
    EXPECT_EQ(result.end, (ChildEnd{1, 0})) << result.err;
    EXPECT_EQ(read_text_file(folder / "out"), "before\nline\n");
}

TEST(RetryTest, AProgramThatIsNotThereIsNotTriedAgain) {
    const CommandResult result = run({"--retry", "5", "--retry-after", "1h", "--", "/no/such/program < /dev/null"});
    EXPECT_EQ(result.end, (ChildEnd{1, 0}));
    EXPECT_EQ(result.err.find("attempt"), std::string::npos) << result.err;
}

// ---- stopping

TEST(StopTest, WhatAStageHasLeftBehindIsStoppedWithIt) {
    // The background process keeps the pipe open and ignores SIGTERM.
    const TemporaryDirectory folder;
    const std::string left = "(trap '' TERM; echo x >&2; exec sleep 1000) & exit 0";
    const CommandResult result = run({"--timeout", "300ms", "--kill-after", "300ms", "--json", folder / "report", "--",
                                      "sh", "-c", left, ":::", "cat"});
    EXPECT_EQ(result.end, (ChildEnd{124, 0})) << result.err;
    const json report = json::parse(read_text_file(folder / "report"));
    EXPECT_EQ(report.at("stages")[0].at("outcome").at("kind"), "exited");
    EXPECT_EQ(report.at("stages")[1].at("outcome").at("kind"), "deadline_passed");
}

// A daemon is in none of our process groups, and would keep the pipe open for as long as it runs.
TEST(StopTest, WhatHasLeftTheProcessGroupIsStoppedToo) {
    for (const std::string left : {"setsid sleep 1000 & exit 0", "(trap '' TERM; exec setsid sleep 1000) & exit 0"}) {
        EXPECT_EQ(tests::in_child([&] {
                      if (vmcow::sys::adopt_orphans() != 0) return 1;
                      const auto result = run({"--timeout", "300ms", "--", "sh", "-c", left, ":::", "cat"});
                      if (result.end != ChildEnd{124, 0}) return 2;
                      return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 3;
                  }),
                  tests::kChildExitedWell)
            << left;
    }
}

TEST(StopTest, ADaemonOutlivesAPipelineThatEndsWell) {
    EXPECT_EQ(tests::in_child([] {
                  if (vmcow::sys::adopt_orphans() != 0) return 1;
                  const std::string daemon = "setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!";
                  const auto result = run({"--", "sh", "-c", daemon});
                  if (result.end != tests::kChildExitedWell) return 2;
                  const pid_t pid = std::stoi(result.out);
                  if (vmcow::sys::try_signal_process(pid, SIGKILL) != 0) return 3;
                  return waitpid(pid, nullptr, 0) == pid ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

// In a container no process may reap for init, so that a thousand runs would leave a thousand zombies.
TEST(StopTest, NoProcessIsLeftToInit) {
    EXPECT_EQ(tests::in_child([] {
                  if (vmcow::sys::adopt_orphans() != 0) return 1;
                  if (run({"--", "true", ":::", "cat"}).end != tests::kChildExitedWell) return 2;
                  return waitpid(-1, nullptr, 0) == -1 && errno == ECHILD ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(RetryTest, WhatWasInterruptedIsNotTriedAgain) {
    const CommandResult result = run({"--retry", "5", "--retry-after", "1h", "--", "sh -c 'kill -INT $$' < /dev/null"});
    EXPECT_EQ(result.end, (ChildEnd{130, 0})) << result.err;
}

// ---- a terminal

TEST(TerminalJobTest, CtrlCReachesTheProgramsWhichHaveTheTerminal) {
    OnTerminal job({PROCRUN_COMMAND, "run", "--", "sh -c 'read line; echo got $line; exec sleep 1000'"});
    if (!job) GTEST_SKIP() << "pseudo-terminals are missing";
    job.type("hello\n");
    ASSERT_TRUE(job.shows("got hello")) << job.shown();
    job.type("\x03");
    ASSERT_TRUE(job.shows("killed by SIGINT")) << job.shown();
    EXPECT_EQ(job.end(), "exit 130");
}

TEST(TerminalJobTest, CtrlZStopsTheJobAndTheShellCanContinueIt) {
    const std::string script =
        std::string(PROCRUN_COMMAND) +
        " run --quiet -- sh -c 'echo begun; read line; echo got $line'; echo stopped $?; fg; echo ended $?";
    OnTerminal shell({"sh", "-m", "-c", script});
    if (!shell) GTEST_SKIP() << "pseudo-terminals are missing";
    ASSERT_TRUE(shell.shows("begun")) << shell.shown();
    shell.type("\x1a");
    ASSERT_TRUE(shell.shows("stopped 1")) << shell.shown();
    shell.type("word\n");
    ASSERT_TRUE(shell.shows("got word")) << shell.shown();
    ASSERT_TRUE(shell.shows("ended 0")) << shell.shown();
    EXPECT_EQ(shell.end(), "exit 0");
}

TEST(TerminalJobTest, WithANeighbourInTheShellsPipelineTheTerminalStaysWithUs) {
    const std::string neighbour = "sh -c 'read first; echo $first; read typed < /dev/tty; echo got $typed; cat'";
    const std::string script =
        std::string(PROCRUN_COMMAND) + " run --quiet -- sh -c 'echo begun; exec sleep 1000' | " + neighbour;
    OnTerminal shell({"sh", "-m", "-c", script});
    if (!shell) GTEST_SKIP() << "pseudo-terminals are missing";
    ASSERT_TRUE(shell.shows("begun")) << shell.shown();
    shell.type("word\n");
    ASSERT_TRUE(shell.shows("got word")) << shell.shown();
    shell.type("\x03");
    EXPECT_NE(shell.end(), "");
}

}  // namespace
