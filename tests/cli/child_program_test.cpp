// ChildProgram: starting, signalling and reaping a program that a command runs.
#include "vmcow/cli/kit/child_program.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using vmcow::sys::ChildProgram;

const std::vector<std::string> kSleeper{"sleep", "1000"};

std::string text_in(const std::string& file) {
    std::ifstream in(file);
    std::string line;
    return std::getline(in, line) ? line : "";
}

/// The exit status of a program that ends by itself.
int status_of(ChildProgram& program) {
    pollfd ended{program.pidfd(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, 30'000), 1);
    EXPECT_TRUE(program.reap().has_value());
    return program.shell_status();
}

TEST(ChildProgramTest, EndsAsAShellWouldSay) {
    ChildProgram well({"true"});
    EXPECT_EQ(status_of(well), 0);
    ChildProgram badly({"sh", "-c", "exit 7"});
    EXPECT_EQ(status_of(badly), 7);
    EXPECT_EQ(badly.reap(), W_EXITCODE(7, 0)) << "asked again";
    ChildProgram killed(kSleeper);
    EXPECT_EQ(killed.reap(), std::nullopt) << "while it runs";
    killed.send(SIGTERM);
    EXPECT_EQ(status_of(killed), 128 + SIGTERM);
    killed.send(SIGKILL);  // must do nothing: another process may have the number by now
}

TEST(ChildProgramTest, OneThatCannotBeExecutedIsAnErrorAndLeavesNothing) {
    EXPECT_EQ(in_child([] {
                  if (error_of([] { const ChildProgram none({"/nothing/here"}); }) != ENOENT) return 1;
                  if (error_of([] { const ChildProgram folder({"/"}); }) != EACCES) return 2;
                  return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST(ChildProgramTest, OneThatSomebodyElseHasReapedHasEndedSomehow) {
    ChildProgram program({"sh", "-c", "exit 7"});
    ASSERT_EQ(::waitpid(program.pid(), nullptr, 0), program.pid());
    EXPECT_EQ(status_of(program), 127);
}

TEST(ChildProgramTest, LeaderOfAGroupIsSignalledWithWhatItHasStarted) {
    const tests::TemporaryDirectory folder;
    const std::string file = folder / "pid";
    ChildProgram program({"sh", "-c", "sleep 1000 & echo $! > \"$0\"; wait", file}, {.own_group = true});
    ASSERT_TRUE(tests::eventually([&] { return !text_in(file).empty(); }));
    const pid_t other = std::stoi(text_in(file));
    program.send(SIGKILL);
    EXPECT_EQ(status_of(program), 128 + SIGKILL);
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(other); }));
}

TEST(ChildProgramTest, CopyInAForkedProcessLeavesItAlone) {
    std::optional<ChildProgram> program(std::in_place, kSleeper);
    EXPECT_EQ(in_child([&] {
                  program.reset();
                  return 0;
              }),
              kChildExitedWell);
    EXPECT_TRUE(tests::is_running(program->pid()));
    const pid_t pid = program->pid();
    program.reset();
    EXPECT_EQ(vmcow::sys::try_signal_process(pid, 0), ESRCH);
}

}  // namespace
