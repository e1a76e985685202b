// Launcher under failures: a launcher or a caller that is killed, forked callers, the fork lock, and answers that
// cannot be sent.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/launcher.hpp"
#include "procrun/program.hpp"
#include "tests/procrun/launcher/launchers.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using pipes::Pipe;
using procrun::Launcher;
using procrun::Process;
using procrun::Program;
using tests::error_of;
using tests::output_of;
using tests::refusal_of;
using vmcow::sys::UniqueFd;

constexpr std::chrono::milliseconds kPatience{60'000};

bool ends_in_time(int pidfd) { return vmcow::sys::wait_for_end(pidfd, kPatience); }

/// Whether every copy of the write end is closed within kPatience. Takes one byte at most, and expects end of file.
bool is_let_go(const UniqueFd& read_end) {
    pollfd entry{.fd = read_end.get(), .events = POLLIN, .revents = 0};
    char byte = 0;
    return poll(&entry, 1, static_cast<int>(kPatience.count())) == 1 && read(read_end.get(), &byte, 1) == 0;
}

/// Sends SIGKILL and waits until the launcher is a zombie.
void kill_launcher(const Launcher& launcher) {
    const pid_t pid = launcher.pid();
    ASSERT_EQ(vmcow::sys::try_signal_process(pid, SIGKILL), 0);
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
}

TEST(LauncherSurvivalTest, KilledLauncherIsReplaced) {
    Launcher launcher;
    const pid_t before = launcher.pid();
    kill_launcher(launcher);
    EXPECT_EQ(output_of(launcher, "echo again"), "again\n");
    EXPECT_NE(launcher.pid(), before);
}

// Each start succeeds or throws EPIPE, whenever SIGKILL comes, and none waits for ever.
TEST(LauncherSurvivalTest, LauncherKilledAtAnyMomentIsAnErrorOrNothing) {
    {
        Launcher launcher;
        for (int round = 0; round < 30; ++round) {
            std::thread killer([victim = launcher.pid()] { vmcow::sys::signal_process(victim, SIGKILL); });
            const int error = error_of([&] { static_cast<void>(Program({"true"}).start(launcher)); });
            EXPECT_TRUE(error == 0 || error == EPIPE) << error;
            killer.join();
        }
        EXPECT_EQ(output_of(launcher, "echo again"), "again\n");
    }
    // Programs that a launcher started and was killed before it could report them. Nothing else reaps them.
    while (wait(nullptr) > 0) {
    }
}

TEST(LauncherSurvivalTest, ThreadsStartProgramsAtTheSameTime) {
    constexpr int kThreads = 8;
    Launcher launcher;
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([thread, &launcher] {
            for (int round = 0; round < 10; ++round) {
                const std::string word = std::to_string(thread) + "." + std::to_string(round);
                EXPECT_EQ(output_of(launcher, Program({"echo", word})), word + "\n");
                EXPECT_NE(refusal_of(launcher, Program({"no-such-program"})), "started");
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

TEST(LauncherSurvivalTest, ForkedCallerGetsALauncherOfItsOwn) {
    auto launcher = std::make_unique<Launcher>();
    const pid_t before = launcher->pid();
    EXPECT_EQ(tests::in_child([&] {
                  if (output_of(*launcher, "echo $PPID") != std::to_string(getpid()) + "\n") return 1;
                  if (launcher->pid() == before) return 2;
                  launcher.reset();
                  return wait(nullptr) == -1 ? 0 : 3;
              }),
              tests::kChildExitedWell);
    EXPECT_EQ(output_of(*launcher, "echo $PPID"), std::to_string(getpid()) + "\n");
    EXPECT_EQ(launcher->pid(), before);
}

// The child never used the launcher, and its destructor in the child must not end it.
TEST(LauncherSurvivalTest, ForkedCallerEndsNoLauncherOfItsParent) {
    auto launcher = std::make_unique<Launcher>();
    const pid_t before = launcher->pid();
    EXPECT_EQ(tests::in_child([&] {
                  launcher.reset();
                  return 0;
              }),
              tests::kChildExitedWell);
    EXPECT_EQ(output_of(*launcher, "echo here"), "here\n");
    EXPECT_EQ(launcher->pid(), before);
}

TEST(LauncherSurvivalTest, ProgramsOutliveTheirLauncher) {
    Pipe pipe = Pipe::open();
    Process cat;
    {
        Launcher launcher;
        cat = std::get<Process>(Program({"cat"}).descriptor(0, pipe.read_end().get()).start(launcher));
    }
    pipe.take_write_end().reset();
    EXPECT_EQ(cat.wait().outcome.describe(), "exit 0");
}

/// A process that starts programs and is killed. Its programs hold the write end of a pipe.
class KilledCaller {
public:
    template <class Body>
    explicit KilledCaller(Body&& body) : alive_(Pipe::open()), ready_(Pipe::open()) {
        pid_ = fork();
        if (pid_ == 0) {
            body(alive_.write_end().get());
            static_cast<void>(write(ready_.write_end().get(), "", 1));
            for (;;) pause();
        }
        alive_.take_write_end().reset();
        ready_.take_write_end().reset();
        char byte = 0;
        was_ready_ = read(ready_.read_end().get(), &byte, 1) == 1;
    }
    KilledCaller(const KilledCaller&) = delete;
    KilledCaller& operator=(const KilledCaller&) = delete;
    ~KilledCaller() { kill_it(); }

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] bool was_ready() const { return was_ready_; }
    void kill_it() {
        if (pid_ <= 0) return;
        vmcow::sys::signal_process(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    [[nodiscard]] bool programs_are_gone() const { return is_let_go(alive_.read_end()); }

private:
    Pipe alive_;
    Pipe ready_;
    pid_t pid_ = -1;
    bool was_ready_ = false;
};

const std::vector<std::string> kTwoProcesses{"sh", "-c", "sleep 300 & echo >&6; sleep 300"};

// Starts a group of two processes, and returns when both run.
Process start_group(Launcher& launcher, int alive) {
    const Pipe told = Pipe::open();
    auto started = Program(kTwoProcesses)
                       .descriptor(5, alive)
                       .descriptor(6, told.write_end().get())
                       .process_group(0)
                       .die_with_parent()
                       .start(launcher);
    char byte = 0;
    static_cast<void>(read(told.read_end().get(), &byte, 1));
    return std::get<Process>(std::move(started));
}

// The kernel's parent-death signal reaches the leaders alone; the launcher has to end the rest of each group.
TEST(LauncherSurvivalTest, NothingIsLeftOfProgramsWhoseCallerWasKilled) {
    KilledCaller caller([](int alive) {
        auto* const launcher = new Launcher;
        for (int i = 0; i < 5; ++i) new Process(start_group(*launcher, alive));
    });
    ASSERT_TRUE(caller.was_ready());
    caller.kill_it();
    EXPECT_TRUE(caller.programs_are_gone());
}

// The leader has ended and is not reaped, so that its group still exists.
TEST(LauncherSurvivalTest, GroupOfALeaderThatHasEndedGoesToo) {
    KilledCaller caller([](int alive) {
        auto* const launcher = new Launcher;
        auto started = Program({"sh", "-c", "sleep 300 &"})
                           .descriptor(5, alive)
                           .process_group(0)
                           .die_with_parent()
                           .start(*launcher);
        auto* const leader = new Process(std::get<Process>(std::move(started)));
        static_cast<void>(leader->wait_ended(procrun::Deadline::never()));
    });
    ASSERT_TRUE(caller.was_ready());
    caller.kill_it();
    EXPECT_TRUE(caller.programs_are_gone());
}

// SIGKILL goes to the caller's whole group; the launcher must not be in that group.
TEST(LauncherSurvivalTest, KillingTheGroupOfTheCallerLeavesNothingEither) {
    KilledCaller caller([](int alive) {
        setpgid(0, 0);
        auto* const launcher = new Launcher;
        new Process(start_group(*launcher, alive));
    });
    ASSERT_TRUE(caller.was_ready());
    vmcow::sys::signal_group(caller.pid(), SIGKILL);
    EXPECT_TRUE(caller.programs_are_gone());
}

TEST(LauncherSurvivalTest, KernelEndsTheProgramsWhenLauncherAndCallerWereKilled) {
    KilledCaller caller([](int alive) {
        auto* const launcher = new Launcher;
        new Process(
            std::get<Process>(Program({"sleep", "300"}).descriptor(5, alive).die_with_parent().start(*launcher)));
        vmcow::sys::signal_process(launcher->pid(), SIGKILL);
    });
    ASSERT_TRUE(caller.was_ready());
    caller.kill_it();
    EXPECT_TRUE(caller.programs_are_gone());
}

// The caller is the process: neither the thread that started the program nor the one that started the launcher counts.
TEST(LauncherSurvivalTest, ThreadsThatStartedProgramAndLauncherMayEnd) {
    for (const bool of_thread : {false, true}) {
        auto launcher = of_thread ? nullptr : std::make_unique<Launcher>();
        Pipe pipe = Pipe::open();
        Process cat;
        std::thread([&] {
            if (!launcher) launcher = std::make_unique<Launcher>();
            Program program({"cat"});
            cat = std::get<Process>(program.descriptor(0, pipe.read_end().get()).die_with_parent().start(*launcher));
        }).join();
        pipe.take_write_end().reset();
        EXPECT_EQ(cat.wait().outcome.describe(), "exit 0");
    }
}

TEST(LauncherSurvivalTest, LauncherEndsWithItsCaller) {
    const Pipe pipe = Pipe::open();
    UniqueFd pidfd;
    {
        KilledCaller caller([&pipe](int) {
            auto* const launcher = new Launcher;
            const pid_t pid = launcher->pid();
            static_cast<void>(write(pipe.write_end().get(), &pid, sizeof pid));
        });
        pid_t pid = -1;
        ASSERT_EQ(read(pipe.read_end().get(), &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
        pidfd = vmcow::sys::try_open_pidfd(pid);
        ASSERT_TRUE(pidfd);
    }
    EXPECT_TRUE(ends_in_time(pidfd.get()));
}

// A shared launcher that watches nothing is reaped before its process exits; otherwise it would become an orphan here.
TEST(LauncherSurvivalTest, SharedLauncherIsOneAndIsReapedAtExit) {
    const vmcow::sys::Subreaper subreaper;
    const pid_t pid = fork();
    if (pid == 0) {
        Launcher& launcher = Launcher::shared();
        const bool good = &launcher == &Launcher::shared() && output_of(launcher, "echo one") == "one\n";
        std::exit(good ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(wait(&status), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(wait(nullptr), -1) << "an orphan";
}

TEST(LauncherSurvivalTest, TwoThousandStartsLeaveDescriptorsAndProcessesAsTheyWere) {
    Launcher launcher;
    const auto start_some = [&launcher](int count) {
        for (int i = 0; i < count; ++i) {
            Program program({i % 10 == 9 ? "no-such-program" : "true"});
            if (i % 2 == 0) program.die_with_parent();
            auto started = program.start(launcher);
            if (auto* process = std::get_if<Process>(&started)) {
                EXPECT_TRUE(process->wait().outcome.ok());
            }
        }
    };
    start_some(2);  // the launcher forgets reaped programs at the next start
    const std::size_t ours = tests::descriptors(getpid());
    const std::size_t its = tests::descriptors(launcher.pid());
    start_some(2000);
    EXPECT_EQ(tests::descriptors(getpid()), ours);
    // The launcher may still be closing the descriptors of the last program.
    EXPECT_TRUE(tests::eventually([&] { return tests::descriptors(launcher.pid()) <= its + 1; }))
        << tests::descriptors(launcher.pid()) << " descriptors after " << its;
    siginfo_t info{};
    EXPECT_EQ(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    EXPECT_EQ(info.si_pid, 0) << "a zombie";
}

// ---- the fork lock, which a pipeline with functions holds while it starts programs

constexpr unsigned kPatienceS = 60;

/// A thread that is seen asleep when it waits for the fork lock.
class WaitingThread {
public:
    explicit WaitingThread(std::function<void()> body)
        : thread_([this, body = std::move(body)] {
              number_ = gettid();
              body();
          }) {}
    WaitingThread(const WaitingThread&) = delete;
    WaitingThread& operator=(const WaitingThread&) = delete;
    ~WaitingThread() { thread_.join(); }

    [[nodiscard]] bool is_asleep() const {
        return tests::eventually([this] {
            const auto stat = vmcow::sys::try_read_stat_in("/proc/self/task/" + std::to_string(number_));
            return stat && stat->state == 'S';
        });
    }

private:
    std::atomic<pid_t> number_{0};
    std::thread thread_;
};

// A thread that held the launcher's mutex while it waited for the fork lock would block the pipeline, and itself, for
// ever.
TEST(LauncherSurvivalTest, ReplacingALauncherWaitsForTheForkLockAndLocksNobodyOut) {
    Launcher launcher;
    kill_launcher(launcher);
    std::string output;
    std::unique_lock lock(vmcow::fork_lock());
    {
        const WaitingThread starter([&] { output = output_of(launcher, "echo again"); });
        EXPECT_TRUE(starter.is_asleep());
        auto asked = std::async(std::launch::async, [&] { return launcher.kind(); });
        EXPECT_EQ(asked.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        lock.unlock();
    }
    EXPECT_EQ(output, "again\n");
}

TEST(LauncherSurvivalTest, MakingTheSharedLauncherWaitsForTheForkLockAndLocksNobodyOut) {
    EXPECT_EQ(tests::in_child([] {
                  alarm(kPatienceS);
                  std::unique_lock lock(vmcow::fork_lock());
                  const WaitingThread first([] { static_cast<void>(Launcher::shared()); });
                  const bool waits = first.is_asleep();
                  const pid_t pid = Launcher::shared().pid();
                  lock.unlock();
                  return waits && pid > 0 ? 0 : 1;
              }),
              tests::kChildExitedWell);
}

// ---- an answer that the launcher cannot send

constexpr int kLauncherSocket = 3;

/// Opens a file as descriptor 3, so that a filter on the number of the launcher's socket hits no socket of this
/// process.
UniqueFd occupy_launcher_socket() {
    UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (file.get() == kLauncherSocket) return file;
    return UniqueFd(dup3(file.get(), kLauncherSocket, O_CLOEXEC));
}

TEST(LauncherSurvivalTest, AnswerThatCannotBeSentIsAnErrorAndNoWaitAndNoProgramGoesOn) {
    EXPECT_EQ(tests::in_child([] {
                  const UniqueFd third = occupy_launcher_socket();
                  alarm(kPatienceS);
                  if (!tests::forbid_call(SYS_sendmsg, ENOBUFS, tests::CallArgument{0, kLauncherSocket})) return 1;
                  Launcher launcher;
                  if (launcher.kind() != procrun::LauncherKind::small_process) return 2;
                  Pipe pipe = Pipe::open();
                  const int error = error_of([&] {
                      auto program = Program({"sleep", "1000"}).descriptor(STDOUT_FILENO, pipe.write_end().get());
                      static_cast<void>(program.start(launcher));
                  });
                  pipe.take_write_end().reset();
                  if (error != EPIPE) return 3;
                  return is_let_go(pipe.read_end()) ? 0 : 4;
              }),
              tests::kChildExitedWell);
}

TEST(LauncherSurvivalTest, RefusalThatCannotBeSentIsAnErrorAndNoWait) {
    EXPECT_EQ(
        tests::in_child([] {
            const UniqueFd third = occupy_launcher_socket();
            alarm(kPatienceS);
            if (!tests::forbid_call(SYS_sendmsg, ENOBUFS, tests::CallArgument{0, kLauncherSocket})) return 1;
            Launcher launcher;
            return error_of([&] { static_cast<void>(Program({"no-such-program"}).start(launcher)); }) == EPIPE ? 0 : 2;
        }),
        tests::kChildExitedWell);
}

}  // namespace
