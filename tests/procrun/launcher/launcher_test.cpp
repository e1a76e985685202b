// Launcher: how programs are started by it and by fork, with their words, descriptors, limits, groups and environment.
#include "procrun/launcher.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/program.hpp"
#include "tests/procrun/launcher/launchers.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using pipes::Pipe;
using procrun::Launcher;
using procrun::LauncherKind;
using procrun::Outcome;
using procrun::Process;
using procrun::Program;
using tests::error_of;
using tests::output_of;
using tests::refusal_of;
using tests::TemporaryDirectory;
using vmcow::sys::UniqueFd;

/// The claims that hold for every way to start programs. The kind `fork` is also what Program::start() does.
class LauncherKindTest : public testing::TestWithParam<LauncherKind> {
protected:
    Launcher launcher_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Kinds, LauncherKindTest, testing::Values(LauncherKind::small_process, LauncherKind::fork),
                         [](const auto& kind) { return kind.param == LauncherKind::fork ? "Fork" : "SmallProcess"; });

TEST_P(LauncherKindTest, KindIsWhatWasAskedFor) {
    EXPECT_EQ(launcher_.kind(), GetParam());
    EXPECT_EQ(launcher_.refusal(), "");
    EXPECT_EQ(launcher_.pid() > 0, GetParam() == LauncherKind::small_process);
}

TEST_P(LauncherKindTest, WordsVariablesAndDirectoryArrive) {
    const TemporaryDirectory folder;
    EXPECT_EQ(output_of(launcher_, Program({"printf", "[%s]", "", "a b", "$HOME", "'\"\\"})), "[][a b][$HOME]['\"\\]");
    EXPECT_EQ(output_of(launcher_, Program({"env"}).empty_environment().variable("A", "1").variable("B", "")),
              "A=1\nB=\n");
    EXPECT_EQ(output_of(launcher_, Program({"/bin/pwd", "-P"}).directory(folder.path().string())),
              std::filesystem::canonical(folder.path()).string() + "\n");
    EXPECT_EQ(output_of(launcher_, "exit 7"), "exit 7 after: ");
}

TEST_P(LauncherKindTest, EachStepThatFailsIsNamed) {
    const Pipe pipe = Pipe::open();
    const int closed = UniqueFd{fcntl(0, F_DUPFD_CLOEXEC, 170)}.get();
    const std::string no_terminal = std::to_string(pipe.read_end().get());
    EXPECT_EQ(refusal_of(launcher_, Program({"no-such-program"})),
              "execve 'no-such-program': No such file or directory");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).directory("/no/such/folder")),
              "chdir '/no/such/folder': No such file or directory");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).process_group(-1)), "setpgid -1: Invalid argument");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).limit(99, 1)), "setrlimit of resource 99: Invalid argument");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).foreground(pipe.read_end().get())),
              "tcsetpgrp of descriptor " + no_terminal + ": Inappropriate ioctl for device");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).foreground(closed)),
              "tcsetpgrp of descriptor " + std::to_string(closed) + ": Bad file descriptor");
    EXPECT_EQ(refusal_of(launcher_, Program({"true"}).descriptor(5, closed)),
              "descriptor 5 from " + std::to_string(closed) + ": Bad file descriptor");
    EXPECT_EQ(refusal_of(launcher_, Program({"true", std::string(std::size_t{8} << 20, 'x')})),
              "execve 'true': Argument list too long");
    EXPECT_EQ(output_of(launcher_, "echo still there"), "still there\n");
}

TEST_P(LauncherKindTest, LimitIsSoftAndHardAndTheProgramsAlone) {
    rlimit before{};
    rlimit after{};
    getrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(
        output_of(
            launcher_,
            Program({"sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"}).limit(RLIMIT_NOFILE, 77).limit(RLIMIT_CORE, 0)),
        "77\n77\n0\n");
    getrlimit(RLIMIT_NOFILE, &after);
    EXPECT_EQ(after.rlim_cur, before.rlim_cur);
    EXPECT_EQ(after.rlim_max, before.rlim_max);
}

TEST_P(LauncherKindTest, LimitDoesNotStandInTheWayOfTheStartItself) {
    const UniqueFd null = vmcow::sys::open_file("/dev/null", O_RDONLY);
    auto started = Program({"true"}).descriptor(9, null.get()).limit(RLIMIT_NOFILE, 4).start(launcher_);
    ASSERT_TRUE(std::holds_alternative<Process>(started)) << std::get<Outcome>(started).describe();
    EXPECT_EQ(std::get<Process>(started).wait().outcome.describe(), "exit 0");
}

TEST_P(LauncherKindTest, TwoMegabytesOfEnvironmentArrive) {
    constexpr int kVariables = 17;  // the kernel takes at most 128 KiB for one string
    constexpr std::size_t kBytes = 120'000;
    rlimit stack{};
    getrlimit(RLIMIT_STACK, &stack);  // words and variables may take a quarter of it
    Program program({"sh", "-c", "env | wc -c"});
    program.empty_environment().variable("PATH", "/usr/bin:/bin");
    program.limit(RLIMIT_STACK, std::min<rlim_t>(stack.rlim_max, rlim_t{32} << 20));
    for (int i = 0; i < kVariables; ++i) program.variable("V" + std::to_string(10 + i), std::string(kBytes, 'x'));
    const std::string text = output_of(launcher_, program);
    EXPECT_GE(std::atoi(text.c_str()), kVariables * static_cast<int>(kBytes + 5)) << text;
    EXPECT_LE(std::atoi(text.c_str()), kVariables * static_cast<int>(kBytes + 5) + 200) << text;
}

// Runs in a new session with a terminal of its own. Returns 0, or the number of the check that failed.
int foreground_checks(LauncherKind kind) {
    tests::set_action(SIGHUP, SIG_IGN);  // sent when the terminal closes
    if (setsid() == -1) return 1;
    const UniqueFd terminal{posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    if (!terminal || grantpt(terminal.get()) != 0 || unlockpt(terminal.get()) != 0) return 2;
    const UniqueFd ours{open(ptsname(terminal.get()), O_RDWR | O_CLOEXEC)};  // becomes the controlling terminal
    if (tcgetpgrp(ours.get()) != getpgrp()) return 3;
    Launcher launcher{kind};
    // The second round starts from a group in the background, where SIGTTOU would stop this process.
    for (int round = 0; round < 2; ++round) {
        Pipe pipe = Pipe::open();
        auto started = Program({"cat"})
                           .descriptor(0, pipe.read_end().get())
                           .process_group(0)
                           .foreground(ours.get())
                           .start(launcher);
        if (!std::holds_alternative<Process>(started)) return 4;
        Process& program = std::get<Process>(started);
        if (tcgetpgrp(ours.get()) != program.pid() || getpgid(program.pid()) != program.pid()) return 5;
        pipe.take_write_end().reset();
        if (!program.wait().outcome.ok()) return 6;
    }
    return 0;
}

TEST_P(LauncherKindTest, ForegroundGroupIsTheProgramsBeforeStartReturns) {
    EXPECT_EQ(tests::in_child([] { return foreground_checks(GetParam()); }), tests::kChildExitedWell);
}

TEST(LauncherTest, ProgramIsAChildOfThisProcess) {
    Launcher launcher;
    EXPECT_EQ(output_of(launcher, "echo $PPID"), std::to_string(getpid()) + "\n");
}

TEST(LauncherTest, ProgramHasTheNamedDescriptorsAndNoOthers) {
    const UniqueFd before{fcntl(STDOUT_FILENO, F_DUPFD, 20)};  // inheritable
    Launcher launcher;
    const UniqueFd after{fcntl(STDOUT_FILENO, F_DUPFD, 40)};
    const UniqueFd null = vmcow::sys::open_file("/dev/null", O_RDONLY);
    // Descriptor 3 is the directory that ls reads.
    const Program list = Program({"ls", "/proc/self/fd"}).descriptor(0, null.get()).variable("LC_ALL", "C");
    EXPECT_EQ(output_of(launcher, list), "0\n1\n2\n3\n");
    EXPECT_EQ(output_of(launcher, Program(list).descriptor(7, after.get())), "0\n1\n2\n3\n7\n");
}

// All maps of three neighbouring numbers, duplicates included. The launcher uses some of these numbers itself.
TEST(LauncherTest, AnyMapOfDescriptorsIsMade) {
    Launcher launcher;
    std::vector<UniqueFd> sources;
    for (int index = 0; index < 3; ++index)
        sources.emplace_back(memfd_create(std::to_string(index).c_str(), MFD_CLOEXEC));
    for (int map = 0; map < 27; ++map) {
        Program program({"readlink", "/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5"});
        std::string expected;
        for (int target = 3, rest = map; target < 6; ++target, rest /= 3) {
            program.descriptor(target, sources[static_cast<std::size_t>(rest % 3)].get());
            expected += "/memfd:" + std::to_string(rest % 3) + " (deleted)\n";
        }
        EXPECT_EQ(output_of(launcher, program), expected) << "map " << map;
    }
}

TEST(LauncherTest, MoreDescriptorsThanOneMessageTakesArrive) {
    Launcher launcher;
    const UniqueFd null = vmcow::sys::open_file("/dev/null", O_RDONLY);
    Program program({"sh", "-c", "ls /proc/self/fd | wc -l"});
    constexpr int kFirst = 10;
    constexpr int kCount = 600;
    program.descriptor(0, null.get());
    for (int i = 0; i < kCount; ++i) program.descriptor(kFirst + i, null.get());
    EXPECT_EQ(std::atoi(output_of(launcher, program).c_str()), kCount + 4);  // plus 0, 1, 2 and the directory
    EXPECT_EQ(output_of(launcher, "echo still there"), "still there\n");
}

TEST(LauncherTest, StandardDescriptorsAreThoseOfNow) {
    Launcher launcher;
    EXPECT_EQ(tests::in_child([&launcher] {
                  const bool mine = output_of(launcher, "echo of the child") == "of the child\n";
                  const UniqueFd text{memfd_create("text", MFD_CLOEXEC)};
                  if (pwrite(text.get(), "input", 5, 0) != 5 || dup2(text.get(), 0) != 0) return 1;
                  if (output_of(launcher, "cat") != "input") return 2;
                  close(0);
                  if (output_of(launcher, "test -e /proc/$$/fd/0 || echo closed") != "closed\n") return 3;
                  return mine ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

// The program must get the state that a child forked at the moment of the start would inherit.
TEST(LauncherTest, ProgramIsStartedFromTheCallerAsItIsNow) {
    const TemporaryDirectory folder;
    const std::string real = std::filesystem::canonical(folder.path()).string();
    EXPECT_EQ(tests::in_child([&real] {
                  Launcher launcher;
                  const rlimit files{.rlim_cur = 123, .rlim_max = 124};
                  if (chdir(real.c_str()) != 0 || setrlimit(RLIMIT_NOFILE, &files) != 0) return 1;
                  umask(027);
                  tests::set_action(SIGHUP, SIG_IGN);
                  tests::set_action(SIGINT, SIG_DFL);
                  tests::set_action(SIGQUIT, SIG_DFL);
                  tests::set_action(SIGTSTP, SIG_DFL);
                  tests::set_action(SIGTTIN, SIG_DFL);
                  tests::set_action(SIGTTOU, SIG_DFL);
                  tests::set_action(SIGUSR1, SIG_IGN);
                  if (output_of(launcher, "/bin/pwd -P; umask; ulimit -Sn; ulimit -Hn") != real + "\n0027\n123\n124\n")
                      return 2;
                  if (output_of(launcher, Program({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"})) !=
                      "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n") {
                      return 3;
                  }
                  if (setpgid(0, 0) != 0) return 4;
                  const std::string group = std::to_string(getpid());
                  const std::string fields = "read -r pid name state parent group session rest </proc/self/stat;";
                  if (output_of(launcher, fields + "echo $group") != group + "\n") return 5;
                  return 0;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherTest, LauncherOfAnotherSessionIsReplaced) {
    EXPECT_EQ(tests::in_child([] {
                  Launcher launcher;
                  const pid_t before = launcher.pid();
                  if (setsid() != getpid()) return 1;
                  const std::string fields = "read -r pid name state parent group session rest </proc/self/stat;";
                  const std::string expected = std::to_string(getpid()) + " " + std::to_string(getpid()) + "\n";
                  if (output_of(launcher, fields + "echo $group $session") != expected) return 2;
                  return launcher.pid() == before ? 3 : 0;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherTest, RightsThatWereGivenUpAreNotTheProgramsEither) {
    EXPECT_EQ(tests::in_child([] {
                  Launcher launcher;
                  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
                  if (output_of(launcher, "grep ^NoNewPrivs /proc/self/status") != "NoNewPrivs:\t1\n") return 2;
                  constexpr uid_t kNobody = 65534;
                  const uid_t user = getuid() == 0 ? kNobody : getuid();
                  if (setresuid(user, user, user) != 0) return 3;
                  return output_of(launcher, "id -ru") == std::to_string(user) + "\n" ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherTest, PeakOfTheProgramIsItsOwn) {
    constexpr std::size_t kBytes = std::size_t{256} << 20;
    constexpr std::size_t kSmall = std::size_t{8} << 20;
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    Launcher launcher;
    // The second round follows a request that was long itself.
    for (int round = 0; round < 2; ++round) {
        auto started = Program({"true"}).start(launcher);
        const auto record = std::get<Process>(started).wait();
        EXPECT_TRUE(record.outcome.ok());
        EXPECT_GT(record.max_resident_bytes, 0U);
        EXPECT_LT(record.max_resident_bytes, kSmall);
        EXPECT_NE(refusal_of(launcher, Program({"true", std::string(4 * kSmall, 'x')})), "started");
    }
    munmap(memory, kBytes);
}

// Refuses execveat(2) with EACCES, as vm.memfd_noexec or a security module may.
void forbid_execveat() {
    std::array<sock_filter, 4> code{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog filter{.len = code.size(), .filter = code.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        _exit(100);
    }
}

TEST(LauncherTest, KernelThatDoesNotExecuteMemfdsIsReportedAndProgramsAreForked) {
    EXPECT_EQ(tests::in_child([] {
                  forbid_execveat();
                  Launcher launcher;
                  if (launcher.kind() != LauncherKind::fork || launcher.pid() != -1) return 1;
                  if (launcher.refusal().find("execveat of the launcher: Permission denied") == std::string::npos) {
                      return 2;
                  }
                  return output_of(launcher, "echo all the same") == "all the same\n" ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherTest, WhereItsFileWouldBeTooLargeProgramsAreForked) {
    EXPECT_EQ(tests::in_child([] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, 16);
                  Launcher launcher;
                  if (launcher.kind() != LauncherKind::fork) return 1;
                  if (launcher.refusal().find("File too large") == std::string::npos) return 2;
                  return output_of(launcher, "echo all the same") == "all the same\n" ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherTest, NoDescriptorLeftIsEmfileAndTheLauncherStays) {
    Launcher launcher;
    const pid_t before = launcher.pid();
    {
        const DescriptorLimit limit{0};
        EXPECT_EQ(error_of([&] { static_cast<void>(Program({"true"}).start(launcher)); }), EMFILE);
    }
    EXPECT_EQ(output_of(launcher, "echo here"), "here\n");
    EXPECT_EQ(launcher.pid(), before);
    const DescriptorLimit limit{0};
    EXPECT_EQ(error_of([] { const Launcher none; }), EMFILE);
}

}  // namespace
