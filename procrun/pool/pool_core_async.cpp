// The asynchronous half of PoolCore: calls that go on while their caller does something else.
#include <algorithm>
#include <cerrno>
#include <functional>
#include <system_error>
#include <utility>

#include "procrun/pool/async_call.hpp"
#include "procrun/pool/async_calls.hpp"
#include "procrun/pool/call_queue.hpp"
#include "procrun/pool/pool_core.hpp"
#include "procrun/pool/worker_set.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/worker_handle.hpp"

namespace procrun::detail {

void PoolCore::start(const std::shared_ptr<AsyncCall>& call) {
    if (!is_mine()) return fail(call, {OutcomeKind::not_started, EPERM, "call through a pool of another process"});
    Lock lock(mutex_);
    if (closed_) {
        lock.unlock();
        return fail(call, pool_has_ended());
    }
    try {
        async_->start_watcher(lock);
    } catch (const std::system_error& error) {
        lock.unlock();
        return fail(call, {OutcomeKind::not_started, error.code().value(), "start the thread that watches calls"});
    }
    Taken taken;
    if (queue_->is_empty(lock)) taken = take_or_make(lock, call->call);
    if (taken.has_to_wait()) {
        if (queue_->is_full(lock)) {
            lock.unlock();
            return fail(call, {OutcomeKind::not_started, EAGAIN, "queue of calls is full"});
        }
        call->call.was_queued = true;
        queue_->push(lock, call);
        lock.unlock();
        if (!call->call.options.deadline.is_never()) async_->wake_watcher();
        return;
    }
    const bool refused = taken.refusal.has_value();
    lock.unlock();
    run_on(call, std::move(taken));
    if (!refused) return;
    lock.lock();
    serve_queue(lock);  // calls that were queued meanwhile may still find a worker
}

/// Gives the call to the worker, or says why none could be made.
void PoolCore::run_on(const std::shared_ptr<AsyncCall>& call, Taken taken) {
    if (taken.worker == nullptr) return fail(call, *std::move(taken.refusal));
    WorkerHandle* const worker = taken.worker;
    Lock call_lock(call->mutex);
    bool runs = call->state != AsyncCall::State::done;
    if (runs) {
        // prepare_moved may wait for the end of other calls, which the watcher has to see. The watcher must not wait
        // for this call's lock meanwhile, so the call is added to the running ones only afterwards.
        prepare_moved(*worker, call->call);
        const Lock lock(mutex_);
        runs = !closed_;
        if (runs) async_->add(lock, call);
        call->call.may_spin = may_spin(lock);
    }
    if (!runs) {  // it was cancelled while its worker was being made, or the pool has ended since
        call_lock.unlock();
        release(worker);
        return fail(call, pool_has_ended());
    }
    call->state = AsyncCall::State::running;
    call->worker = worker;
    ++call->attempts;
    worker->start(call->call, call->result);
    if (worker->is_done()) return finish(call_lock, call);
    call_lock.unlock();
    async_->wake_watcher();
}

/// Completes a call that is done and wakes the threads that wait for it. The function returned has to be called without
/// locks.
std::function<void()> PoolCore::conclude(const Lock&, AsyncCall& call) {
    complete(call.call, call.result);
    call.done.notify_all();
    return std::exchange(call.on_done, nullptr);
}

/// Finishes a call that its worker is done with, and frees the worker for the next one. Gives up the call's lock. The
/// call's state and the worker's are written under the pool's lock together, so that a thread which sees the call done
/// sees its worker idle.
void PoolCore::finish(Lock& call_lock, const std::shared_ptr<AsyncCall>& call) {
    WorkerHandle* const worker = std::exchange(call->worker, nullptr);
    return_moved(*worker, call->call, call->result);
    const bool missed = goes_to_another(*worker, call->attempts);
    const bool spent = worker->is_spent();
    {
        const Lock lock(mutex_);
        async_->remove(lock, call);
        if (!spent) set_idle(lock, worker);
        if (missed && !closed_) {
            call->state = AsyncCall::State::queued;
            call->call.was_queued = true;
            call->result = ErasedResult{};
            queue_->push_front(lock, call);
        } else {
            call->state = AsyncCall::State::done;
        }
    }
    std::function<void()> on_done;
    if (call->state == AsyncCall::State::done) on_done = conclude(call_lock, *call);
    call_lock.unlock();
    {
        Lock lock(mutex_);
        if (spent) remove(lock, worker);
        serve_queue(lock);
    }
    if (on_done) on_done();
}

void PoolCore::fail(const std::shared_ptr<AsyncCall>& call, Outcome outcome) {
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::done) return;
    call->result.outcome = std::move(outcome);
    call->state = AsyncCall::State::done;
    const std::function<void()> on_done = conclude(lock, *call);
    lock.unlock();
    if (on_done) on_done();
}

bool PoolCore::wait(const std::shared_ptr<AsyncCall>& call, Deadline deadline) {
    if (!is_mine()) {
        // This is a copy of a call that goes on in another process. No other thread is here, and a thread of that
        // process may have held the call's lock at the fork.
        leave_to_owner(shared_from_this(), call);
        if (call->state == AsyncCall::State::done) return true;
        call->result = ErasedResult{};
        call->result.outcome = {OutcomeKind::not_started, EPERM, "wait for a call of another process"};
        call->state = AsyncCall::State::done;
        return true;
    }
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::running) {
        call->worker->spin();
        if (call->worker->is_done()) {
            finish(lock, call);
            lock.lock();  // the call may have been given to another worker
        }
    }
    const auto is_done = [&] { return call->state == AsyncCall::State::done; };
    if (const auto left = deadline.remaining()) return call->done.wait_for(lock, *left, is_done);
    call->done.wait(lock, is_done);
    return true;
}

void PoolCore::cancel(const std::shared_ptr<AsyncCall>& call) {
    if (!is_mine()) return;
    {
        const Lock lock(mutex_);
        queue_->remove(lock, call);
    }
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::running) {
        call->worker->cancel();
        return finish(lock, call);
    }
    lock.unlock();
    fail(call, {OutcomeKind::cancelled, 0, "in the queue"});
}

// ---- the watcher's look

/// Finishes the calls that are done. Adds what to wait for to `wakers`, and returns for how long; nullopt at the pool's
/// end.
std::optional<Deadline> PoolCore::look_at_calls(std::vector<pollfd>& wakers) {
    std::vector<std::shared_ptr<AsyncCall>> running;
    {
        const Lock lock(mutex_);
        running = async_->running(lock);
        if (closed_ && running.empty()) return std::nullopt;
    }
    Deadline next = Deadline::never();
    for (const auto& call : running) {
        Lock lock(call->mutex);
        if (call->state != AsyncCall::State::running) continue;
        WorkerHandle& worker = *call->worker;
        if (!worker.look_before_sleep()) {
            finish(lock, call);
            continue;
        }
        next = earlier(next, worker.next_look());
        const auto of_worker = worker.wakers();
        wakers.insert(wakers.end(), of_worker.begin(), of_worker.end());
    }
    return earlier(next, drop_late_calls());
}

/// Fails the queued calls whose deadline has passed. Returns the next deadline of the others.
Deadline PoolCore::drop_late_calls() {
    Deadline next = Deadline::never();
    std::vector<std::shared_ptr<AsyncCall>> late;
    {
        const Lock lock(mutex_);
        late = queue_->take_late(lock, next);
    }
    for (const auto& call : late) fail(call, {OutcomeKind::deadline_passed, 0, {}});
    return next;
}

}  // namespace procrun::detail
