#pragma once

#include <condition_variable>
#include <memory>
#include <set>

#include "procrun/deadline.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "vmcow/image/arena_access.hpp"

namespace procrun::detail {

class PoolCore;

/// The loan of a moved arena: its worker has the arena still mapped, until the arena's owner recalls it.
class WorkerLoan final : public vmcow::Loan {
public:
    WorkerLoan(std::weak_ptr<PoolCore> core, const WorkerHandle* worker) noexcept;

    void recall() noexcept override { recall_by(Deadline::never()); }
    /// Recalls the arena for a call with a deadline. A call that is late does not wait for it: the moved arena is gone
    /// then.
    void recall_by(Deadline deadline) noexcept;
    [[nodiscard]] const void* holder() const noexcept override { return worker_; }

private:
    std::weak_ptr<PoolCore> core_;
    const WorkerHandle* worker_;
};

/// Before a call: recalls each arena that it moves from other workers that may still write to the arena (I3). Keeps in
/// `call.loan` the loan of an arena that `worker` has mapped already.
/// Pre: the pool's lock is not held, because recalling takes it.
void recall_moved(const WorkerHandle& worker, ErasedCall& call);
/// After a call: leaves the arenas that have come back on loan to `worker`. False when none has.
[[nodiscard]] bool lend_moved(PoolCore& core, const WorkerHandle& worker, ErasedCall& call, ErasedResult& result);

/// The workers that may still write to an arena that was moved to them.
///
/// Threads: any that holds the pool's lock.
class LoanBook {
public:
    void add(const PoolLock& held, const WorkerHandle* worker);
    /// Notes that the worker has unmapped all moved arenas, or has ended.
    void remove(const PoolLock& held, const WorkerHandle* worker) noexcept;
    /// Notes that the worker has become idle, so that it can be told to unmap.
    void note_idle(const PoolLock& held, const WorkerHandle* worker) noexcept;
    [[nodiscard]] bool has(const PoolLock& held, const WorkerHandle* worker) const noexcept;

    /// Waits, with the lock given up, until the worker can write to no moved arena any more or is idle (`is_idle`), so
    /// that it can be told to unmap. False when the deadline has passed first. A busy worker unmaps before its next
    /// call.
    template <class IsIdle>
    [[nodiscard]] bool wait_until_idle(PoolLock& lock, const WorkerHandle* worker, Deadline deadline,
                                       IsIdle&& is_idle) {
        const auto is_free = [&] { return !has(lock, worker) || is_idle(); };
        if (const auto left = deadline.remaining()) return changed_.wait_for(lock, *left, is_free);
        changed_.wait(lock, is_free);
        return true;
    }

private:
    std::set<const WorkerHandle*> writers_;
    std::condition_variable changed_;
};

}  // namespace procrun::detail
