// Outcome: which ends are good, their names in JSON, and their descriptions.
#include "procrun/outcome.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>

namespace {

using procrun::name_of;
using procrun::Outcome;
using procrun::OutcomeKind;

TEST(OutcomeTest, OnlyAReturnAndExitZeroAreGood) {
    EXPECT_TRUE((Outcome{OutcomeKind::returned, 0, ""}.ok()));
    EXPECT_TRUE((Outcome{OutcomeKind::exited, 0, ""}.ok()));
    EXPECT_FALSE((Outcome{OutcomeKind::exited, 1, ""}.ok()));
    // Every other kind is bad even when its code is 0.
    for (const OutcomeKind kind :
         {OutcomeKind::signaled, OutcomeKind::threw, OutcomeKind::deadline_passed, OutcomeKind::not_started,
          OutcomeKind::limit_exceeded, OutcomeKind::cancelled, OutcomeKind::result_lost}) {
        EXPECT_FALSE((Outcome{kind, 0, ""}.ok())) << name_of(kind);
    }
}

TEST(OutcomeTest, NamesAreThoseOfTheJson) {
    EXPECT_STREQ(name_of(OutcomeKind::returned), "returned");
    EXPECT_STREQ(name_of(OutcomeKind::exited), "exited");
    EXPECT_STREQ(name_of(OutcomeKind::signaled), "signaled");
    EXPECT_STREQ(name_of(OutcomeKind::threw), "threw");
    EXPECT_STREQ(name_of(OutcomeKind::deadline_passed), "deadline_passed");
    EXPECT_STREQ(name_of(OutcomeKind::not_started), "not_started");
    EXPECT_STREQ(name_of(OutcomeKind::limit_exceeded), "limit_exceeded");
    EXPECT_STREQ(name_of(OutcomeKind::cancelled), "cancelled");
    EXPECT_STREQ(name_of(OutcomeKind::result_lost), "result_lost");
    EXPECT_STREQ(name_of(OutcomeKind::unknown), "unknown");
}

TEST(OutcomeTest, DescriptionNamesWhatHappened) {
    EXPECT_EQ((Outcome{OutcomeKind::returned, 0, ""}.describe()), "returned");
    EXPECT_EQ((Outcome{OutcomeKind::exited, 3, ""}.describe()), "exit 3");
    EXPECT_EQ((Outcome{OutcomeKind::signaled, SIGSEGV, ""}.describe()), "killed by SIGSEGV");
    EXPECT_EQ((Outcome{OutcomeKind::threw, 0, "bad row 7"}.describe()), "threw: bad row 7");
    EXPECT_EQ((Outcome{OutcomeKind::deadline_passed, SIGKILL, ""}.describe()), "deadline passed, ended by SIGKILL");
    EXPECT_EQ((Outcome{OutcomeKind::not_started, ENOENT, "execve 'sorrt'"}.describe()),
              "execve 'sorrt': No such file or directory");
    EXPECT_EQ((Outcome{OutcomeKind::signaled, SIGKILL, "while mapping"}.describe()), "killed by SIGKILL while mapping");
    EXPECT_EQ((Outcome{OutcomeKind::limit_exceeded, 0, "300 pages copied of at most 16"}.describe()),
              "limit exceeded: 300 pages copied of at most 16");
    EXPECT_EQ((Outcome{OutcomeKind::cancelled, 0, ""}.describe()), "cancelled");
    EXPECT_EQ((Outcome{OutcomeKind::cancelled, 0, "in the queue"}.describe()), "cancelled in the queue");
    EXPECT_EQ((Outcome{OutcomeKind::result_lost, EMFILE, "receive it"}.describe()),
              "result lost: receive it: Too many open files");
}

TEST(OutcomeTest, SignalsAndErrorsWithoutANameAreShownAsNumbers) {
    EXPECT_EQ((Outcome{OutcomeKind::signaled, SIGRTMIN + 1, ""}.describe()),
              "killed by signal " + std::to_string(SIGRTMIN + 1));
    EXPECT_EQ((Outcome{OutcomeKind::not_started, 9999, "execve 'x'"}.describe()), "execve 'x': error 9999");
}

}  // namespace
