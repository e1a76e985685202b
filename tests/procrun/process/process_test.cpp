// Process: how a child's end is waited for, reaped and reported, and who owns the child after a move.
#include "procrun/process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace {

using procrun::Deadline;
using procrun::ExitRecord;
using procrun::OutcomeKind;
using procrun::Process;
using tests::error_of;
using vmcow::sys::UniqueFd;

const Deadline kPassed = Deadline::at(Deadline::Clock::time_point::min());

Process fork_child(const std::function<int()>& body) {
    const pid_t pid = fork();
    if (pid == 0) _exit(body());
    return Process{pid, vmcow::sys::try_open_pidfd(pid)};
}

Process sleeper() {
    return fork_child([] {
        for (;;) pause();
        return 0;
    });
}

// Whether `pid` is a child of this process; a zombie is one too.
bool is_child(pid_t pid) {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

TEST(ProcessTest, ExitStatusComesBack) {
    const ExitRecord record = fork_child([] { return 41; }).wait();
    EXPECT_EQ(record.outcome.kind, OutcomeKind::exited);
    EXPECT_EQ(record.outcome.code, 41);
    EXPECT_FALSE(record.outcome.ok());
}

TEST(ProcessTest, DeathBySignalComesBack) {
    for (const int number : {SIGTERM, SIGABRT, SIGKILL}) {  // with a core dump and without
        const ExitRecord record = fork_child([number] {
                                      static_cast<void>(std::signal(number, SIG_DFL));
                                      return raise(number);
                                  }).wait();
        EXPECT_EQ(record.outcome.kind, OutcomeKind::signaled);
        EXPECT_EQ(record.outcome.code, number);
    }
}

TEST(ProcessTest, RecordCountsWhatTheChildUsed) {
    constexpr std::size_t kPages = 4096;
    constexpr std::size_t kPageBytes = 4096;
    const ExitRecord record = fork_child([] {
                                  void* memory = mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                                  if (memory == MAP_FAILED) return 1;
                                  madvise(memory, kPages * kPageBytes, MADV_NOHUGEPAGE);
                                  for (std::size_t page = 0; page < kPages; ++page) {
                                      static_cast<volatile char*>(memory)[page * kPageBytes] = 1;
                                  }
                                  return 0;
                              }).wait();
    ASSERT_TRUE(record.outcome.ok());
    EXPECT_GE(record.minor_faults, kPages);
    EXPECT_GE(record.max_resident_bytes, kPages * kPageBytes);
    EXPECT_GT(record.user_seconds + record.system_seconds, 0);
}

TEST(ProcessTest, WaitIsOverWhenTheDeadlineHasPassedAndTheChildIsStillOwned) {
    Process process = sleeper();
    EXPECT_FALSE(process.wait_ended(kPassed));
    EXPECT_FALSE(process.wait_until(kPassed).has_value());
    EXPECT_FALSE(process.wait_until(Deadline::in(std::chrono::milliseconds{1})).has_value());
    EXPECT_TRUE(process);
    EXPECT_TRUE(is_child(process.pid()));
}

TEST(ProcessTest, WaitEndedDoesNotReap) {
    Process process = fork_child([] { return 5; });
    ASSERT_TRUE(process.wait_ended(Deadline::never()));
    ASSERT_TRUE(process.wait_ended(kPassed)) << "what has ended has ended, whatever the deadline";
    const std::string status = vmcow::sys::read_text_file("/proc/" + std::to_string(process.pid()) + "/status");
    EXPECT_NE(status.find("State:\tZ"), std::string::npos);
    const auto record = process.wait_until(kPassed);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->outcome.code, 5);
}

TEST(ProcessTest, PidfdBecomesReadableAtTheEnd) {
    Process process = sleeper();
    pollfd entry{.fd = process.pidfd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&entry, 1, 0), 0);
    ASSERT_TRUE(process.signal(SIGKILL));
    EXPECT_EQ(poll(&entry, 1, -1), 1);
    EXPECT_EQ(entry.revents, POLLIN);
}

TEST(ProcessTest, SignalArrives) {
    Process process = sleeper();
    EXPECT_TRUE(process.signal(SIGUSR1));
    EXPECT_EQ(process.wait().outcome.code, SIGUSR1);
}

TEST(ProcessTest, SignalToAnEndedProcessIsFalse) {
    Process process = fork_child([] { return 0; });
    ASSERT_TRUE(process.wait_ended(Deadline::never()));
    EXPECT_FALSE(process.signal(SIGTERM)) << "a zombie";
    EXPECT_TRUE(process.wait().outcome.ok());
    EXPECT_FALSE(process.signal(SIGTERM)) << "reaped";
}

TEST(ProcessTest, SignalThatDoesNotExistIsEinval) {
    Process process = sleeper();
    EXPECT_EQ(error_of([&] { process.signal(1000); }), EINVAL);
    EXPECT_TRUE(is_child(process.pid()));
}

TEST(ProcessTest, KillAndWaitEndsAProcessThatIgnoresTheRest) {
    Process process = [] {
        const vmcow::sys::BlockedSignals blocked;
        return sleeper();
    }();
    const ExitRecord record = process.kill_and_wait();
    EXPECT_EQ(record.outcome.kind, OutcomeKind::signaled);
    EXPECT_EQ(record.outcome.code, SIGKILL);
    EXPECT_FALSE(process);
    EXPECT_EQ(process.pid(), -1);
}

TEST(ProcessTest, KillAndWaitOfAnEndedProcessKeepsItsOwnOutcome) {
    Process process = fork_child([] { return 9; });
    ASSERT_TRUE(process.wait_ended(Deadline::never()));
    const ExitRecord record = process.kill_and_wait();
    EXPECT_EQ(record.outcome.kind, OutcomeKind::exited);
    EXPECT_EQ(record.outcome.code, 9);
}

TEST(ProcessTest, DestructorKillsAndReaps) {
    pid_t pid = -1;
    {
        const Process process = sleeper();
        pid = process.pid();
        ASSERT_TRUE(is_child(pid));
    }
    EXPECT_FALSE(is_child(pid));
}

TEST(ProcessTest, MoveEmptiesTheSource) {
    Process first = sleeper();
    const pid_t pid = first.pid();
    Process second = std::move(first);
    // NOLINTBEGIN(bugprone-use-after-move, clang-analyzer-cplusplus.Move): the test looks at the moved-from object.
    EXPECT_FALSE(first);
    EXPECT_EQ(first.pid(), -1);
    EXPECT_EQ(first.pidfd(), -1);
    EXPECT_FALSE(first.signal(1));
    // NOLINTEND(bugprone-use-after-move, clang-analyzer-cplusplus.Move)
    EXPECT_TRUE(second);
    EXPECT_EQ(second.pid(), pid);
    EXPECT_TRUE(is_child(pid));
}

TEST(ProcessTest, MoveAssignmentEndsTheChildThatWasThere) {
    Process kept = sleeper();
    Process replaced = sleeper();
    const pid_t kept_pid = kept.pid();
    const pid_t replaced_pid = replaced.pid();
    replaced = std::move(kept);
    EXPECT_FALSE(is_child(replaced_pid));
    EXPECT_TRUE(is_child(kept_pid));
    EXPECT_EQ(replaced.pid(), kept_pid);
}

TEST(ProcessTest, SelfMoveKeepsTheChild) {
    Process process = sleeper();
    Process& same = process;
    process = std::move(same);
    EXPECT_TRUE(process);
    EXPECT_TRUE(is_child(process.pid()));
}

// Where a SIGCHLD handler reaps every child, or SIGCHLD is ignored, the child has ended and its status is unknown.
TEST(ProcessTest, EndOfAChildThatSomeoneElseReapedIsUnknown) {
    Process process = fork_child([] { return 0; });
    ASSERT_EQ(waitpid(process.pid(), nullptr, 0), process.pid());
    const ExitRecord record = process.wait();
    EXPECT_EQ(record.outcome.kind, OutcomeKind::unknown);
    EXPECT_FALSE(record.outcome.ok());
    EXPECT_NE(record.outcome.describe().find("unknown"), std::string::npos);
    EXPECT_FALSE(process);
    Process killed = sleeper();
    const pid_t pid = killed.pid();
    ASSERT_EQ(vmcow::sys::try_signal_process(pid, SIGKILL), 0);
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
    EXPECT_EQ(killed.kill_and_wait().outcome.kind, OutcomeKind::unknown);
}

TEST(ProcessTest, CopyInAForkedProcessLeavesTheChildAlone) {
    Process process = sleeper();
    EXPECT_EQ(tests::in_child([&] {
                  if (process.signal(SIGTERM)) return 1;
                  if (error_of([&] { static_cast<void>(process.wait()); }) != ECHILD) return 2;
                  if (error_of([&] { static_cast<void>(process.kill_and_wait()); }) != ECHILD) return 3;
                  if (process.wait_ended(Deadline::in(std::chrono::milliseconds(1)))) return 4;
                  Process moved = std::move(process);
                  moved = Process();
                  return 0;
              }),
              tests::kChildExitedWell);
    EXPECT_FALSE(process.wait_ended(Deadline::in(std::chrono::milliseconds(50))));
    EXPECT_TRUE(is_child(process.pid()));
    EXPECT_EQ(process.kill_and_wait().outcome.code, SIGKILL);
}

TEST(ProcessTest, ClosedPidfdIsEbadf) {
    Process process = sleeper();
    // Makes a second owner of the child, by a descriptor number that is closed afterwards.
    UniqueFd second{fcntl(process.pidfd(), F_DUPFD_CLOEXEC, 1000)};
    ASSERT_TRUE(second);
    const int closed = second.get();
    second.reset();
    const Process wrong{process.pid(), UniqueFd{closed}};
    EXPECT_EQ(error_of([&] { static_cast<void>(wrong.wait_ended(Deadline::never())); }), EBADF);
}

std::atomic<int> interruptions = 0;

// A handler without SA_RESTART ends ppoll and waitid with EINTR, again and again.
TEST(ProcessTest, WaitGoesOnAfterASignalHandler) {
    struct sigaction action {};
    struct sigaction previous {};
    action.sa_handler = [](int) { ++interruptions; };
    ASSERT_EQ(sigaction(SIGUSR1, &action, &previous), 0);
    Process process = sleeper();
    const pthread_t waiter = pthread_self();
    const int pidfd = process.pidfd();
    std::thread disturber([waiter, pidfd] {
        for (const int wanted : {1, 2, 3, 4, 5}) {
            pthread_kill(waiter, SIGUSR1);
            while (interruptions < wanted) std::this_thread::yield();
        }
        vmcow::sys::send_signal(pidfd, SIGTERM);
    });
    const ExitRecord record = process.wait();
    disturber.join();
    sigaction(SIGUSR1, &previous, nullptr);
    EXPECT_EQ(interruptions, 5);
    EXPECT_EQ(record.outcome.code, SIGTERM);
}

}  // namespace
