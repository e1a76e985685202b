// The end of a pool, whichever processes hold copies of its descriptors: it waits for none of them, and nothing is left
// behind (I4).
#include <dirent.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/procrun/pool/pool_survival.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::OutcomeKind;
using procrun::Pool;
using tests::board;
using tests::ChildEnd;
using tests::kChildExitedWell;

constexpr unsigned kHangSeconds = 10;

ChildEnd in_child_with_alarm(const std::function<int()>& body) {
    return tests::in_child([&] {
        ::alarm(kHangSeconds);
        return body();
    });
}

std::vector<pid_t> processes_of(Pool& pool) {
    std::vector<pid_t> pids{pool.call(::getpid).value()};
    const auto status = pool.status();
    pids.push_back(status.zygote_pid);
    pids.push_back(status.keeper_pid);
    return pids;
}

bool all_have_ended(const std::vector<pid_t>& pids) {
    return tests::eventually([&] { return std::none_of(pids.begin(), pids.end(), tests::is_running); });
}

/// A child that any code might fork: it has a copy of every descriptor and does nothing with them.
class Stranger {
public:
    Stranger() : pid_(::fork()) {
        if (pid_ == 0) tests::hang();
    }
    ~Stranger() {
        vmcow::sys::signal_process(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Stranger(const Stranger&) = delete;
    Stranger& operator=(const Stranger&) = delete;

private:
    pid_t pid_;
};

class PoolEndsTest : public testing::Test {
protected:
    PoolEndsTest() {
        for (auto& pid : board().pids) pid.store(0);
    }
};

// ---- several pools, and strangers

TEST_F(PoolEndsTest, PoolsEndInAnyOrder) {
    std::array<int, 3> order{0, 1, 2};
    do {
        EXPECT_EQ(in_child_with_alarm([&] {
                      std::array<std::unique_ptr<Pool>, 3> pools;
                      std::vector<pid_t> pids;
                      for (auto& pool : pools) {
                          pool = std::make_unique<Pool>(tests::workers(1));
                          const auto more = processes_of(*pool);
                          pids.insert(pids.end(), more.begin(), more.end());
                      }
                      for (const int which : order) pools[static_cast<std::size_t>(which)].reset();
                      return all_have_ended(pids) ? 0 : 1;
                  }),
                  kChildExitedWell)
            << order[0] << order[1] << order[2];
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(PoolEndsTest, OlderPoolEndsWhileTheYoungerOneServesCalls) {
    EXPECT_EQ(in_child_with_alarm([] {
                  auto older = std::make_unique<Pool>(tests::workers(1));
                  if (!older->call(tests::answer).ok()) return 1;
                  Pool younger(tests::workers(1));
                  const auto pids = processes_of(*older);
                  older.reset();
                  if (!all_have_ended(pids)) return 2;
                  return younger.call(tests::answer).ok() ? 0 : 3;
              }),
              kChildExitedWell);
}

std::size_t sockets_and_pipes_of(pid_t pid) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
        std::error_code gone;
        const std::string name = std::filesystem::read_symlink(entry.path(), gone).string();
        if (name.starts_with("socket:") || name.starts_with("pipe:")) ++count;
    }
    return count;
}

TEST_F(PoolEndsTest, YoungerKeeperHasNoDescriptorOfTheOlderPool) {
    Pool older(tests::workers(2));
    const auto first = older.async(tests::answer);
    const auto second = older.async(tests::answer);
    const std::size_t usual = sockets_and_pipes_of(older.status().keeper_pid);
    EXPECT_EQ(tests::in_child([&] {
                  Pool younger(tests::workers(1));
                  // The new keeper closes the descriptors of its zygote when it has answered, a moment later.
                  const pid_t keeper = younger.status().keeper_pid;
                  return tests::eventually([&] { return sockets_and_pipes_of(keeper) == usual; }) ? 0 : 1;
              }),
              kChildExitedWell);
}

TEST_F(PoolEndsTest, PoolEndsWhileStrangersHaveItsDescriptors) {
    EXPECT_EQ(in_child_with_alarm([] {
                  auto pool = std::make_unique<Pool>(tests::workers(2));
                  const Stranger before;
                  const auto pids = processes_of(*pool);
                  const Stranger after;
                  pool.reset();
                  return all_have_ended(pids) ? 0 : 1;
              }),
              kChildExitedWell);
}

TEST_F(PoolEndsTest, KilledCallerLeavesNothingWhileStrangersLive) {
    for (const bool in_a_call : {false, true}) {
        for (auto& pid : board().pids) pid.store(0);
        EXPECT_EQ(tests::in_child([&] {
                      const auto stranger = [](std::size_t number) {
                          const pid_t pid = ::fork();
                          if (pid == 0) tests::hang();
                          board().pids[number].store(pid);
                      };
                      stranger(6);
                      Pool pool(tests::workers(1));
                      const auto pids = processes_of(pool);
                      for (std::size_t i = 0; i < pids.size(); ++i) board().pids[i].store(pids[i]);
                      stranger(7);
                      const auto hanging = in_a_call ? std::optional(pool.async(tests::hang)) : std::nullopt;
                      return ::raise(SIGKILL);
                  }),
                  (ChildEnd{-1, SIGKILL}));
        for (std::size_t i = 0; i < 3; ++i) {
            const pid_t pid = board().pids[i].load();
            EXPECT_GT(pid, 0);
            EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(pid); })) << i;
        }
        for (const std::size_t i : {6U, 7U}) {
            EXPECT_TRUE(tests::is_running(board().pids[i].load()));
            vmcow::sys::signal_process(board().pids[i].load(), SIGKILL);
        }
    }
}

// ---- SIGCHLD is used by the caller itself

void reap_everybody(int) {
    const int error = errno;
    while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
    errno = error;
}

TEST_F(PoolEndsTest, HandlerThatReapsEverybodyIsNoTrap) {
    EXPECT_EQ(in_child_with_alarm([] {
                  tests::set_action(SIGCHLD, reap_everybody);
                  std::vector<pid_t> pids;
                  for (int round = 0; round < 3; ++round) {
                      Pool pool(tests::workers(2));
                      pids = processes_of(pool);
                      if (!pool.call(tests::answer).ok()) return 1;
                      pool.trim();
                      vmcow::sys::signal_process(pool.status().zygote_pid, SIGKILL);
                      if (!pool.call(tests::answer).ok()) return 2;
                      if (round == 2) vmcow::sys::signal_process(pool.status().keeper_pid, SIGKILL);
                  }
                  return all_have_ended(pids) ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST_F(PoolEndsTest, SigchldThatIsIgnoredAfterwardsIsNoTrap) {
    EXPECT_EQ(in_child_with_alarm([] {
                  std::vector<pid_t> pids;
                  {
                      Pool pool(tests::workers(1));
                      tests::set_action(SIGCHLD, SIG_IGN);
                      pids = processes_of(pool);
                      pool.trim();
                      if (!pool.call(tests::answer).ok()) return 1;
                  }
                  return all_have_ended(pids) ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST_F(PoolEndsTest, ForkCallWhoseChildIsReapedBySomebodyElseHasItsResult) {
    EXPECT_EQ(in_child_with_alarm([] {
                  tests::set_action(SIGCHLD, reap_everybody);
                  for (int round = 0; round < 20; ++round) {
                      const auto result = procrun::fork_call([] { return 42; });
                      if (!result.ok() || result.value() != 42) return 1;
                      const auto crashed = procrun::fork_call([] { ::raise(SIGKILL); });
                      const OutcomeKind kind = crashed.outcome().kind;
                      if (kind != OutcomeKind::unknown && kind != OutcomeKind::signaled) return 2;
                  }
                  return 0;
              }),
              kChildExitedWell);
}

}  // namespace
