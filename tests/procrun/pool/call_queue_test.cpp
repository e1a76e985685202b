// The queue of a pool alone: which call is served first, which deadlines have passed, and which thread is woken for
// what.
#include "procrun/pool/call_queue.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pool/async_call.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace std::chrono_literals;
using namespace procrun::detail;
using procrun::Deadline;
using Turn = CallQueue::Turn;

std::shared_ptr<AsyncCall> call_by(Deadline deadline) {
    auto call = std::make_shared<AsyncCall>();
    call->call.options.deadline = deadline;
    return call;
}
std::shared_ptr<AsyncCall> patient_call() { return call_by(Deadline::never()); }
std::shared_ptr<AsyncCall> late_call() { return call_by(Deadline::at({})); }

/// A worker's address, which is never dereferenced.
WorkerHandle* some_worker() {
    static std::array<std::byte, 1> place{};
    return reinterpret_cast<WorkerHandle*>(place.data());
}

class CallQueueTest : public testing::Test {
protected:
    /// A thread that waits in the queue; it is in the queue when this function returns.
    std::thread waiting_thread(CallQueue::Waiter& waiter) {
        const std::size_t before = queue_.size(lock_);
        lock_.unlock();
        std::thread thread([&] {
            PoolLock lock(mutex_);
            EXPECT_TRUE(queue_.wait(lock, waiter, Deadline::never()));
        });
        EXPECT_TRUE(tests::eventually([&] {
            const PoolLock lock(mutex_);
            return queue_.size(lock) == before + 1;
        }));
        lock_.lock();
        return thread;
    }
    void join(std::thread& thread) {
        lock_.unlock();
        thread.join();
        lock_.lock();
    }

    std::mutex mutex_;
    PoolLock lock_{mutex_};
    CallQueue queue_{3};
};

TEST_F(CallQueueTest, CallsComeOutInTheirOrder) {
    const std::vector calls{patient_call(), patient_call(), patient_call()};
    for (const auto& call : calls) {
        EXPECT_FALSE(queue_.is_full(lock_));
        queue_.push(lock_, call);
    }
    EXPECT_TRUE(queue_.is_full(lock_));
    for (const auto& call : calls) EXPECT_EQ(queue_.pop(lock_).async, call);
    EXPECT_TRUE(queue_.is_empty(lock_));
}

TEST_F(CallQueueTest, CallThatHasWaitedAlreadyComesFirst) {
    const auto first = patient_call();
    const auto again = patient_call();
    queue_.push(lock_, first);
    queue_.push_front(lock_, again);
    EXPECT_EQ(queue_.pop(lock_).async, again);
    EXPECT_EQ(queue_.pop(lock_).async, first);
}

TEST_F(CallQueueTest, CallIsTakenBackWhereverItIs) {
    const auto first = patient_call();
    const auto second = patient_call();
    queue_.push(lock_, first);
    queue_.push(lock_, second);
    queue_.remove(lock_, second);
    queue_.remove(lock_, second);
    EXPECT_EQ(queue_.size(lock_), 1U);
    EXPECT_EQ(queue_.pop(lock_).async, first);
}

TEST_F(CallQueueTest, ThreadsAndCallsAreServedInOneOrder) {
    CallQueue::Waiter waiter;
    const auto before = patient_call();
    const auto behind = patient_call();
    queue_.push(lock_, before);
    std::thread thread = waiting_thread(waiter);
    queue_.push(lock_, behind);
    EXPECT_EQ(queue_.pop(lock_).async, before);
    EXPECT_EQ(queue_.pop(lock_).waiter, &waiter);
    EXPECT_EQ(queue_.pop(lock_).async, behind);
    CallQueue::call(lock_, waiter, nullptr);
    join(thread);
}

TEST_F(CallQueueTest, ThreadIsWokenUpForAWorkerOrForRoom) {
    for (WorkerHandle* const worker : {some_worker(), static_cast<WorkerHandle*>(nullptr)}) {
        CallQueue::Waiter waiter;
        std::thread thread = waiting_thread(waiter);
        CallQueue::call(lock_, *queue_.pop(lock_).waiter, worker);
        join(thread);
        EXPECT_EQ(waiter.turn, worker != nullptr ? Turn::worker : Turn::room);
        EXPECT_EQ(waiter.worker, worker);
    }
}

TEST_F(CallQueueTest, ThreadWhoseDeadlinePassesIsOutOfTheQueue) {
    const auto other = patient_call();
    queue_.push(lock_, other);
    CallQueue::Waiter waiter;
    EXPECT_FALSE(queue_.wait(lock_, waiter, Deadline::in(10ms)));
    EXPECT_TRUE(lock_.owns_lock());
    EXPECT_EQ(waiter.turn, Turn::none);
    EXPECT_EQ(queue_.size(lock_), 1U);
    EXPECT_EQ(queue_.pop(lock_).async, other);
}

// A call leaves the queue when its deadline has passed; the next look is due at the next deadline.
TEST_F(CallQueueTest, LateCallsAreTakenOutAndTheNextDeadlineIsKnown) {
    const auto late = late_call();
    const auto soon = call_by(Deadline::in(1h));
    queue_.push(lock_, call_by(Deadline::in(2h)));
    queue_.push(lock_, late);
    queue_.push(lock_, soon);
    Deadline next = Deadline::never();
    EXPECT_EQ(queue_.take_late(lock_, next), std::vector{late});
    EXPECT_EQ(queue_.size(lock_), 2U);
    EXPECT_EQ(next.remaining().value() / 1min, soon->call.options.deadline.remaining().value() / 1min);
    Deadline sooner = Deadline::in(1min);
    EXPECT_TRUE(queue_.take_late(lock_, sooner).empty());
    EXPECT_LE(sooner.remaining().value(), 1min);
}

TEST_F(CallQueueTest, EndOfTheQueueWakesThreadsUpAndHandsTheCallsBack) {
    CallQueue::Waiter waiter;
    const auto call = patient_call();
    std::thread thread = waiting_thread(waiter);
    queue_.push(lock_, call);
    EXPECT_EQ(queue_.close(lock_), std::vector{call});
    EXPECT_TRUE(queue_.is_empty(lock_));
    join(thread);
    EXPECT_EQ(waiter.turn, Turn::closed);
}

}  // namespace
