// The workers of a pool alone: which worker is taken, how many there may be, and what happens when one cannot be made.
#include "procrun/pool/worker_set.hpp"

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_call.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace procrun::detail;
using procrun::Deadline;
using procrun::PoolOptions;

PoolOptions two_workers(std::chrono::milliseconds idle_time) {
    PoolOptions options = tests::workers(2);
    options.idle_time = idle_time;
    return options;
}

class WorkerSetTest : public testing::Test {
protected:
    explicit WorkerSetTest(std::chrono::milliseconds idle_time = 1h) : options_(two_workers(idle_time)) { set_.open(); }
    [[nodiscard]] WorkerHandle* make() { return set_.make(lock_, Deadline::never()); }

    PoolOptions options_;
    std::mutex mutex_;
    PoolLock lock_{mutex_};
    WorkerSet set_{options_};
};

TEST_F(WorkerSetTest, WorkersAreMadeUpToTheMost) {
    EXPECT_TRUE(set_.has_room(lock_));
    EXPECT_NE(make(), make());
    EXPECT_TRUE(lock_.owns_lock());
    EXPECT_FALSE(set_.has_room(lock_));
    EXPECT_EQ(set_.size(lock_), 2U);
    EXPECT_EQ(set_.busy(lock_), 2U);
    EXPECT_FALSE(set_.has_idle(lock_));
}

TEST_F(WorkerSetTest, RoomThatIsKeptIsNobodyElses) {
    set_.keep_room(lock_);
    set_.keep_room(lock_);
    EXPECT_FALSE(set_.has_room(lock_));
    EXPECT_EQ(set_.size(lock_), 2U);
    EXPECT_EQ(set_.busy(lock_), 0U);
    set_.give_up_room(lock_);
    EXPECT_TRUE(set_.has_room(lock_));
}

TEST_F(WorkerSetTest, OneThatCannotBeMadeLeavesItsRoom) {
    {
        const DescriptorLimit none(0);
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(make()); }), EMFILE);
    }
    EXPECT_TRUE(lock_.owns_lock());
    EXPECT_EQ(set_.size(lock_), 0U);
    EXPECT_NE(make(), nullptr);
}

TEST_F(WorkerSetTest, OneThatWasUsedLastIsTakenFirst) {
    WorkerHandle* const first = make();
    WorkerHandle* const second = make();
    set_.give_back(lock_, first);
    set_.give_back(lock_, second);
    EXPECT_EQ(set_.idle_pids(lock_), (std::vector{first->pid(), second->pid()}));
    EXPECT_EQ(set_.take_idle(lock_, {}), second);
    EXPECT_EQ(set_.take_idle(lock_, {}), first);
    EXPECT_EQ(set_.take_idle(lock_, {}), nullptr);
}

TEST_F(WorkerSetTest, OneThatHasTheImageIsTakenBeforeOneThatWasUsedLater) {
    WorkerHandle* const first = make();
    WorkerHandle* const second = make();
    ErasedCall call;
    ErasedResult result;
    call.begin({});
    call.function = [](WorkerCall&) {};
    call.images.emplace_back().snapshot.emplace(tests::counting_snapshot(1));
    first->start(call, result);
    first->wait_until_done();
    EXPECT_TRUE(result.outcome.ok()) << result.outcome.describe();
    set_.give_back(lock_, first);
    set_.give_back(lock_, second);
    EXPECT_EQ(set_.take_idle(lock_, call.images), first);
    EXPECT_EQ(set_.take_idle(lock_, call.images), second);
}

TEST_F(WorkerSetTest, OneIsTakenByItsNameWhileItIsIdle) {
    WorkerHandle* const worker = make();
    EXPECT_EQ(set_.take_if_idle(lock_, worker), nullptr);
    set_.give_back(lock_, worker);
    EXPECT_TRUE(set_.is_idle(lock_, worker));
    EXPECT_EQ(set_.take_if_idle(lock_, worker), worker);
    EXPECT_FALSE(set_.is_idle(lock_, worker));
}

TEST_F(WorkerSetTest, WhoTakesOneOutEndsIt) {
    WorkerHandle* const busy = make();
    WorkerHandle* const idle = make();
    set_.give_back(lock_, idle);
    auto taken = set_.take_out_idle(lock_);
    ASSERT_EQ(taken.size(), 1U);
    EXPECT_EQ(taken[0].get(), idle);
    EXPECT_EQ(set_.size(lock_), 1U);
    const pid_t pid = idle->pid();
    EXPECT_TRUE(tests::is_running(pid));
    taken.clear();
    EXPECT_TRUE(tests::eventually([&] { return !tests::is_running(pid); }));
    EXPECT_EQ(set_.take_out(lock_, busy).get(), busy);
    EXPECT_EQ(set_.take_out(lock_, busy), nullptr);
}

class IdleWorkerSetTest : public WorkerSetTest {
protected:
    IdleWorkerSetTest() : WorkerSetTest(300ms) {}  // longer than it takes to give a worker back
};

TEST_F(IdleWorkerSetTest, OneThatHasEndedByItselfIsTakenOut) {
    WorkerHandle* const worker = make();
    set_.give_back(lock_, worker);
    std::vector<WorkerSet::Owned> retired;
    EXPECT_TRUE(tests::eventually([&] { return !(retired = set_.take_out_retired(lock_)).empty(); }));
    EXPECT_FALSE(retired.at(0)->take_if_idle());
    EXPECT_FALSE(set_.has_idle(lock_));
    EXPECT_EQ(set_.size(lock_), 0U);
}

}  // namespace
