// Tests a forked child that is killed and reaped with its owner.
#include "vmcow/sys/process/forked_child.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>

#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/process/prctl.hpp"

namespace {

using namespace vmcow::sys;
using tests::in_child;
using tests::kChildExitedWell;

int never_ends() {
    for (;;) ::pause();
    return 0;
}

bool has_children() { return ::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD; }

TEST(ForkedChildTest, StatusIsWhatTheFunctionReturns) {
    ForkedChild child([] { return 41; });
    EXPECT_EQ(child.wait(), W_EXITCODE(41, 0));
    EXPECT_EQ(child.wait(), std::nullopt) << "it has been reaped";
}

TEST(ForkedChildTest, SignalThatEndedItIsInTheStatus) {
    ForkedChild child([] {
        tests::set_action(SIGTERM, SIG_DFL);
        static_cast<void>(::raise(SIGTERM));
        return 0;
    });
    EXPECT_EQ(child.wait(), W_EXITCODE(0, SIGTERM));
}

TEST(ForkedChildTest, ChildThatRunsIsKilledAndReapedAtTheEnd) {
    { const ForkedChild child(never_ends); }
    EXPECT_FALSE(has_children());
}

TEST(ForkedChildTest, ChildThatHasEndedIsReapedAtTheEnd) {
    {
        const ForkedChild child([] { return 0; });
    }
    EXPECT_FALSE(has_children());
}

TEST(ForkedChildTest, MovedOneHasTheChild) {
    std::optional<ForkedChild> first(std::in_place, [] { return 7; });
    ForkedChild second(std::move(*first));
    first.reset();
    EXPECT_EQ(second.wait(), W_EXITCODE(7, 0));
}

TEST(ForkedChildTest, ChildThatSomebodyElseHasReapedHasNoStatus) {
    ForkedChild child([] { return 7; });
    EXPECT_GT(retry_interrupted([] { return ::waitpid(-1, nullptr, 0); }), 0);
    EXPECT_EQ(child.wait(), std::nullopt);
}

TEST(ForkedChildTest, ItDiesWithThisProcess) {
    const Subreaper subreaper;
    EXPECT_EQ(in_child([] {
                  std::array<int, 2> ends{};
                  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return 1;
                  const ForkedChild child([&] {
                      static_cast<void>(::write(ends[1], "x", 1));
                      return never_ends();
                  });
                  char byte = 0;
                  if (::read(ends[0], &byte, 1) != 1) return 2;
                  ::_exit(0);  // the destructor of `child` does not run
                  return 3;
              }),
              kChildExitedWell);
    int status = 0;
    ASSERT_GT(retry_interrupted([&] { return ::wait(&status); }), 0) << "no orphan";
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

TEST(ForkedChildTest, WhatStdioHadBufferedIsWrittenOnce) {
    const UniqueFd file = create_memfd("output");
    EXPECT_EQ(in_child([&] {
                  std::FILE* const stream = ::fdopen(file.get(), "w");
                  if (stream == nullptr || std::fputs("once", stream) < 0) return 1;
                  ForkedChild child([stream] { return std::fclose(stream); });
                  return child.wait() == 0 && std::fclose(stream) == 0 ? 0 : 2;
              }),
              kChildExitedWell);
    EXPECT_EQ(file_bytes(file.get()), 4U);
}

TEST(ForkedChildTest, NoProcessToBeHadIsEagain) {
    const tests::ChildEnd end = in_child([] {
        for (const int call : {SYS_clone, SYS_clone3}) {
            if (!tests::forbid_call(call, EAGAIN)) return tests::kNotHere;
        }
        return tests::error_of([] { const ForkedChild child([] { return 0; }); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, (tests::ChildEnd{EAGAIN, 0}));
}

}  // namespace
