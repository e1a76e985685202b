// Tests signals at the end of a parent, subreapers and the names of threads.
#include "vmcow/sys/process/prctl.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"

namespace {

using namespace vmcow::sys;
using tests::in_child;
using tests::kChildExitedWell;

constexpr int kParentHasEnded = 3;

bool is_subreaper() {
    int is_one = 0;
    return ::prctl(PR_GET_CHILD_SUBREAPER, &is_one) == 0 && is_one == 1;
}

/// A pipe between a parent and a child.
struct Ends {
    Ends() {
        if (::pipe2(fds.data(), O_CLOEXEC) != 0) throw_errno("pipe2");
    }
    void tell() const { static_cast<void>(::write(fds[1], "x", 1)); }
    void close_write_end() const { ::close(fds[1]); }
    /// Returns when a byte arrives, or when no process holds the write end any more.
    void wait() const {
        char byte = 0;
        static_cast<void>(retry_interrupted([&] { return ::read(fds[0], &byte, 1); }));
    }
    std::array<int, 2> fds{};
};

/// Forks a parent, which forks a child and ends: when the child is `ready`, or at once. Returns the status of the
/// child, which this process adopts as an orphan.
int status_of_orphan(const std::function<void(pid_t parent, const Ends& ready)>& child, bool wait_until_ready) {
    const Subreaper subreaper;
    const tests::ChildEnd parents_end = in_child([&] {
        tests::set_action(SIGTERM, SIG_DFL);
        const pid_t parent = ::getpid();
        const Ends ready;
        const pid_t pid = ::fork();
        if (pid == 0) {
            child(parent, ready);
            for (;;) ::pause();
        }
        if (wait_until_ready) ready.wait();
        return pid > 0 ? 0 : 1;
    });
    EXPECT_EQ(parents_end, kChildExitedWell);
    int status = -1;
    EXPECT_GT(retry_interrupted([&] { return ::wait(&status); }), 0) << "no orphan";
    return status;
}

TEST(DieWithParentTest, ChildGetsItsSignalWhenItsParentEnds) {
    for (const int number : {SIGKILL, SIGTERM}) {
        const auto child = [&](pid_t parent, const Ends& ready) {
            if (!die_with_parent(parent, number)) ::_exit(kParentHasEnded);
            ready.tell();
        };
        const int status = status_of_orphan(child, true);
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << status;
    }
}

// The race: the kernel sends no signal for a parent that has already ended.
TEST(DieWithParentTest, EndOfTheParentBeforeIsSaid) {
    const auto child = [](pid_t parent, const Ends& ready) {
        ready.close_write_end();
        ready.wait();  // the parent holds the other copy of the write end until it ends
        while (::getppid() == parent) ::usleep(100);
        ::_exit(die_with_parent(parent) ? 1 : kParentHasEnded);
    };
    const int status = status_of_orphan(child, false);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kParentHasEnded) << status;
}

TEST(DieWithParentTest, SignalAloneIsSentWithoutALook) {
    const auto child = [](pid_t, const Ends& ready) {
        signal_at_end_of_parent(SIGTERM);
        ready.tell();
    };
    const int status = status_of_orphan(child, true);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
}

TEST(SubreaperTest, AttributeIsSetWhileItLivesAndIsAsBeforeAfterwards) {
    ASSERT_FALSE(is_subreaper());
    {
        const Subreaper outer;
        EXPECT_TRUE(is_subreaper());
        { const Subreaper inner; }
        EXPECT_TRUE(is_subreaper());
    }
    EXPECT_FALSE(is_subreaper());
}

TEST(SubreaperTest, ChildHasNothingOfIt) {
    const Subreaper subreaper;
    EXPECT_EQ(in_child([] { return is_subreaper() ? 1 : 0; }), kChildExitedWell);
}

TEST(SubreaperTest, CopyInAChildChangesNothing) {
    std::optional<Subreaper> subreaper(std::in_place);
    EXPECT_EQ(in_child([&] {
                  if (adopt_orphans() != 0) return 1;
                  subreaper.reset();
                  return is_subreaper() ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST(SubreaperTest, OrphansAreAdoptedForGood) {
    EXPECT_EQ(in_child([] {
                  if (adopt_orphans() != 0) return 1;
                  if (in_child([] { return ::fork() == 0 ? (::_exit(7), 0) : 0; }) != kChildExitedWell) return 2;
                  int status = 0;
                  return ::wait(&status) > 0 && WEXITSTATUS(status) == 7 ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST(SubreaperTest, RefusalIsAnErrorOrNothing) {
    const tests::ChildEnd end = in_child([] {
        if (!tests::forbid_call(SYS_prctl, EPERM)) return tests::kNotHere;
        { const Subreaper subreaper; }
        return adopt_orphans();
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, (tests::ChildEnd{EPERM, 0}));
}

TEST(NameThreadTest, FifteenBytesAreKeptOfOneThread) {
    const auto name = [] {
        std::array<char, 16> text{};
        ::prctl(PR_GET_NAME, text.data());
        return std::string(text.data());
    };
    const std::string before = name();
    std::string inside;
    std::thread([&] {
        name_thread("0123456789abcdefgh");
        inside = name();
    }).join();
    EXPECT_EQ(inside, "0123456789abcde");
    EXPECT_EQ(name(), before);
}

}  // namespace
