// System calls of a pool that fail without a reason of the kernel: no wait depends on one of them alone.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <ostream>
#include <string>
#include <system_error>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::CallOptions;
using procrun::Deadline;
using procrun::Pool;
using tests::kChildExitedWell;

struct Fault {
    const char* name;
    int call;
    int error;
};

std::ostream& operator<<(std::ostream& out, const Fault& fault) { return out << fault.name; }

constexpr unsigned kHangSeconds = 20;

/// Each call here would hang for ever, or until its deadline, if it waited for a message alone.
int use(Pool& pool) {
    for (int round = 0; round < 2; ++round) {
        const auto result = pool.call(CallOptions{.deadline = Deadline::in(1s)}, tests::answer);
        if (result.ok() && result.value() != 42) return 10;
        if (pool.call([] { ::raise(SIGKILL); }).ok()) return 11;
        if (pool.call(CallOptions{.deadline = Deadline::in(20ms)}, tests::hang).ok()) return 12;
        auto future = pool.async(CallOptions{.deadline = Deadline::in(20ms)}, tests::hang);
        if (future.get().ok()) return 13;
        pool.trim();
    }
    return 0;
}

bool all_have_ended(const std::vector<pid_t>& pids) {
    return tests::eventually([&] { return std::none_of(pids.begin(), pids.end(), tests::is_running); });
}

class PoolFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(PoolFaultTest, InTheCallerNothingHangsAndNothingIsLeftBehind) {
    const Fault fault = GetParam();
    const tests::ChildEnd end = tests::in_child([&] {
        ::alarm(kHangSeconds);
        auto pool = std::make_unique<Pool>(tests::workers(1));
        const std::vector<pid_t> pids{pool->call(::getpid).value(), pool->status().zygote_pid,
                                      pool->status().keeper_pid};
        if (!tests::forbid_call(fault.call, fault.error)) return tests::kNotHere;
        if (const int problem = use(*pool); problem != 0) return problem;
        pool.reset();
        return all_have_ended(pids) ? 0 : 1;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, kChildExitedWell);
}

TEST_P(PoolFaultTest, EverywhereNothingHangs) {
    const Fault fault = GetParam();
    const tests::ChildEnd end = tests::in_child([&] {
        ::alarm(kHangSeconds);
        if (!tests::forbid_call(fault.call, fault.error)) return tests::kNotHere;
        try {
            Pool pool(tests::workers(1));
            return use(pool);
        } catch (const std::system_error&) {
            return 0;  // no pool was made, and the exception says so
        }
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, kChildExitedWell);
}

// The zygote looks for itself whether there is a request. Its caller would give it up for broken after a second.
TEST(PoolFaultAnswerTest, WherePpollFailsEveryCallIsAnswered) {
    const tests::ChildEnd end = tests::in_child([] {
        ::alarm(kHangSeconds);
        if (!tests::forbid_call(SYS_ppoll, ENOMEM)) return tests::kNotHere;
        Pool pool(tests::workers(1));
        const pid_t zygote = pool.status().zygote_pid;
        for (int round = 0; round < 10; ++round) {
            const auto result = pool.call(tests::answer);
            if (!result.ok() || result.value() != 42) return 10;
            if (pool.call([] { ::raise(SIGKILL); }).ok()) return 11;
        }
        return pool.status().zygote_pid == zygote ? 0 : 12;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no seccomp filters";
    EXPECT_EQ(end, kChildExitedWell);
}

INSTANTIATE_TEST_SUITE_P(Calls, PoolFaultTest,
                         testing::Values(Fault{"waitid", SYS_waitid, ECHILD}, Fault{"wait4", SYS_wait4, ECHILD},
                                         Fault{"write", SYS_write, EIO},
                                         Fault{"pidfd_send_signal", SYS_pidfd_send_signal, EPERM},
                                         Fault{"sendmsg", SYS_sendmsg, ENOBUFS}, Fault{"recvmsg", SYS_recvmsg, ENOMEM},
                                         Fault{"recvfrom", SYS_recvfrom, ENOMEM}, Fault{"poll", SYS_poll, ENOMEM},
                                         Fault{"ppoll", SYS_ppoll, ENOMEM}, Fault{"kill", SYS_kill, EPERM},
                                         Fault{"pidfd_open", SYS_pidfd_open, EMFILE},
                                         Fault{"prctl", SYS_prctl, EINVAL}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
