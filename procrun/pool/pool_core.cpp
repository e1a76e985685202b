#include "procrun/pool/pool_core.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <new>
#include <system_error>
#include <utility>

#include "procrun/pool/async_call.hpp"
#include "procrun/pool/async_calls.hpp"
#include "procrun/pool/call_queue.hpp"
#include "procrun/pool/loan_book.hpp"
#include "procrun/pool/worker_set.hpp"
#include "procrun/worker/call_clock.hpp"
#include "procrun/worker/doorbell.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_handle.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/held.hpp"

namespace procrun::detail {
namespace {

Outcome refusal(int error, const char* step) { return {OutcomeKind::not_started, error, step}; }

}  // namespace

PoolCore::PoolCore(PoolOptions options)
    : options_((prepare_clock(), std::move(options))),
      processors_(usable_processors()),
      workers_(std::make_unique<WorkerSet>(options_)),
      loans_(std::make_unique<LoanBook>()),
      queue_(std::make_unique<CallQueue>(options_.queue)),
      async_(std::make_unique<AsyncCalls>([this](std::vector<pollfd>& wakers) { return look_at_calls(wakers); })) {
    if (options_.workers == 0) options_.workers = processors_;
}

void PoolCore::open() { workers_->open(); }

PoolCore::~PoolCore() = default;

bool PoolCore::is_mine() const noexcept { return workers_->are_mine(); }

/// Nothing is destroyed: in a forked process the pool's threads do not exist, and they may have held its locks.
void PoolCore::leave_to_owner(std::shared_ptr<PoolCore> core, std::shared_ptr<AsyncCall> call) {
    using Left = std::pair<std::shared_ptr<PoolCore>, std::shared_ptr<AsyncCall>>;
    static auto* const all = new std::vector<Left>;
    all->emplace_back(std::move(core), std::move(call));
}

// ---- in processes that were forked from the one that made the pool

namespace {

/// The pools of this process that stand in for pools of the process it was forked from. Guarded by fork_lock.
std::map<const PoolCore*, std::shared_ptr<PoolCore>>& stand_ins() {
    static auto* const all = new std::map<const PoolCore*, std::shared_ptr<PoolCore>>;
    return *all;
}

}  // namespace

const std::shared_ptr<PoolCore>& PoolCore::here(const std::shared_ptr<PoolCore>& core) {
    if (core->is_mine()) return core;
    const std::scoped_lock lock(vmcow::fork_lock());
    std::shared_ptr<PoolCore>& stand_in = stand_ins()[core.get()];
    // A stand-in that the parent had made for itself belongs to the parent, as the pool does that it stands in for.
    if (stand_in && !stand_in->is_mine()) leave_to_owner(std::move(stand_in), nullptr);
    if (!stand_in) {
        auto made = std::make_shared<PoolCore>(core->options_);
        made->open();
        stand_in = std::move(made);
    }
    return stand_in;
}

std::shared_ptr<PoolCore> PoolCore::here_or_refusing(const std::shared_ptr<PoolCore>& core) {
    try {
        return here(core);
    } catch (const std::system_error&) {
        return core;
    }
}

std::shared_ptr<PoolCore> PoolCore::found_here(const std::shared_ptr<PoolCore>& core) {
    if (core->is_mine()) return core;
    const std::scoped_lock lock(vmcow::fork_lock());
    const auto found = stand_ins().find(core.get());
    return found != stand_ins().end() && found->second && found->second->is_mine() ? found->second : core;
}

void PoolCore::end(std::shared_ptr<PoolCore> core) {
    if (core->is_mine()) return core->shut_down();
    std::shared_ptr<PoolCore> stand_in = found_here(core);
    if (stand_in == core) return leave_to_owner(std::move(core), nullptr);
    {
        const std::scoped_lock lock(vmcow::fork_lock());
        stand_ins().erase(core.get());
    }
    leave_to_owner(std::move(core), nullptr);
    stand_in->shut_down();
}

void PoolCore::call_here(const std::shared_ptr<PoolCore>& core, ErasedCall& call, ErasedResult& result) {
    try {
        here(core)->call(call, result);
    } catch (const std::system_error& error) {
        result.outcome = refusal_of(error, "make a pool in a process that was forked from the pool's own");
        complete(call, result);
    }
}

// ---- workers

Outcome PoolCore::pool_has_ended() { return {OutcomeKind::cancelled, 0, "because the pool has ended"}; }

/// Whether busy workers are fewer than processors: with more, spinning would take a processor from one of them.
bool PoolCore::may_spin(const Lock& lock) const noexcept { return workers_->busy(lock) < processors_; }

WorkerHandle* PoolCore::take_idle(const Lock& lock, std::span<const ImageArgument> images) {
    while (WorkerHandle* const worker = workers_->take_idle(lock, images)) {
        if (worker->take_if_idle()) return worker;
        static_cast<void>(workers_->take_out(lock, worker));  // it has retired
        loans_->remove(lock, worker);
    }
    return nullptr;
}

PoolCore::Taken PoolCore::make_worker(Lock& lock, ErasedCall& call) {
    call.was_queued = true;
    const Deadline deadline = call.options.deadline;
    try {
        return {workers_->make(lock, deadline)};
    } catch (const std::system_error& error) {
        const bool late = error.code() == std::errc::timed_out && deadline.passed();
        if (late) return {nullptr, Outcome{OutcomeKind::deadline_passed, 0, {}}};
        return {nullptr, refusal_of(error, "start a function process")};
    } catch (const std::bad_alloc&) {
        return {nullptr, refusal(ENOMEM, "start a function process")};
    }
}

/// A worker, if one can be had without waiting for another call's.
PoolCore::Taken PoolCore::take_or_make(Lock& lock, ErasedCall& call) {
    if (WorkerHandle* const idle = take_idle(lock, call.images)) return {idle};
    if (!workers_->has_room(lock)) return {};
    return make_worker(lock, call);
}

PoolCore::Taken PoolCore::wait_for_worker(Lock& lock, ErasedCall& call) {
    call.was_queued = true;
    if (queue_->is_full(lock)) return {nullptr, refusal(EAGAIN, "queue of calls is full")};
    CallQueue::Waiter waiter;
    if (!queue_->wait(lock, waiter, call.options.deadline)) {
        return {nullptr, closed_ ? pool_has_ended() : Outcome{OutcomeKind::deadline_passed, 0, {}}};
    }
    if (waiter.turn == CallQueue::Turn::worker) return {waiter.worker};
    if (waiter.turn == CallQueue::Turn::room) workers_->give_up_room(lock);
    if (closed_) return {nullptr, pool_has_ended()};
    Taken made = make_worker(lock, call);
    if (made.worker == nullptr) serve_queue(lock);
    return made;
}

WorkerHandle* PoolCore::acquire(ErasedCall& call, ErasedResult& result) {
    Lock lock(mutex_);
    Taken taken;
    if (closed_) {
        taken.refusal = pool_has_ended();
    } else if (queue_->is_empty(lock)) {
        taken = take_or_make(lock, call);
        if (taken.refusal) serve_queue(lock);  // calls that were queued meanwhile may still find a worker
    }
    if (taken.has_to_wait()) taken = wait_for_worker(lock, call);
    if (taken.worker != nullptr) {
        call.may_spin = may_spin(lock);
    } else {
        result.outcome = *std::move(taken.refusal);
    }
    return taken.worker;
}

/// Ends a worker, with the lock given up meanwhile. A caller that waits for an arena moved to it is woken when the
/// worker has ended.
void PoolCore::remove(Lock& lock, WorkerHandle* worker) {
    std::unique_ptr<WorkerHandle> owned = workers_->take_out(lock, worker);
    lock.unlock();
    owned.reset();
    lock.lock();
    loans_->remove(lock, worker);
}

void PoolCore::set_idle(const Lock& lock, WorkerHandle* worker) {
    workers_->give_back(lock, worker);
    loans_->note_idle(lock, worker);
}

void PoolCore::release(WorkerHandle* worker) {
    Lock lock(mutex_);
    if (worker->is_spent()) {
        remove(lock, worker);
    } else {
        set_idle(lock, worker);
    }
    serve_queue(lock);
}

/// Gives workers, or room for new ones, to the calls that have waited longest.
void PoolCore::serve_queue(Lock& lock) {
    while (!queue_->is_empty(lock)) {
        if (!workers_->has_idle(lock) && !workers_->has_room(lock)) return;
        const CallQueue::Entry next = queue_->pop(lock);
        if (next.waiter != nullptr) {
            WorkerHandle* const worker = take_idle(lock, {});
            if (worker == nullptr) workers_->keep_room(lock);
            CallQueue::call(lock, *next.waiter, worker);
            continue;
        }
        Taken taken = take_or_make(lock, next.async->call);
        if (taken.has_to_wait()) return queue_->push_front(lock, next.async);
        lock.unlock();
        run_on(next.async, std::move(taken));
        lock.lock();
    }
}

// ---- moved arenas

void PoolCore::unmap_moved(WorkerHandle& worker, Deadline deadline) noexcept {
    static_cast<void>(worker.unmap_moved(deadline));
    const Lock lock(mutex_);
    loans_->remove(lock, &worker);
}

/// Before a call: recalls the arenas that it moves from other workers, and has `worker` unmap the arenas of earlier
/// calls. So a worker that serves one call can write to no arena of another call (I3).
void PoolCore::prepare_moved(WorkerHandle& worker, ErasedCall& call) {
    if (worker.has_moved_but(call)) unmap_moved(worker, call.options.deadline);
    recall_moved(worker, call);
}

void PoolCore::return_moved(WorkerHandle& worker, ErasedCall& call, ErasedResult& result) {
    if (worker.is_spent() || !lend_moved(*this, worker, call, result)) return;
    const Lock lock(mutex_);
    loans_->add(lock, &worker);
}

void PoolCore::reclaim_from(const WorkerHandle* worker, Deadline deadline) noexcept {
    WorkerHandle* found = nullptr;
    {
        Lock lock(mutex_);
        const auto is_idle = [&] { return workers_->is_idle(lock, worker); };
        if (!loans_->wait_until_idle(lock, worker, deadline, is_idle) || !loans_->has(lock, worker)) return;
        found = workers_->take_if_idle(lock, worker);
        if (!found->take_if_idle()) {  // it has retired
            remove(lock, found);
            return;
        }
    }
    unmap_moved(*found, deadline);
    release(found);
}

// ---- calls

/// Whether a call that its worker has not run is given to another one. At most 8 attempts: whatever has killed an idle
/// worker may kill the next ones, too.
bool PoolCore::goes_to_another(const WorkerHandle& worker, int attempts) noexcept {
    constexpr int kMostAttempts = 8;
    return worker.missed_call() && attempts < kMostAttempts;
}

/// Completes a result: says whether a moved value is gone with the call, and how long the call took.
void PoolCore::complete(const ErasedCall& call, ErasedResult& result) {
    const auto is_moved = [](const ImageArgument& image) {
        return image.mode == ImageMode::moved || image.is_last_use;
    };
    if (!result.outcome.ok() && std::any_of(call.images.begin(), call.images.end(), is_moved)) {
        result.outcome.text += result.outcome.text.empty() ? "the moved value is gone" : "; the moved value is gone";
    }
    if (result.cost.seconds == 0) result.cost.seconds = static_cast<double>(now_ns() - call.asked_ns) * 1e-9;
}

void PoolCore::call(ErasedCall& call, ErasedResult& result) {
    if (!is_mine()) {
        result.outcome = refusal(EPERM, "call through a pool of another process");
        return complete(call, result);
    }
    for (int attempts = 1;; ++attempts) {
        WorkerHandle* const worker = acquire(call, result);
        if (worker == nullptr) break;
        prepare_moved(*worker, call);
        worker->start(call, result);
        worker->wait_until_done();
        return_moved(*worker, call, result);
        const bool again = goes_to_another(*worker, attempts);
        release(worker);
        if (!again) break;
        result = ErasedResult{};
    }
    complete(call, result);
}

// ---- the end

void PoolCore::trim() {
    if (!is_mine()) return;
    Lock lock(mutex_);
    auto ended = workers_->take_out_idle(lock);
    lock.unlock();
    end_all(std::move(ended));
}

/// Ends workers without the lock: kills all of them before it waits for the first. A caller that waits for an arena
/// moved to one of them is woken when that worker has ended.
void PoolCore::end_all(std::vector<std::unique_ptr<WorkerHandle>> workers) {
    for (const auto& worker : workers) worker->kill();
    for (auto& worker : workers) {
        const WorkerHandle* const ended = worker.get();
        worker.reset();
        const Lock lock(mutex_);
        loans_->remove(lock, ended);
    }
}

void PoolCore::shut_down() {
    if (!is_mine()) return;
    Lock lock(mutex_);
    closed_ = true;
    const auto running = async_->running(lock);
    const auto queued = queue_->close(lock);
    lock.unlock();
    for (const auto& call : queued) fail(call, pool_has_ended());
    // All are killed before the first is waited for, so that workers which end slowly do so at the same time.
    for (const auto& call : running) {
        const Lock call_lock(call->mutex);
        if (call->state == AsyncCall::State::running) call->worker->kill();
    }
    for (const auto& call : running) cancel(call);
    async_->join_watcher();
    trim();
}

PoolStatus PoolCore::status() {
    PoolStatus status;
    if (!is_mine()) return status;
    Lock lock(mutex_);
    // Workers that have retired still stand among the idle ones.
    auto retired = workers_->take_out_retired(lock);
    status.workers = workers_->size(lock);
    status.idle_pids = workers_->idle_pids(lock);
    status.idle = status.idle_pids.size();
    status.queued = queue_->size(lock);
    status.zygote_pid = workers_->zygote_pid();
    status.keeper_pid = workers_->keeper_pid();
    lock.unlock();
    end_all(std::move(retired));
    return status;
}

void refuse_moved_from_future(const char* call) noexcept { vmcow::sys::used_after_move("procrun::CallFuture", call); }

}  // namespace procrun::detail
