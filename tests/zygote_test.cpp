#include "procrun/zygote.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
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
#include "procrun/call_protocol.hpp"
#include "tests/descriptor_limit.hpp"
#include "tests/support.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using namespace procrun;
using namespace procrun::detail;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using vmcow::sys::UniqueFd;

constexpr std::chrono::hours kLong{1};

/// What a worker is born with, and the other ends, by which it notices that its caller is there.
struct Ends {
    Ends() {
        worker.channel = vmcow::sys::create_memfd("channel");
        vmcow::sys::resize_memfd(worker.channel.get(), kChannelBytes, "channel");
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

/// Nobody ends by itself unless a test is wrong; then this is its limit.
[[nodiscard]] bool has_ended(int pidfd) {
    pollfd ended{pidfd, POLLIN, 0};
    return ::poll(&ended, 1, 30'000) == 1;
}

UniqueFd pidfd_of(pid_t pid) { return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

/// Kills a process that is not this one's child, and waits for its end.
void kill_other(pid_t pid) {
    const UniqueFd pidfd = pidfd_of(pid);
    ASSERT_TRUE(pidfd);
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
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
    Zygote::Forked fork() {
        ends_.push_back(std::make_unique<Ends>());
        return zygote_.fork_worker(ends_.back()->worker);
    }

    const WorkerConfig config_{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = nullptr};
    std::vector<std::unique_ptr<Ends>> ends_;
    Zygote zygote_{config_};
};

TEST_F(ZygoteTest, KeeperAndZygoteAreThereAndSayWhatTheyAre) {
    EXPECT_NE(zygote_.keeper_pid(), zygote_.zygote_pid());
    const Zygote::Forked worker = fork();
    EXPECT_EQ(name_of_process(zygote_.keeper_pid()), "vmcow-keeper");
    EXPECT_EQ(name_of_process(zygote_.zygote_pid()), "vmcow-zygote");
    EXPECT_GT(worker.pid, 0);
    EXPECT_NE(worker.pid, zygote_.zygote_pid());
}

TEST_F(ZygoteTest, WorkerThatWasKilledIsToldWithItsSignal) {
    for (const int number : {SIGKILL, SIGTERM, SIGINT, SIGUSR1}) {
        const Zygote::Forked worker = fork();
        // It may still ignore, as its zygote does, what a terminal sends.
        while (::kill(worker.pid, number) == 0) {
            pollfd ended{worker.pidfd.get(), POLLIN, 0};
            if (::poll(&ended, 1, 10) == 1) break;
        }
        ASSERT_TRUE(has_ended(worker.pidfd.get()));
        EXPECT_TRUE(is_outcome(zygote_.end_of(worker), OutcomeKind::signaled, number)) << number;
    }
}

TEST_F(ZygoteTest, WorkerWhoseCallerIsGoneExitsWell) {
    const Zygote::Forked worker = fork();
    ends_.clear();
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker), OutcomeKind::exited, 0));
}

TEST_F(ZygoteTest, EndsAreToldWhateverTheOrderTheyAreAskedForIn) {
    std::vector<Zygote::Forked> workers;
    for (int i = 0; i < 8; ++i) workers.push_back(fork());
    for (std::size_t i = 0; i < workers.size(); ++i) {
        if (i % 2 == 0) {
            ::kill(workers[i].pid, SIGKILL);
        } else {
            ends_[i].reset();
        }
    }
    for (const Zygote::Forked& worker : workers) ASSERT_TRUE(has_ended(worker.pidfd.get()));
    for (std::size_t i = workers.size(); i-- > 0;) {
        const Outcome expected =
            i % 2 == 0 ? Outcome{OutcomeKind::signaled, SIGKILL, {}} : Outcome{OutcomeKind::exited, 0, {}};
        EXPECT_TRUE(is_outcome(zygote_.end_of(workers[i]), expected.kind, expected.code)) << i;
    }
}

TEST_F(ZygoteTest, WorkersEndWithTheirZygote) {
    const Zygote::Forked worker = fork();
    kill_other(zygote_.zygote_pid());
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker), OutcomeKind::signaled, SIGKILL));
}

TEST_F(ZygoteTest, ZygoteThatWasKilledIsReplaced) {
    for (int round = 0; round < 3; ++round) {
        const pid_t before = zygote_.zygote_pid();
        kill_other(before);
        const Zygote::Forked worker = fork();
        EXPECT_NE(zygote_.zygote_pid(), before);
        EXPECT_EQ(::kill(worker.pid, 0), 0);
        ::kill(worker.pid, SIGTERM);
        ASSERT_TRUE(has_ended(worker.pidfd.get()));
        EXPECT_TRUE(is_outcome(zygote_.end_of(worker), OutcomeKind::signaled, SIGTERM))
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
    const Zygote::Forked old = fork();
    kill_other(zygote_.zygote_pid());
    ASSERT_TRUE(has_ended(old.pidfd.get()));
    const Zygote::Forked next = fork();
    EXPECT_NE(next.zygote, old.zygote);
    EXPECT_TRUE(is_outcome(zygote_.end_of(old), OutcomeKind::signaled, SIGKILL));
    EXPECT_EQ(::kill(next.pid, 0), 0);
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
    const Zygote::Forked worker = fork();
    EXPECT_NE(zygote_.keeper_pid(), keeper);
    EXPECT_EQ(::kill(worker.pid, 0), 0);
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
    // A thread that was joined stays listed for a moment.
    while (own_thread_count() > 1) std::this_thread::yield();
    EXPECT_GT(fork().pid, 0) << "alone again, it can be done";
}

TEST_F(ZygoteTest, NoDescriptorLeftIsEmfileAndTheNextForkSucceeds) {
    const Ends ends;
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(error_of([&] { static_cast<void>(zygote_.fork_worker(ends.worker)); }), EMFILE);
    }
    const Zygote::Forked worker = fork();
    ::kill(worker.pid, SIGKILL);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote_.end_of(worker), OutcomeKind::signaled, SIGKILL));
}

TEST_F(ZygoteTest, ManyThreadsForkAndEndWorkersAtOnce) {
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (int round = 0; round < 10; ++round) {
                const Ends ends;
                const Zygote::Forked worker = zygote_.fork_worker(ends.worker);
                const int number = (i + round) % 2 == 0 ? SIGKILL : SIGTERM;
                ::kill(worker.pid, number);
                if (!has_ended(worker.pidfd.get())) ++wrong;
                if (!is_outcome(zygote_.end_of(worker), OutcomeKind::signaled, number)) ++wrong;
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
        Zygote zygote(config);
        const Ends ends;
        const Zygote::Forked worker = zygote.fork_worker(ends.worker);
        for (const pid_t pid : {zygote.keeper_pid(), zygote.zygote_pid(), worker.pid}) pidfds.push_back(pidfd_of(pid));
    }
    for (const UniqueFd& pidfd : pidfds) EXPECT_TRUE(has_ended(pidfd.get()));
}

// The caller itself may be killed at any moment: the sockets say so, and no process stays behind.
TEST(ZygoteLifeTest, NothingIsLeftWhenTheCallerIsKilled) {
    pipes::Pipe pids = pipes::Pipe::open();
    const pid_t caller = ::fork();
    if (caller == 0) {
        const WorkerConfig config{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = nullptr};
        Zygote zygote(config);
        const Ends ends;
        const Zygote::Forked worker = zygote.fork_worker(ends.worker);
        const std::array<pid_t, 3> all{zygote.keeper_pid(), zygote.zygote_pid(), worker.pid};
        static_cast<void>(::write(pids.write_end().get(), all.data(), sizeof(all)));
        for (;;) ::pause();
    }
    std::array<pid_t, 3> all{};
    ASSERT_EQ(::read(pids.read_end().get(), all.data(), sizeof(all)), static_cast<ssize_t>(sizeof(all)));
    std::vector<UniqueFd> pidfds;
    for (const pid_t pid : all) pidfds.push_back(pidfd_of(pid));
    ASSERT_EQ(::kill(caller, SIGKILL), 0);
    ASSERT_EQ(::waitpid(caller, nullptr, 0), caller);
    for (const UniqueFd& pidfd : pidfds) EXPECT_TRUE(has_ended(pidfd.get()));
}

void exit_when_idle(CallStep step) {
    if (step == CallStep::idle) ::_exit(7);
}

TEST(ZygoteLifeTest, WorkerThatExitsIsToldWithItsStatus) {
    const WorkerConfig config{.idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = exit_when_idle};
    Zygote zygote(config);
    const Ends ends;
    const Zygote::Forked worker = zygote.fork_worker(ends.worker);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker), OutcomeKind::exited, 7));
}

/// The process that a worker leaves behind says who it is here.
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

// A function that forks: what it leaves behind goes with the worker, while the pool lives.
TEST(ZygoteLifeTest, WhatAWorkerHasForkedEndsWithIt) {
    pipes::Pipe pids = pipes::Pipe::open();
    left_behind_says = pids.write_end().get();
    const WorkerConfig config{
        .idle_time = kLong, .resident_budget = {1}, .costs = {}, .at_step = leave_a_process_behind};
    Zygote zygote(config);
    const Ends ends;
    const Zygote::Forked worker = zygote.fork_worker(ends.worker);
    pid_t left = -1;
    ASSERT_EQ(::read(pids.read_end().get(), &left, sizeof(left)), static_cast<ssize_t>(sizeof(left)));
    const UniqueFd pidfd = pidfd_of(left);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker), OutcomeKind::exited, 7));
    EXPECT_TRUE(!pidfd || has_ended(pidfd.get())) << "no descriptor: it has ended already";
}

TEST(ZygoteLifeTest, WorkerThatIsIdleForLongEnoughRetires) {
    const WorkerConfig config{
        .idle_time = std::chrono::milliseconds(1), .resident_budget = {1}, .costs = {}, .at_step = nullptr};
    Zygote zygote(config);
    const Ends ends;
    const Zygote::Forked worker = zygote.fork_worker(ends.worker);
    ASSERT_TRUE(has_ended(worker.pidfd.get()));
    EXPECT_TRUE(is_outcome(zygote.end_of(worker), OutcomeKind::exited, 0));
    std::atomic<WorkerState> state;
    ASSERT_EQ(::pread(ends.worker.channel.get(), &state, sizeof(state), offsetof(Channel, state)),
              static_cast<ssize_t>(sizeof(state)));
    EXPECT_EQ(state, WorkerState::retired) << "so that nobody gives it a call any more";
}

TEST(ZygoteLifeTest, FromAProcessWithThreadsItIsEpermAndSaysWhatToDo) {
    std::atomic<bool> done = false;
    std::thread other([&] {
        while (!done) std::this_thread::yield();
    });
    EXPECT_EQ(own_thread_count(), 2U);
    const WorkerConfig config;
    EXPECT_EQ(error_of([&] { const Zygote zygote(config); }), EPERM);
    const std::string message = tests::message_of([&] { const Zygote zygote(config); });
    EXPECT_NE(message.find("2 threads"), std::string::npos) << message;
    EXPECT_NE(message.find("make the pool before the first thread"), std::string::npos) << message;
    done = true;
    other.join();
}

TEST(ZygoteLifeTest, SigchldThatIsIgnoredIsEchild) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGCHLD, SIG_IGN);
                  const WorkerConfig config;
                  return error_of([&] { const Zygote zygote(config); }) == ECHILD ? 0 : 1;
              }),
              kChildExitedWell);
}

// However few there are, either all of it is there or nothing is left: the leak guard looks.
TEST(ZygoteLifeTest, DescriptorsAreExhaustedAtAnyStepAndNothingIsLeftBehind) {
    const WorkerConfig config;
    std::size_t free = 0;
    for (; free < 32; ++free) {
        const DescriptorLimit limit(free);
        const int error = error_of([&] { const Zygote zygote(config); });
        if (error == 0) break;
        EXPECT_EQ(error, EMFILE) << free;
    }
    EXPECT_LT(free, 32U);
    EXPECT_GE(free, 4U) << "two sockets and two pidfds stay open";
}

}  // namespace
