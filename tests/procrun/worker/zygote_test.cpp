// Keeper, zygote and workers: how they are forked, how their ends are reported, and that none outlives the caller.
#include "procrun/worker/zygote_client.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pipes/message_socket.hpp"
#include "pipes/pipe.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/proc/thread_count.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace procrun;
using namespace procrun::detail;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using vmcow::sys::UniqueFd;

constexpr std::chrono::hours kLong{1};

/// A deadline for events that come at once.
Deadline patience() { return Deadline::in(std::chrono::seconds(30)); }

/// The descriptors that a worker starts with, and their other ends, which tell the worker that its caller is there.
struct Ends {
    Ends() {
        worker.call_memory = vmcow::sys::create_memfd("channel");
        vmcow::sys::resize_memfd(worker.call_memory.get(), kCallMemoryBytes, "channel");
        pipes::Pipe requests = pipes::Pipe::open();
        pipes::Pipe replies = pipes::Pipe::open();
        worker.request_pipe = requests.take_read_end();
        worker.reply_pipe = replies.take_write_end();
        request_pipe = requests.take_write_end();
        reply_pipe = replies.take_read_end();
        auto [ours, theirs] = pipes::MessageSocket::pair();
        socket = std::move(ours);
        worker.socket = theirs.take_fd();
    }

    WorkerEnds worker;
    UniqueFd request_pipe;
    UniqueFd reply_pipe;
    pipes::MessageSocket socket;
};

/// Whether a process ends in time. A process that is still there after 30 s shows a fault.
[[nodiscard]] bool has_ended(int pidfd) { return vmcow::sys::wait_for_end(pidfd, std::chrono::seconds{30}); }

UniqueFd pidfd_of(pid_t pid) { return vmcow::sys::try_open_pidfd(pid); }

/// Kills a process that is not a child of this one, and waits for its end.
void kill_other(pid_t pid) {
    const UniqueFd pidfd = pidfd_of(pid);
    ASSERT_TRUE(pidfd);
    ASSERT_EQ(vmcow::sys::try_signal_process(pid, SIGKILL), 0);
    ASSERT_TRUE(has_ended(pidfd.get()));
}

bool is_outcome(const Outcome& outcome, OutcomeKind kind, int code) {
    return outcome.kind == kind && outcome.code == code;
}

std::string name_of_process(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
    std::string name;
    std::getline(file, name);
    return name;
}

class ZygoteTest : public testing::Test {
protected:
    /// A worker that waits for calls.
    ZygoteClient::Forked fork() {
        ends_.push_back(std::make_unique<Ends>());
        return zygote_.fork_worker(ends_.back()->worker);
    }

    const WorkerConfig config_{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = nullptr};
    std::vector<std::unique_ptr<Ends>> ends_;
    ZygoteClient zygote_{config_};
};

TEST_F(ZygoteTest, KeeperAndZygoteAreThereAndSayWhatTheyAre) {
    EXPECT_NE(zygote_.keeper_pid(), zygote_.zygote_pid());
    const ZygoteClient::Forked worker = fork();
    EXPECT_EQ(name_of_process(zygote_.keeper_pid()), "vmcow-keeper");
    EXPECT_EQ(name_of_process(zygote_.zygote_pid()), "vmcow-zygote");
    EXPECT_GT(worker.pid, 0);
    EXPECT_NE(worker.pid, zygote_.zygote_pid());
}

TEST_F(ZygoteTest, WorkerThatWasKilledIsToldWithItsSignal) {
    for (const int number : {SIGKILL, SIGTERM, SIGINT, SIGUSR1}) {
        const ZygoteClient::Forked worker = fork();
        // The new worker may still ignore terminal signals, as its zygote does.
        while (vmcow::sys::try_signal_process(worker.pid, number) == 0) {
            pollfd ended{worker.pidfd.get(), POLLIN, 0};
            if (::poll(&ended, 1, 10) == 1) break;
        }
        ASSERT_TRUE(has_ended(worker.pidfd.get()));
        EXPECT_TRUE(is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::signaled, number)) << number;
    }
}

TEST_F(ZygoteTest, WorkerWhoseCallerIsGoneExitsWell) {
    const ZygoteClient::Forked worker = fork();
    ends_.clear();
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::exited, 0));
}

TEST_F(ZygoteTest, EndsAreToldWhateverTheOrderTheyAreAskedForIn) {
    std::vector<ZygoteClient::Forked> workers;
    for (int i = 0; i < 8; ++i) workers.push_back(fork());
    for (std::size_t i = 0; i < workers.size(); ++i) {
        if (i % 2 == 0) {
            vmcow::sys::signal_process(workers[i].pid, SIGKILL);
        } else {
            ends_[i].reset();
        }
    }
    for (const ZygoteClient::Forked& worker : workers) ASSERT_TRUE(has_ended(worker.pidfd.get()));
    for (std::size_t i = workers.size(); i-- > 0;) {
        const Outcome expected =
            i % 2 == 0 ? Outcome{OutcomeKind::signaled, SIGKILL, {}} : Outcome{OutcomeKind::exited, 0, {}};
        EXPECT_TRUE(is_outcome(zygote_.end_of(workers[i], patience()), expected.kind, expected.code)) << i;
    }
}

TEST_F(ZygoteTest, WorkersEndWithTheirZygote) {
    const ZygoteClient::Forked worker = fork();
    kill_other(zygote_.zygote_pid());
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::signaled, SIGKILL));
}

TEST_F(ZygoteTest, ZygoteThatWasKilledIsReplaced) {
    for (int round = 0; round < 3; ++round) {
        const pid_t before = zygote_.zygote_pid();
        kill_other(before);
        const ZygoteClient::Forked worker = fork();
        EXPECT_NE(zygote_.zygote_pid(), before);
        EXPECT_EQ(vmcow::sys::try_signal_process(worker.pid, 0), 0);
        vmcow::sys::signal_process(worker.pid, SIGTERM);
        ASSERT_TRUE(has_ended(worker.pidfd.get()));
        EXPECT_TRUE(is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::signaled, SIGTERM))
            << "the new one tells of its own";
    }
}

TEST_F(ZygoteTest, ZygoteThatWasKilledIsReplacedAlsoOnceThereAreThreads) {
    std::atomic<bool> done = false;
    std::thread other([&] {
        while (!done) std::this_thread::yield();
    });
    kill_other(zygote_.zygote_pid());
    EXPECT_GT(fork().pid, 0);
    done = true;
    other.join();
}

TEST_F(ZygoteTest, EndOfAWorkerOfAnEarlierZygoteIsNotWaitedFor) {
    const ZygoteClient::Forked old = fork();
    kill_other(zygote_.zygote_pid());
    ASSERT_TRUE(has_ended(old.pidfd.get()));
    const ZygoteClient::Forked next = fork();
    EXPECT_NE(next.zygote, old.zygote);
    EXPECT_TRUE(is_outcome(zygote_.end_of(old, patience()), OutcomeKind::signaled, SIGKILL));
    EXPECT_EQ(vmcow::sys::try_signal_process(next.pid, 0), 0);
}

TEST_F(ZygoteTest, WithoutAKeeperTheZygoteGoesOn) {
    kill_other(zygote_.keeper_pid());
    const pid_t before = zygote_.zygote_pid();
    EXPECT_GT(fork().pid, 0);
    EXPECT_EQ(zygote_.zygote_pid(), before);
}

TEST_F(ZygoteTest, WhenBothWereKilledBothAreReplaced) {
    const pid_t keeper = zygote_.keeper_pid();
    kill_other(keeper);
    kill_other(zygote_.zygote_pid());
    const ZygoteClient::Forked worker = fork();
    EXPECT_NE(zygote_.keeper_pid(), keeper);
    EXPECT_EQ(vmcow::sys::try_signal_process(worker.pid, 0), 0);
}

TEST_F(ZygoteTest, WhenBothWereKilledAndThereAreThreadsItIsEpermAndSaysWhatToDo) {
    kill_other(zygote_.keeper_pid());
    kill_other(zygote_.zygote_pid());
    {
        std::atomic<bool> done = false;
        std::thread other([&] {
            while (!done) std::this_thread::yield();
        });
        const Ends ends;
        EXPECT_EQ(error_of([&] { static_cast<void>(zygote_.fork_worker(ends.worker)); }), EPERM);
        const std::string message = tests::message_of([&] { static_cast<void>(zygote_.fork_worker(ends.worker)); });
        EXPECT_NE(message.find("make the pool before the first thread"), std::string::npos) << message;
        done = true;
        other.join();
    }
    // A joined thread stays listed in /proc for a moment.
    while (vmcow::sys::count_running_threads() > 1) std::this_thread::yield();
    EXPECT_GT(fork().pid, 0) << "alone again, it can be done";
}

TEST_F(ZygoteTest, NoDescriptorLeftIsEmfileAndTheNextForkSucceeds) {
    const Ends ends;
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(error_of([&] { static_cast<void>(zygote_.fork_worker(ends.worker)); }), EMFILE);
    }
    const ZygoteClient::Forked worker = fork();
    vmcow::sys::signal_process(worker.pid, SIGKILL);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::signaled, SIGKILL));
}

TEST_F(ZygoteTest, ManyThreadsForkAndEndWorkersAtOnce) {
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (int round = 0; round < 10; ++round) {
                const Ends ends;
                const ZygoteClient::Forked worker = zygote_.fork_worker(ends.worker);
                const int number = (i + round) % 2 == 0 ? SIGKILL : SIGTERM;
                vmcow::sys::signal_process(worker.pid, number);
                if (!has_ended(worker.pidfd.get())) ++wrong;
                if (!is_outcome(zygote_.end_of(worker, patience()), OutcomeKind::signaled, number)) ++wrong;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
}

// ---- its life

TEST(ZygoteLifeTest, NothingIsLeftOfItsProcesses) {
    std::vector<UniqueFd> pidfds;
    {
        const WorkerConfig config{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = nullptr};
        ZygoteClient zygote(config);
        const Ends ends;
        const ZygoteClient::Forked worker = zygote.fork_worker(ends.worker);
        for (const pid_t pid : {zygote.keeper_pid(), zygote.zygote_pid(), worker.pid}) pidfds.push_back(pidfd_of(pid));
    }
    for (const UniqueFd& pidfd : pidfds) EXPECT_TRUE(has_ended(pidfd.get()));
}

// The caller may be killed at any moment. The sockets then close, and no process may stay behind.
TEST(ZygoteLifeTest, NothingIsLeftWhenTheCallerIsKilled) {
    pipes::Pipe pids = pipes::Pipe::open();
    const pid_t caller = ::fork();
    if (caller == 0) {
        const WorkerConfig config{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = nullptr};
        ZygoteClient zygote(config);
        const Ends ends;
        const ZygoteClient::Forked worker = zygote.fork_worker(ends.worker);
        const std::array<pid_t, 3> all{zygote.keeper_pid(), zygote.zygote_pid(), worker.pid};
        static_cast<void>(::write(pids.write_end().get(), all.data(), sizeof(all)));
        for (;;) ::pause();
    }
    std::array<pid_t, 3> all{};
    ASSERT_EQ(::read(pids.read_end().get(), all.data(), sizeof(all)), static_cast<ssize_t>(sizeof(all)));
    std::vector<UniqueFd> pidfds;
    for (const pid_t pid : all) pidfds.push_back(pidfd_of(pid));
    ASSERT_EQ(vmcow::sys::try_signal_process(caller, SIGKILL), 0);
    ASSERT_EQ(::waitpid(caller, nullptr, 0), caller);
    for (const UniqueFd& pidfd : pidfds) EXPECT_TRUE(has_ended(pidfd.get()));
}

void exit_when_idle(CallStep step) {
    if (step == CallStep::idle) ::_exit(7);
}

TEST(ZygoteLifeTest, WorkerThatExitsIsToldWithItsStatus) {
    const WorkerConfig config{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = exit_when_idle};
    ZygoteClient zygote(config);
    const Ends ends;
    const ZygoteClient::Forked worker = zygote.fork_worker(ends.worker);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker, patience()), OutcomeKind::exited, 7));
}

/// The descriptor to which a worker writes the pid of the process that it leaves behind.
int left_behind_says = -1;

void leave_a_process_behind(CallStep step) {
    if (step != CallStep::idle) return;
    const pid_t left = ::fork();
    if (left == 0) {
        for (;;) ::pause();
    }
    static_cast<void>(::write(left_behind_says, &left, sizeof(left)));
    ::_exit(7);
}

// A process that a function has forked ends with the worker, while the pool lives on.
TEST(ZygoteLifeTest, WhatAWorkerHasForkedEndsWithIt) {
    pipes::Pipe pids = pipes::Pipe::open();
    left_behind_says = pids.write_end().get();
    const WorkerConfig config{
        .idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = leave_a_process_behind};
    ZygoteClient zygote(config);
    const Ends ends;
    const ZygoteClient::Forked worker = zygote.fork_worker(ends.worker);
    pid_t left = -1;
    ASSERT_EQ(::read(pids.read_end().get(), &left, sizeof(left)), static_cast<ssize_t>(sizeof(left)));
    const UniqueFd pidfd = pidfd_of(left);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker, patience()), OutcomeKind::exited, 7));
    EXPECT_TRUE(!pidfd || has_ended(pidfd.get())) << "no descriptor: it has ended already";
}

TEST(ZygoteLifeTest, WorkerThatIsIdleForLongEnoughRetires) {
    const WorkerConfig config{
        .idle_time = std::chrono::milliseconds(1), .resident_budget = {1}, .costs = {}, .at_step = nullptr};
    ZygoteClient zygote(config);
    const Ends ends;
    const ZygoteClient::Forked worker = zygote.fork_worker(ends.worker);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker, patience()), OutcomeKind::exited, 0));
    std::atomic<WorkerState> state;
    ASSERT_EQ(::pread(ends.worker.call_memory.get(), &state, sizeof(state), offsetof(CallMemory, state)),
              static_cast<ssize_t>(sizeof(state)));
    EXPECT_EQ(state, WorkerState::retired) << "so that nobody gives it a call any more";
}

TEST(ZygoteLifeTest, FromAProcessWithThreadsItIsEpermAndSaysWhatToDo) {
    std::atomic<bool> done = false;
    std::thread other([&] {
        while (!done) std::this_thread::yield();
    });
    EXPECT_EQ(vmcow::sys::count_running_threads(), 2U);
    const WorkerConfig config;
    EXPECT_EQ(error_of([&] { const ZygoteClient zygote(config); }), EPERM);
    const std::string message = tests::message_of([&] { const ZygoteClient zygote(config); });
    EXPECT_NE(message.find("2 threads"), std::string::npos) << message;
    EXPECT_NE(message.find("make the pool before the first thread"), std::string::npos) << message;
    done = true;
    other.join();
}

TEST(ZygoteLifeTest, SigchldThatIsIgnoredIsEchild) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGCHLD, SIG_IGN);
                  const WorkerConfig config;
                  return error_of([&] { const ZygoteClient zygote(config); }) == ECHILD ? 0 : 1;
              }),
              kChildExitedWell);
}

// However few descriptors there are, either all processes are there or nothing is left; the leak guard checks that.
TEST(ZygoteLifeTest, DescriptorsAreExhaustedAtAnyStepAndNothingIsLeftBehind) {
    const WorkerConfig config;
    std::size_t free = 0;
    for (; free < 32; ++free) {
        const DescriptorLimit limit(free);
        const int error = error_of([&] { const ZygoteClient zygote(config); });
        if (error == 0) break;
        EXPECT_EQ(error, EMFILE) << free;
    }
    EXPECT_LT(free, 32U);
    EXPECT_GE(free, 4U) << "two sockets and two pidfds stay open";
}

}  // namespace
