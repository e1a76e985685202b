// Tests pidfds: opening them, sending signals, and waiting for the end of a process.
#include "vmcow/sys/process/pidfd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"

namespace {

using namespace vmcow::sys;
using namespace std::chrono_literals;
using tests::closed_descriptor;
using tests::error_of;
using tests::IdleChild;
using tests::message_of;
using tests::reaped_process;

constexpr std::chrono::seconds kLong{60};  // only a broken program takes this long

TEST(PidfdTest, OpensWhatIsAProcessCloseOnExec) {
    const UniqueFd self = open_pidfd(::getpid(), "open ourselves");
    EXPECT_EQ(::fcntl(self.get(), F_GETFD), FD_CLOEXEC);
    EXPECT_FALSE(has_ended(self.get()));
    EXPECT_EQ(send_signal(self.get(), 0), 0);
}

TEST(PidfdTest, ProcessThatIsNotThereIsEsrch) {
    const pid_t gone = reaped_process();
    EXPECT_FALSE(try_open_pidfd(gone));
    EXPECT_EQ(errno, ESRCH);
    EXPECT_EQ(error_of([&] { static_cast<void>(open_pidfd(gone, "open it")); }), ESRCH);
    EXPECT_NE(message_of([&] { static_cast<void>(open_pidfd(gone, "open it")); }).find("open it"), std::string::npos);
}

TEST(PidfdTest, NumberOfNoProcessIsEinval) {
    for (const pid_t pid : {0, -1}) EXPECT_EQ(error_of([&] { static_cast<void>(open_pidfd(pid, "open it")); }), EINVAL);
}

TEST(PidfdTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([] { static_cast<void>(open_pidfd(::getpid(), "open ourselves")); }), EMFILE);
}

TEST(PidfdTest, ChildWithoutAPidfdIsKilledAndReaped) {
    const IdleChild other;
    EXPECT_EQ(tests::in_child([] {
                  IdleChild child;
                  const DescriptorLimit limit(0);
                  if (error_of([&] { static_cast<void>(open_pidfd_of_child(child.pid(), "start it")); }) != EMFILE) {
                      return 1;
                  }
                  return ::waitpid(child.pid(), nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 2;
              }),
              tests::kChildExitedWell);
    EXPECT_TRUE(open_pidfd_of_child(other.pid(), "start it"));
    EXPECT_EQ(try_signal_process(other.pid(), 0), 0);
}

TEST(PidfdTest, SignalReachesTheProcess) {
    IdleChild child;
    const UniqueFd pidfd = open_pidfd(child.pid(), "open it");
    EXPECT_EQ(send_signal(pidfd.get(), SIGKILL), 0);
    EXPECT_TRUE(wait_for_end(pidfd.get(), kLong));
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT), 0);
    EXPECT_EQ(info.si_status, SIGKILL);
}

TEST(PidfdTest, ZombieTakesSignalsAndAReapedProcessIsEsrch) {
    IdleChild child;
    const UniqueFd pidfd = open_pidfd(child.pid(), "open it");
    child.kill();
    EXPECT_EQ(send_signal(pidfd.get(), SIGTERM), 0);
    child.reap();
    EXPECT_EQ(send_signal(pidfd.get(), SIGTERM), ESRCH);
    EXPECT_EQ(send_signal(pidfd.get(), 0), ESRCH);
}

TEST(PidfdTest, RefusedSignalsAreErrors) {
    const UniqueFd self = open_pidfd(::getpid(), "open ourselves");
    EXPECT_EQ(send_signal(self.get(), 10'000), EINVAL);
    EXPECT_EQ(send_signal(closed_descriptor(), SIGTERM), EBADF);
    EXPECT_EQ(send_signal(STDERR_FILENO, SIGTERM), EBADF) << "no pidfd";
}

TEST(PidfdTest, SignalToTheProcessOfAnotherUserIsEperm) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    const IdleChild child;
    const tests::ChildEnd end = tests::in_child([&] {
        const UniqueFd pidfd = open_pidfd(child.pid(), "open it");
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return send_signal(pidfd.get(), SIGKILL);
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{EPERM, 0}));
}

TEST(PidfdTest, EndIsSeenBeforeAndAfterTheProcessIsReaped) {
    IdleChild child;
    const UniqueFd pidfd = open_pidfd(child.pid(), "open it");
    EXPECT_FALSE(has_ended(pidfd.get()));
    EXPECT_FALSE(wait_for_end(pidfd.get(), 0ns));
    EXPECT_FALSE(wait_for_end(pidfd.get(), -1s));
    EXPECT_FALSE(wait_for_end(pidfd.get(), 2ms));
    child.kill();
    EXPECT_TRUE(has_ended(pidfd.get()));
    EXPECT_TRUE(wait_for_end(pidfd.get(), 0ns));
    child.reap();
    EXPECT_TRUE(has_ended(pidfd.get()));
    EXPECT_TRUE(wait_for_end(pidfd.get(), kLong));
}

TEST(PidfdTest, EndOfAProcessThatIsNobodysChildHereIsSeen) {
    const IdleChild sibling;
    const UniqueFd pidfd = open_pidfd(sibling.pid(), "open it");
    EXPECT_EQ(tests::in_child([&] {
                  if (has_ended(pidfd.get())) return 1;
                  if (send_signal(pidfd.get(), SIGKILL) != 0) return 2;
                  return wait_for_end(pidfd.get(), kLong) ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(PidfdTest, NoDescriptorNeverEnds) {
    EXPECT_FALSE(has_ended(-1));
    EXPECT_FALSE(wait_for_end(-1, 1ms));
    EXPECT_FALSE(wait_for_end(closed_descriptor(), kLong)) << "at once";
}

#ifdef SYS_poll  // newer architectures have only ppoll(2), which is used in its place there
// Where poll(2) is refused, the end is seen only once the process has been reaped.
TEST(PidfdTest, ReapedProcessIsSeenWithoutPoll) {
    const tests::ChildEnd end = tests::in_child([] {
        IdleChild child;
        const UniqueFd pidfd = open_pidfd(child.pid(), "open it");
        if (!tests::forbid_call(SYS_poll, ENOMEM)) return tests::kNotHere;
        if (has_ended(pidfd.get())) return 1;
        child.kill();
        if (has_ended(pidfd.get())) return 2;
        child.reap();
        return has_ended(pidfd.get()) ? 0 : 3;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, tests::kChildExitedWell);
}
#endif

TEST(PidfdTest, WaitThatTheKernelRefusesEndsInTime) {
    const tests::ChildEnd end = tests::in_child([] {
        const UniqueFd self = open_pidfd(::getpid(), "open ourselves");
        if (!tests::forbid_call(SYS_ppoll, ENOMEM)) return tests::kNotHere;
        return wait_for_end(self.get(), 3ms) ? 1 : 0;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST(PidfdTest, EndIsSeenWhereWaitsAreRefused) {
    const tests::ChildEnd end = tests::in_child([] {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(0);
        const UniqueFd pidfd = open_pidfd_of_child(child, "open the child");
        if (!tests::forbid_call(SYS_ppoll, ENOMEM)) return tests::kNotHere;
        return wait_for_end(pidfd.get(), 3s) ? 0 : 1;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST(PidfdTest, GroupIsKilledAlsoWhenItsLeaderHasBeenReaped) {
    const tests::ChildEnd end = tests::in_child([] {
        IdleChild leader;
        const UniqueFd pidfd = open_pidfd(leader.pid(), "open it");
        const IdleChild member;
        if (::setpgid(leader.pid(), leader.pid()) != 0 || ::setpgid(member.pid(), leader.pid()) != 0) return 1;
        constexpr unsigned kSignalProcessGroup = 4;
        if (::syscall(SYS_pidfd_send_signal, pidfd.get(), 0, nullptr, kSignalProcessGroup) != 0) return tests::kNotHere;
        leader.kill();
        leader.reap();
        kill_group(pidfd.get());
        return wait_for_end(open_pidfd(member.pid(), "open it").get(), kLong) ? 0 : 2;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no group can be named by a pidfd before Linux 6.9";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

}  // namespace
