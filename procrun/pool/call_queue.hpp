#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pool/async_call.hpp"
#include "procrun/pool/pool_lock.hpp"

namespace procrun::detail {

/// The calls that wait for a worker, in their order. A synchronous call is represented by the thread that waits.
///
/// Threads: any that holds the pool's lock.
class CallQueue {
public:
    /// Why a waiting thread is woken.
    enum class Turn : std::uint8_t {
        none,    ///< it still waits
        worker,  ///< there is a worker for it
        room,    ///< there is room for a new worker, kept for it
        closed,  ///< the pool has ended: there will be no worker
    };
    /// A thread that waits. The object must not move meanwhile.
    struct Waiter {
        std::condition_variable called;
        Turn turn = Turn::none;
        WorkerHandle* worker = nullptr;
    };
    /// A waiting thread or an asynchronous call; the other member is null.
    struct Entry {
        Waiter* waiter = nullptr;
        std::shared_ptr<AsyncCall> async;
    };

    explicit CallQueue(std::size_t most) noexcept : most_(most) {}

    [[nodiscard]] bool is_empty(const PoolLock& held) const noexcept;
    [[nodiscard]] bool is_full(const PoolLock& held) const noexcept;
    [[nodiscard]] std::size_t size(const PoolLock& held) const noexcept;

    void push(const PoolLock& held, std::shared_ptr<AsyncCall> call);
    /// Puts a call before all others, because it has waited for its turn already.
    void push_front(const PoolLock& held, std::shared_ptr<AsyncCall> call);
    /// Waits for the waiter's turn, with the lock given up. False when the deadline has passed first; then the waiter
    /// is out of the queue.
    [[nodiscard]] bool wait(PoolLock& lock, Waiter& waiter, Deadline deadline);

    /// Takes out the entry that has waited longest. Pre: the queue is not empty.
    [[nodiscard]] Entry pop(const PoolLock& held);
    /// Wakes a thread that was taken out, and gives it `worker` or, for nullptr, the room for a new one.
    static void call(const PoolLock& held, Waiter& waiter, WorkerHandle* worker) noexcept;

    /// Takes out this call, if it is there.
    void remove(const PoolLock& held, const std::shared_ptr<AsyncCall>& call);
    /// Takes out the asynchronous calls whose deadline has passed. Brings `next` forward to the earliest deadline of
    /// the other ones.
    [[nodiscard]] std::vector<std::shared_ptr<AsyncCall>> take_late(const PoolLock& held, Deadline& next);
    /// Takes out all entries: wakes the threads and returns the asynchronous calls.
    [[nodiscard]] std::vector<std::shared_ptr<AsyncCall>> close(const PoolLock& held);

private:
    std::size_t most_;
    std::deque<Entry> entries_;
};

}  // namespace procrun::detail
