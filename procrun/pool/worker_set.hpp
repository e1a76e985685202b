#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "procrun/worker/worker_main.hpp"
#include "procrun/worker/zygote_client.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace procrun::detail {

/// The workers of a pool, which of them are idle, and the zygote that they are forked from.
///
/// No member ends a worker, because that takes up to a second. The caller of `take_out` does, without the lock.
///
/// Threads: any that holds the pool's lock.
class WorkerSet {
public:
    using Owned = std::unique_ptr<WorkerHandle>;

    /// Forks nothing yet. Pre: `options` outlive the set.
    explicit WorkerSet(const PoolOptions& options);
    /// Forks the zygote. Throws: std::system_error -- as ZygoteClient.
    void open() { zygote_.emplace(config_); }
    /// False in a process that was forked from the one that has made the set. Needs no lock.
    [[nodiscard]] bool are_mine() const noexcept { return owner_.has_this_memory(); }

    /// Takes an idle worker: one that knows the first of `images`, else the one that was used last. nullptr when none
    /// is idle. The worker may have retired (WorkerHandle::take_if_idle).
    [[nodiscard]] WorkerHandle* take_idle(const PoolLock& held, std::span<const ImageArgument> images);
    /// Takes `worker` if it is idle, else nullptr. It may have retired, as in `take_idle`.
    [[nodiscard]] WorkerHandle* take_if_idle(const PoolLock& held, const WorkerHandle* worker);
    [[nodiscard]] bool is_idle(const PoolLock& held, const WorkerHandle* worker) const noexcept;
    /// Makes a worker idle: its call is done, and it can be given the next one.
    void give_back(const PoolLock& held, WorkerHandle* worker);

    /// Whether there may be one more worker.
    [[nodiscard]] bool has_room(const PoolLock& held) const noexcept;
    /// Keeps the room of one worker for a thread that is going to make it.
    void keep_room(const PoolLock& held) noexcept;
    /// Gives up the room that `keep_room` has kept.
    void give_up_room(const PoolLock& held) noexcept;
    /// Forks a worker, which is not idle. Gives up the lock meanwhile, and keeps the worker's room.
    /// Throws: std::system_error -- as WorkerHandle; std::bad_alloc. The lock is held then, too.
    [[nodiscard]] WorkerHandle* make(PoolLock& lock, Deadline deadline);

    /// Removes a worker from the set and hands it over; nullptr if it was taken out already.
    [[nodiscard]] Owned take_out(const PoolLock& held, const WorkerHandle* worker);
    /// Takes out all idle workers.
    [[nodiscard]] std::vector<Owned> take_out_idle(const PoolLock& held);
    /// Takes out the idle workers that have retired.
    [[nodiscard]] std::vector<Owned> take_out_retired(const PoolLock& held);

    /// How many workers there are, with those that are being made.
    [[nodiscard]] std::size_t size(const PoolLock& held) const noexcept;
    [[nodiscard]] std::size_t busy(const PoolLock& held) const noexcept;
    [[nodiscard]] std::vector<pid_t> idle_pids(const PoolLock& held) const;
    [[nodiscard]] bool has_idle(const PoolLock& held) const noexcept;
    [[nodiscard]] pid_t zygote_pid() const { return zygote_->zygote_pid(); }
    [[nodiscard]] pid_t keeper_pid() const { return zygote_->keeper_pid(); }

private:
    const PoolOptions& options_;
    WorkerConfig config_;
    vmcow::sys::OwnerProcess owner_;
    std::optional<ZygoteClient> zygote_;
    std::vector<Owned> workers_;
    std::size_t being_made_ = 0;
    std::vector<WorkerHandle*> idle_;  // the last one was used last
};

}  // namespace procrun::detail
