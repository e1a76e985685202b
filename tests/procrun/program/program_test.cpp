// Program: how it is found and started, its words, descriptors, signals and limits, and every way a start is refused.
#include "procrun/program.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/prctl.hpp"

namespace {

using pipes::Pipe;
using procrun::Outcome;
using procrun::OutcomeKind;
using procrun::Process;
using procrun::Program;
using tests::error_of;
using tests::TemporaryDirectory;
using vmcow::sys::UniqueFd;

std::string read_all(int fd) {
    std::string text;
    std::array<std::byte, 4096> buffer{};
    for (;;) {
        const std::size_t got = vmcow::sys::read_full(fd, buffer, "output");
        text.append(reinterpret_cast<const char*>(buffer.data()), got);
        if (got < buffer.size()) return text;
    }
}

/// What the program writes to its standard output; the program must end well. "not started: …" when it did not start.
std::string output_of(Program program) {
    Pipe pipe = Pipe::open();
    auto started = program.descriptor(STDOUT_FILENO, pipe.write_end().get()).start();
    pipe.take_write_end().reset();
    if (const auto* outcome = std::get_if<Outcome>(&started)) return "not started: " + outcome->describe();
    std::string text = read_all(pipe.read_end().get());
    EXPECT_EQ(std::get<Process>(started).wait().outcome.describe(), "exit 0");
    return text;
}

/// The outcome of a program that must not start.
Outcome refusal_of(const Program& program) {
    auto started = program.start();
    if (auto* outcome = std::get_if<Outcome>(&started)) return *outcome;
    ADD_FAILURE() << program.argv().front() << " was started";
    return {};
}

bool has_children() {
    siginfo_t info{};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/// Makes an empty file with this mode in `folder` and returns its path.
std::string make_file(const TemporaryDirectory& folder, const std::string& name, unsigned mode) {
    static_cast<void>(vmcow::sys::open_file(folder / name, O_WRONLY | O_CREAT | O_EXCL, mode));
    return folder / name;
}

/// Sets a variable of this process for the life of the object.
class ScopedVariable {
public:
    ScopedVariable(const char* name, const std::string& value) : name_(name) {
        if (const char* previous = std::getenv(name)) previous_ = previous;
        setenv(name, value.c_str(), 1);
    }
    ScopedVariable(const ScopedVariable&) = delete;
    ScopedVariable& operator=(const ScopedVariable&) = delete;
    ~ScopedVariable() {
        if (previous_) {
            setenv(name_, previous_->c_str(), 1);
        } else {
            unsetenv(name_);
        }
    }

private:
    const char* name_;
    std::optional<std::string> previous_;
};

/// Replaces a descriptor of this process by `replacement` for the life of the object, or closes it (-1).
class ScopedDescriptor {
public:
    ScopedDescriptor(int fd, int replacement) : fd_(fd), saved_(fcntl(fd, F_DUPFD_CLOEXEC, 200)) {
        if (replacement == -1) {
            close(fd);
        } else {
            dup2(replacement, fd);
        }
    }
    ScopedDescriptor(const ScopedDescriptor&) = delete;
    ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
    ~ScopedDescriptor() {
        if (saved_) {
            dup2(saved_.get(), fd_);
        } else {
            close(fd_);
        }
    }

private:
    int fd_;
    UniqueFd saved_;
};

class ScopedDisposition {
public:
    ScopedDisposition(int number, void (*handler)(int)) : number_(number) {
        struct sigaction action {};
        action.sa_handler = handler;
        sigaction(number, &action, &previous_);
    }
    ScopedDisposition(const ScopedDisposition&) = delete;
    ScopedDisposition& operator=(const ScopedDisposition&) = delete;
    ~ScopedDisposition() { sigaction(number_, &previous_, nullptr); }

private:
    int number_;
    struct sigaction previous_ {};
};

TEST(ProgramTest, RunsAndItsExitStatusComesBack) {
    auto started = Program({"sh", "-c", "exit 7"}).start();
    const auto record = std::get<Process>(started).wait();
    EXPECT_EQ(record.outcome.kind, OutcomeKind::exited);
    EXPECT_EQ(record.outcome.code, 7);
}

TEST(ProgramTest, WordsArriveAsTheyAre) {
    EXPECT_EQ(output_of(Program({"printf", "[%s]", "", "a b", "$HOME", "*", "'\"\\"})), "[][a b][$HOME][*]['\"\\]");
}

TEST(ProgramTest, MissingProgramIsEnoent) {
    const Outcome outcome = refusal_of(Program({"no-such-program-anywhere", "word"}));
    EXPECT_EQ(outcome.kind, OutcomeKind::not_started);
    EXPECT_EQ(outcome.code, ENOENT);
    EXPECT_EQ(outcome.text, "execve 'no-such-program-anywhere'");
    EXPECT_EQ(outcome.describe(), "execve 'no-such-program-anywhere': No such file or directory");
    EXPECT_EQ(refusal_of(Program({"/no/such/program"})).code, ENOENT);
    EXPECT_EQ(refusal_of(Program({""})).code, ENOENT);
}

TEST(ProgramTest, FileThatIsNotExecutableIsEacces) {
    const TemporaryDirectory folder;
    const Outcome outcome = refusal_of(Program({make_file(folder, "text", 0644)}));
    EXPECT_EQ(outcome.code, EACCES);
    EXPECT_EQ(outcome.text, "execve '" + folder.path().string() + "/text'");
}

TEST(ProgramTest, PathThroughAFileIsEnotdir) {
    const TemporaryDirectory folder;
    EXPECT_EQ(refusal_of(Program({make_file(folder, "text", 0644) + "/program"})).code, ENOTDIR);
}

// An empty executable, named by its descriptor so that no mount option matters. The descriptors that the program shall
// not have must still be open when it is executed.
TEST(ProgramTest, FileWithoutAFormatIsEnoexecAndNoShellRunsIt) {
    const UniqueFd image{memfd_create("empty", MFD_CLOEXEC)};
    ASSERT_TRUE(image);
    EXPECT_EQ(refusal_of(Program({"/proc/self/fd/" + std::to_string(image.get())})).code, ENOEXEC);
}

TEST(ProgramTest, WordBeyondTheKernelsLimitIsE2big) {
    EXPECT_EQ(refusal_of(Program({"true", std::string(std::size_t{8} << 20, 'x')})).code, E2BIG);
}

TEST(ProgramTest, ZeroByteIsRefusedAndNotCutShort) {
    const std::string text{"a\0b", 3};
    for (const Program& program : {Program({"true", text}), Program({"true"}).variable("NAME", text),
                                   Program({"true"}).directory(text), Program({text})}) {
        const Outcome outcome = refusal_of(program);
        EXPECT_EQ(outcome.code, EINVAL);
        EXPECT_NE(outcome.text.find("zero byte"), std::string::npos) << outcome.text;
    }
}

TEST(ProgramTest, ForbiddenFileInPathIsPassedOverAndRememberedWhenNothingElseIsFound) {
    const TemporaryDirectory forbidden;
    const TemporaryDirectory allowed;
    static_cast<void>(make_file(forbidden, "tool", 0644));
    {
        const ScopedVariable path{"PATH", forbidden.path().string() + ":" + allowed.path().string()};
        EXPECT_EQ(refusal_of(Program({"tool"})).code, EACCES);
    }
    std::filesystem::create_symlink("/bin/echo", (allowed / "tool"));
    const ScopedVariable path{"PATH", forbidden.path().string() + ":" + allowed.path().string()};
    EXPECT_EQ(output_of(Program({"tool", "found"})), "found\n");
}

TEST(ProgramTest, WhatIsNotAFolderInPathIsPassedOver) {
    const TemporaryDirectory folder;
    const ScopedVariable path{"PATH", folder.path().string() + "/none:" + make_file(folder, "text", 0644) + ":/bin"};
    EXPECT_EQ(output_of(Program({"echo", "found"})), "found\n");
    EXPECT_EQ(refusal_of(Program({"no-such-program-anywhere"})).code, ENOENT);
}

TEST(ProgramTest, FileWithoutAFormatEndsTheSearchOfPath) {
    const TemporaryDirectory folder;
    const UniqueFd image{memfd_create("empty", MFD_CLOEXEC)};
    std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(image.get()), (folder / "echo"));
    const ScopedVariable path{"PATH", folder.path().string() + ":/bin"};
    EXPECT_EQ(refusal_of(Program({"echo"})).code, ENOEXEC);
}

// Unless the caller is root, such a folder refuses with EACCES, which would hide that the program is nowhere.
TEST(ProgramTest, FolderInPathThatMayNotBeSearchedIsPassedOver) {
    const TemporaryDirectory closed;
    ASSERT_EQ(chmod(closed.path().string().c_str(), 0), 0);
    {
        const ScopedVariable path{"PATH", closed.path().string() + ":/bin"};
        EXPECT_EQ(refusal_of(Program({"no-such-program-anywhere"})).code, ENOENT);
        EXPECT_EQ(output_of(Program({"echo", "found"})), "found\n");
    }
    ASSERT_EQ(chmod(closed.path().string().c_str(), 0700), 0);
}

TEST(ProgramTest, EmptyPartOfPathIsTheChildsWorkingDirectory) {
    const TemporaryDirectory folder;
    std::filesystem::create_symlink("/bin/echo", (folder / "tool"));
    const ScopedVariable path{"PATH", "/none:"};
    EXPECT_EQ(output_of(Program({"tool", "found"}).directory(folder.path().string())), "found\n");
    EXPECT_EQ(refusal_of(Program({"tool"}).directory("/")).code, ENOENT);
}

TEST(ProgramTest, DirectoryIsTheChildsAlone) {
    const TemporaryDirectory folder;
    const std::filesystem::path before = std::filesystem::current_path();
    const std::string real = std::filesystem::canonical(folder.path()).string();
    EXPECT_EQ(output_of(Program({"/bin/pwd", "-P"}).directory(folder.path().string())), real + "\n");
    EXPECT_EQ(std::filesystem::current_path(), before);
}

TEST(ProgramTest, MissingDirectoryIsNamed) {
    const Outcome outcome = refusal_of(Program({"true"}).directory("/no/such/folder"));
    EXPECT_EQ(outcome.code, ENOENT);
    EXPECT_EQ(outcome.describe(), "chdir '/no/such/folder': No such file or directory");
}

TEST(ProgramTest, VariablesAreSetOnTopOfTheParents) {
    const ScopedVariable kept{"PROGRAM_TEST_KEPT", "old"};
    const ScopedVariable changed{"PROGRAM_TEST_CHANGED", "old"};
    const ScopedVariable removed{"PROGRAM_TEST_REMOVED", "old"};
    const std::string script =
        "echo $PROGRAM_TEST_KEPT $PROGRAM_TEST_CHANGED ${PROGRAM_TEST_REMOVED-unset} $PROGRAM_TEST_ADDED;"
        "env | grep -c PROGRAM_TEST_";
    EXPECT_EQ(output_of(Program({"sh", "-c", script})
                            .variable("PROGRAM_TEST_CHANGED", "new")
                            .variable("PROGRAM_TEST_ADDED", "a=b")
                            .without_variable("PROGRAM_TEST_REMOVED")),
              "old new unset a=b\n3\n");
}

TEST(ProgramTest, EmptyEnvironmentHoldsWhatIsSetAndNothingElse) {
    EXPECT_EQ(output_of(Program({"env"}).empty_environment()), "");
    EXPECT_EQ(output_of(Program({"env"}).variable("A", "1").variable("B", "").empty_environment()), "A=1\nB=\n");
}

TEST(ProgramTest, StandardErrorCanGoWhereStandardOutputGoes) {
    Pipe pipe = Pipe::open();
    const int write_end = pipe.write_end().get();
    auto started =
        Program({"sh", "-c", "echo out; echo err >&2"}).descriptor(1, write_end).descriptor(2, write_end).start();
    pipe.take_write_end().reset();
    EXPECT_EQ(read_all(pipe.read_end().get()), "out\nerr\n");
    EXPECT_TRUE(std::get<Process>(started).wait().outcome.ok());
}

TEST(ProgramTest, StandardDescriptorsCanChangePlaces) {
    Pipe pipe = Pipe::open();
    const UniqueFd text{memfd_create("text", MFD_CLOEXEC)};
    ASSERT_EQ(pwrite(text.get(), "through", 7, 0), 7);
    {
        const ScopedDescriptor in{0, pipe.write_end().get()};
        const ScopedDescriptor out{1, text.get()};
        auto started = Program({"cat"}).descriptor(0, 1).descriptor(1, 0).start();
        EXPECT_TRUE(std::get<Process>(started).wait().outcome.ok());
    }
    pipe.take_write_end().reset();
    EXPECT_EQ(read_all(pipe.read_end().get()), "through");
}

// Every map of three neighbouring numbers to the three descriptors at these numbers: all permutations, all duplicates,
// and each number to itself.
TEST(ProgramTest, AnyMapOfDescriptorsToThemselvesIsMade) {
    constexpr int kFirst = 100;
    std::vector<UniqueFd> sources;
    for (int index = 0; index < 3; ++index) {
        const UniqueFd file{memfd_create(std::to_string(index).c_str(), MFD_CLOEXEC)};
        sources.emplace_back(fcntl(file.get(), F_DUPFD_CLOEXEC, kFirst + index));
        ASSERT_EQ(sources.back().get(), kFirst + index);
    }
    for (int map = 0; map < 27; ++map) {
        Program program({"readlink", "/proc/self/fd/100", "/proc/self/fd/101", "/proc/self/fd/102"});
        std::string expected;
        for (int target = 0, rest = map; target < 3; ++target, rest /= 3) {
            program.descriptor(kFirst + target, kFirst + rest % 3);
            expected += "/memfd:" + std::to_string(rest % 3) + " (deleted)\n";
        }
        EXPECT_EQ(output_of(program), expected) << "map " << map;
    }
    for (const UniqueFd& source : sources)
        EXPECT_EQ(fcntl(source.get(), F_GETFD), FD_CLOEXEC) << "changed in the parent";
}

// A target takes whatever number the error pipe gets. The failure must still come back, and the targets must be right.
TEST(ProgramTest, TargetsMayTakeTheNumbersOfTheErrorPipe) {
    const UniqueFd text{fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100)};
    const ScopedDescriptor in{0, text.get()};  // the tests may run without a standard input
    Program missing({"no-such-program-anywhere"});
    Program lists({"ls", "/proc/self/fd"});
    std::set<std::string> expected{"0", "1", "2"};
    for (int target = 3; target < 60; ++target) {
        missing.descriptor(target, text.get());
        lists.descriptor(target, text.get());
        expected.insert(std::to_string(target));
    }
    EXPECT_EQ(refusal_of(missing).describe(), "execve 'no-such-program-anywhere': No such file or directory");
    expected.insert("60");  // the directory that ls reads
    std::string lines;
    for (const std::string& number : expected) lines += number + "\n";
    EXPECT_EQ(output_of(lists.variable("LC_ALL", "C")), lines);
}

TEST(ProgramTest, ChildHasTheNamedDescriptorsAndNoOthers) {
    const UniqueFd inheritable{fcntl(STDOUT_FILENO, F_DUPFD, 20)};
    const UniqueFd high{fcntl(STDOUT_FILENO, F_DUPFD, 150)};
    ASSERT_TRUE(inheritable && high);
    const ScopedDescriptor in{0, inheritable.get()};
    // Descriptor 3 is the directory that ls reads.
    EXPECT_EQ(output_of(Program({"ls", "/proc/self/fd"})), "0\n1\n2\n3\n");
    EXPECT_EQ(output_of(Program({"ls", "/proc/self/fd"}).descriptor(7, high.get()).variable("LC_ALL", "C")),
              "0\n1\n2\n3\n7\n");
}

TEST(ProgramTest, ClosedSourceIsNamed) {
    int closed = -1;
    {
        const UniqueFd fd{fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 170)};
        closed = fd.get();
    }
    const Outcome moved = refusal_of(Program({"true"}).descriptor(5, closed));
    EXPECT_EQ(moved.code, EBADF);
    EXPECT_EQ(moved.text, "descriptor 5 from " + std::to_string(closed));
    EXPECT_EQ(refusal_of(Program({"true"}).descriptor(closed, closed)).code, EBADF);
}

// The error pipe and the pidfd then get the numbers 0 to 2 in the parent.
TEST(ProgramTest, ParentMayHaveClosedItsStandardDescriptors) {
    Pipe pipe = Pipe::open();
    Outcome refusal;
    bool ran = false;
    {
        const ScopedDescriptor in{0, -1};
        const ScopedDescriptor out{1, -1};
        const ScopedDescriptor err{2, -1};
        refusal = refusal_of(Program({"no-such-program-anywhere"}));
        const int write_end = pipe.write_end().get();
        auto started = Program({"sh", "-c", "echo to five >&5; ls /proc/self/fd >&5"}).descriptor(5, write_end).start();
        ran = std::get<Process>(started).wait().outcome.ok();
    }
    pipe.take_write_end().reset();
    EXPECT_EQ(refusal.code, ENOENT);
    EXPECT_TRUE(ran);
    EXPECT_EQ(read_all(pipe.read_end().get()).substr(0, 8), "to five\n");
}

TEST(ProgramTest, ChildHasDefaultSignalsAndAnEmptyMask) {
    const ScopedDisposition pipe_signal{SIGPIPE, SIG_IGN};
    const ScopedDisposition user_signal{SIGUSR1, SIG_IGN};
    const ScopedDisposition real_time{SIGRTMAX, SIG_IGN};
    const ScopedDisposition hang_up{SIGHUP, SIG_IGN};  // as nohup(1) leaves it
    const ScopedDisposition interrupt{SIGINT, SIG_DFL};
    const ScopedDisposition quit{SIGQUIT, SIG_DFL};
    const ScopedDisposition stop{SIGTSTP, SIG_DFL};
    const ScopedDisposition terminal_input{SIGTTIN, SIG_DFL};
    const ScopedDisposition terminal_output{SIGTTOU, SIG_DFL};
    const ScopedDisposition handled{SIGUSR2, [](int) {}};
    sigset_t blocked;
    sigset_t previous;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGRTMIN);
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &blocked, &previous), 0);
    const std::string text = output_of(Program({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}));
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, &previous, &after);
    EXPECT_EQ(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n");
    for (int number = 1; number <= SIGRTMAX; ++number) {
        EXPECT_EQ(sigismember(&after, number), sigismember(&blocked, number)) << "parent's mask, signal " << number;
    }
}

TEST(ProgramTest, NoDescriptorLeftIsEmfileAndLeavesNothing) {
    constexpr std::size_t kNeeded = 3;  // the error pipe, and its write end beside the targets or the pidfd
    for (std::size_t free = 0; free < kNeeded; ++free) {
        const std::size_t before = tests::descriptors();
        {
            const DescriptorLimit limit{free};
            EXPECT_EQ(error_of([] { static_cast<void>(Program({"true"}).start()); }), EMFILE) << free << " free";
        }
        EXPECT_EQ(tests::descriptors(), before);
        EXPECT_FALSE(has_children());
    }
    const DescriptorLimit limit{kNeeded};
    auto started = Program({"true"}).start();
    EXPECT_TRUE(std::get<Process>(started).wait().outcome.ok());
}

TEST(ProgramTest, RefusalLeavesNoProcessAndNoDescriptor) {
    const std::size_t before = tests::descriptors();
    refusal_of(Program({"no-such-program-anywhere"}));
    refusal_of(Program({"true"}).directory("/no/such/folder"));
    EXPECT_EQ(tests::descriptors(), before);
    EXPECT_FALSE(has_children());
}

TEST(ProgramTest, RefusalComesBackWhereChildrenAreReapedByTheKernel) {
    const ScopedDisposition reaped{SIGCHLD, SIG_IGN};
    EXPECT_EQ(refusal_of(Program({"no-such-program-anywhere"})).code, ENOENT);
}

TEST(ProgramTest, ProcessGroupIsThatOfTheChildBeforeStartReturns) {
    auto started = Program({"sleep", "30"}).process_group(0).start();
    const Process& leader = std::get<Process>(started);
    EXPECT_EQ(getpgid(leader.pid()), leader.pid());
    auto second = Program({"sleep", "30"}).process_group(leader.pid()).start();
    EXPECT_EQ(getpgid(std::get<Process>(second).pid()), leader.pid());
    const Outcome refusal = refusal_of(Program({"true"}).process_group(-1));
    EXPECT_EQ(refusal.describe(), "setpgid -1: Invalid argument");
}

TEST(ProgramTest, DiesWithTheThreadThatStartedIt) {
    Process child;
    std::thread([&] { child = std::get<Process>(Program({"sleep", "30"}).die_with_parent().start()); }).join();
    EXPECT_EQ(child.wait().outcome.describe(), "killed by SIGKILL");
}

TEST(ProgramTest, OutlivesTheThreadThatStartedItUnlessAsked) {
    Pipe pipe = Pipe::open();
    Process child;
    std::thread([&] {
        child = std::get<Process>(Program({"cat"}).descriptor(0, pipe.read_end().get()).start());
    }).join();
    pipe.take_write_end().reset();
    EXPECT_EQ(child.wait().outcome.describe(), "exit 0");
}

// This process is the subreaper, so that the orphan comes to it and shows how it ended.
TEST(ProgramTest, DiesWithTheProcessThatStartedIt) {
    const vmcow::sys::Subreaper subreaper;
    EXPECT_EQ(tests::in_child([] {
                  auto started = Program({"sleep", "30"}).die_with_parent().start();
                  _exit(std::holds_alternative<Process>(started) ? 0 : 1);  // without reaping it
                  return 1;
              }),
              tests::kChildExitedWell);
    int status = 0;
    EXPECT_GT(wait(&status), 0) << "no orphan";
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

// Exec keeps ru_maxrss, so that a child started in this process's memory would begin with this process's whole peak.
TEST(ProgramTest, PeakOfTheChildIsNotThatOfTheParentsSharedMemory) {
    constexpr std::size_t kBytes = std::size_t{256} << 20;
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto started = Program({"true"}).start();
    const auto record = std::get<Process>(started).wait();
    munmap(memory, kBytes);
    EXPECT_TRUE(record.outcome.ok());
    EXPECT_GT(record.max_resident_bytes, 0U);
    EXPECT_LT(record.max_resident_bytes, kBytes);
}

// A descriptor that one child got by mistake would keep another child's pipe open, and the reader of that pipe waiting.
TEST(ProgramTest, ThreadsStartProgramsAtTheSameTime) {
    constexpr int kThreads = 4;
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([thread] {
            for (int round = 0; round < 20; ++round) {
                const std::string word = std::to_string(thread) + "." + std::to_string(round);
                EXPECT_EQ(output_of(Program({"echo", word})), word + "\n");
                EXPECT_EQ(refusal_of(Program({"no-such-program-anywhere"})).code, ENOENT);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(has_children());
}

TEST(ProgramDeathTest, ProgramWithoutWordsIsABug) { EXPECT_DEATH(Program({}), "argv_.empty"); }

TEST(ProgramDeathTest, NegativeDescriptorIsABug) {
    EXPECT_DEATH(Program({"true"}).descriptor(1, UniqueFd{}.get()), "parent_fd >= 0");
}

}  // namespace
