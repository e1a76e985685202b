// The loans of a pool alone: which worker may still write to a moved value, and which worker is recalled before the
// value moves elsewhere (I3).
#include "procrun/pool/loan_book.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "procrun/deadline.hpp"
#include "procrun/pool/pool_core.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "tests/support/pools.hpp"
#include "vmcow/image/arena_access.hpp"

namespace {

using namespace std::chrono_literals;
using namespace procrun::detail;
using procrun::Deadline;

/// A worker's address, which is never dereferenced.
const WorkerHandle* some_worker(std::size_t number) {
    struct alignas(WorkerHandle) Place {
        std::array<std::byte, sizeof(WorkerHandle)> bytes;
    };
    static std::array<Place, 2> places{};
    return reinterpret_cast<const WorkerHandle*>(&places.at(number));
}

// ---- who may write

class LoanBookTest : public testing::Test {
protected:
    [[nodiscard]] bool wait(Deadline deadline) {
        return book_.wait_until_idle(lock_, worker_, deadline, [&] { return idle_; });
    }

    std::mutex mutex_;
    PoolLock lock_{mutex_};
    LoanBook book_;
    const WorkerHandle* const worker_ = some_worker(0);
    bool idle_ = false;
};

TEST_F(LoanBookTest, WhoWritesToNothingIsNotWaitedFor) {
    book_.add(lock_, some_worker(1));
    EXPECT_TRUE(wait(Deadline::never()));
    EXPECT_FALSE(book_.has(lock_, worker_));
}

TEST_F(LoanBookTest, BusyOneIsWaitedForUntilTheDeadline) {
    book_.add(lock_, worker_);
    EXPECT_FALSE(wait(Deadline::in(10ms)));
    EXPECT_TRUE(lock_.owns_lock());
    EXPECT_TRUE(book_.has(lock_, worker_));
}

TEST_F(LoanBookTest, WaitIsOverWhenItCanWriteToNothingMore) {
    book_.add(lock_, worker_);
    std::thread other([&] {
        const PoolLock lock(mutex_);  // the mutex is free once the wait has begun
        book_.remove(lock, worker_);
    });
    EXPECT_TRUE(wait(Deadline::never()));
    EXPECT_FALSE(book_.has(lock_, worker_));
    other.join();
}

TEST_F(LoanBookTest, WaitIsOverWhenItIsIdleAndCanBeToldToUnmap) {
    book_.add(lock_, worker_);
    std::thread other([&] {
        const PoolLock lock(mutex_);
        idle_ = true;
        book_.note_idle(lock, worker_);
    });
    EXPECT_TRUE(wait(Deadline::never()));
    EXPECT_TRUE(book_.has(lock_, worker_));
    other.join();
}

// ---- arenas

/// A loan whose holder is no worker.
class OtherLoan final : public vmcow::Loan {
public:
    void recall() noexcept override { ++recalls; }
    [[nodiscard]] const void* holder() const noexcept override { return this; }

    int recalls = 0;
};

class ArenaLoanTest : public testing::Test {
protected:
    /// A call that moves one arena, which is on loan.
    static ErasedCall moving_call(std::shared_ptr<vmcow::Loan> loan) {
        ErasedCall call;
        ImageArgument& image = call.images.emplace_back();
        image.mode = ImageMode::moved;
        image.moved.emplace(tests::counting_arena(1));
        vmcow::ArenaAccess::set_loan(*image.moved, std::move(loan));
        return call;
    }

    std::shared_ptr<PoolCore> core_ = std::make_shared<PoolCore>(tests::workers(1));  // no process yet
    const WorkerHandle& worker_ = *some_worker(0);
};

TEST_F(ArenaLoanTest, ArenaThatComesBackStaysOnLoanToItsWorker) {
    ErasedCall call;
    ErasedResult result;
    result.changed.emplace_back().applied.emplace(tests::counting_snapshot(1));
    EXPECT_FALSE(lend_moved(*core_, worker_, call, result));
    result.changed.emplace_back().moved_back.emplace(tests::counting_arena(1));
    EXPECT_TRUE(lend_moved(*core_, worker_, call, result));
    const auto loan = vmcow::ArenaAccess::take_loan(*result.changed.back().moved_back);
    ASSERT_NE(loan, nullptr);
    EXPECT_EQ(loan->holder(), &worker_);
}

TEST_F(ArenaLoanTest, LoanOfTheWorkerThatGetsItAgainIsKept) {
    const auto loan = std::make_shared<WorkerLoan>(core_, &worker_);
    ErasedCall call = moving_call(loan);
    recall_moved(worker_, call);
    EXPECT_EQ(call.loan, loan);
    ErasedResult result;
    result.changed.emplace_back().moved_back = std::move(call.images[0].moved);
    EXPECT_TRUE(lend_moved(*core_, worker_, call, result));
    EXPECT_EQ(vmcow::ArenaAccess::take_loan(*result.changed[0].moved_back), loan);
}

// The call goes to another worker, which holds the loan afterwards: recalling the first worker would not stop that one.
TEST_F(ArenaLoanTest, LoanOfAWorkerThatHasMissedTheCallIsForgotten) {
    ErasedCall call = moving_call(std::make_shared<WorkerLoan>(core_, some_worker(1)));
    recall_moved(*some_worker(1), call);
    ASSERT_NE(call.loan, nullptr);
    recall_moved(worker_, call);
    EXPECT_EQ(call.loan, nullptr);
    ErasedResult result;
    result.changed.emplace_back().moved_back = std::move(call.images[0].moved);
    EXPECT_TRUE(lend_moved(*core_, worker_, call, result));
    EXPECT_EQ(vmcow::ArenaAccess::take_loan(*result.changed[0].moved_back)->holder(), &worker_);
}

TEST_F(ArenaLoanTest, EverybodyElseIsRecalled) {
    const auto other = std::make_shared<OtherLoan>();
    ErasedCall call = moving_call(other);
    recall_moved(worker_, call);
    EXPECT_EQ(other->recalls, 1);
    EXPECT_EQ(call.loan, nullptr);
    EXPECT_EQ(vmcow::ArenaAccess::take_loan(*call.images[0].moved), nullptr);
}

// One worker writes to nothing any more, and one worker's pool is gone: neither is waited for.
TEST_F(ArenaLoanTest, OtherWorkerThatWritesToNothingIsRecalledAtOnce) {
    ErasedCall call = moving_call(std::make_shared<WorkerLoan>(core_, some_worker(1)));
    recall_moved(worker_, call);
    EXPECT_EQ(vmcow::ArenaAccess::take_loan(*call.images[0].moved), nullptr);
    call = moving_call(std::make_shared<WorkerLoan>(core_, some_worker(1)));
    core_.reset();
    recall_moved(worker_, call);
    EXPECT_EQ(vmcow::ArenaAccess::take_loan(*call.images[0].moved), nullptr);
}

}  // namespace
