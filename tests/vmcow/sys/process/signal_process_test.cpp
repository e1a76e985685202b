// Tests sending signals to processes and groups by number.
#include "vmcow/sys/process/signal_process.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tests/support/support.hpp"

namespace {

using namespace vmcow::sys;
using tests::in_child;

// kill(2) takes each of these numbers for a group or for all processes. The child is alone in its group, so a wrong
// signal would end it.
TEST(SignalProcessTest, WhatIsNoProcessIsRefusedAndReachesNobody) {
    EXPECT_EQ(in_child([] {
                  if (::setpgid(0, 0) != 0) return 1;
                  for (const pid_t pid : {0, -1, -::getpid()}) {
                      if (try_signal_process(pid, SIGTERM) != ESRCH) return 2;
                  }
                  for (const pid_t leader : {1, 0, -1, -::getpid()}) {
                      if (try_signal_group(leader, SIGTERM) != ESRCH) return 3;
                  }
                  return 0;
              }),
              (tests::ChildEnd{0, 0}));
}

TEST(SignalProcessTest, ProcessAndGroupGetTheirSignals) {
    for (const bool group : {false, true}) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            for (;;) ::pause();
        }
        ASSERT_GT(pid, 0);
        ASSERT_EQ(::setpgid(pid, pid), 0);
        EXPECT_EQ(try_signal_process(pid, 0), 0);
        EXPECT_EQ(group ? try_signal_group(pid, SIGTERM) : try_signal_process(pid, SIGTERM), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(pid, &status, 0), pid);
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        EXPECT_EQ(try_signal_process(pid, SIGTERM), ESRCH);
        EXPECT_EQ(try_signal_group(pid, SIGTERM), ESRCH);
    }
}

}  // namespace
