// Tests errors with an errno, repeated calls after EINTR, and assertions.
#include "vmcow/sys/error.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "tests/support/support.hpp"

namespace {

using namespace vmcow::sys;

TEST(ErrorTest, ErrorHasTheErrnoAndSaysWhatWasToBeDone) {
    EXPECT_EQ(tests::error_of([] { throw_error(ENOSPC, "write 'x'"); }), ENOSPC);
    EXPECT_EQ(tests::message_of([] { throw_error(ENOSPC, "write 'x'"); }), "write 'x': No space left on device");
    errno = EBADF;
    EXPECT_EQ(tests::error_of([] { throw_errno("write 'x'"); }), EBADF);
}

TEST(ErrorTest, InterruptedCallIsMadeAgainAndNoOther) {
    int calls = 0;
    const auto fails_with = [&](int error, int times) {
        calls = 0;
        return [&calls = calls, error, times] {
            errno = error;
            return ++calls <= times ? -1 : 5;
        };
    };
    EXPECT_EQ(retry_interrupted(fails_with(EINTR, 3)), 5);
    EXPECT_EQ(calls, 4);
    EXPECT_EQ(retry_interrupted(fails_with(EAGAIN, 3)), -1);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(errno, EAGAIN);
}

TEST(ErrorTest, AssertionHoldsInEveryBuild) {
    VMCOW_ASSERT(true);
    EXPECT_EQ(tests::in_child([] {
                  tests::set_action(SIGABRT, SIG_DFL);
                  const tests::ScopedLimit no_core(RLIMIT_CORE, 0);
                  VMCOW_ASSERT(1 + 1 == 3 && "a child of the test says so");
                  return 0;
              }),
              (tests::ChildEnd{-1, SIGABRT}));
}

}  // namespace
