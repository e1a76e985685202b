// Calls that go on while their caller does something else: the asynchronous half of PoolCore.
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <functional>
#include <system_error>
#include <utility>

#include "procrun/call_clock.hpp"
#include "procrun/doorbell.hpp"
#include "procrun/poll_until.hpp"
#include "procrun/pool_core.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {

void PoolCore::start(const std::shared_ptr<AsyncCall>& call) {
    if (!is_mine()) return fail(call, {OutcomeKind::not_started, EPERM, "call through a pool of another process"});
    Lock lock(mutex_);
    if (closed_) {
        lock.unlock();
        return fail(call, {OutcomeKind::cancelled, 0, "because the pool has ended"});
    }
    try {
        start_watcher();
    } catch (const std::system_error& error) {
        lock.unlock();
        return fail(call, {OutcomeKind::not_started, error.code().value(), "start the thread that watches calls"});
    }
    WarmProcess* worker = nullptr;
    bool refused = false;
    if (queue_.empty()) worker = take_or_make(lock, call->call, call->result, refused);
    if (worker == nullptr && !refused) {
        if (queue_.size() >= options_.queue) {
            lock.unlock();
            return fail(call, {OutcomeKind::not_started, EAGAIN, "queue of calls is full"});
        }
        call->call.waited = true;
        queue_.push_back({nullptr, call});
        lock.unlock();
        if (!call->call.options.deadline.is_never()) wake_watcher();
        return;
    }
    lock.unlock();
    run_on(call, worker);
}

/// Gives the call to the worker; `worker` is nullptr when none could be made, which the result says already.
void PoolCore::run_on(const std::shared_ptr<AsyncCall>& call, WarmProcess* worker) {
    Lock call_lock(call->mutex);
    if (worker == nullptr || call->state == AsyncCall::State::done) {
        if (worker != nullptr) {  // cancelled meanwhile
            call_lock.unlock();
            return release(worker);
        }
        say_what_is_gone(call->call, call->result);
        call->state = AsyncCall::State::done;
        call->done.notify_all();
        return tell(call_lock, *call);
    }
    call->state = AsyncCall::State::running;
    call->worker = worker;
    ++call->attempts;
    prepare_moved(*worker, call->call);
    {
        const std::scoped_lock lock(mutex_);
        running_.push_back(call);
        call->call.may_spin = may_spin();
    }
    worker->start(call->call, call->result);
    if (worker->is_done()) return finish(call_lock, call);
    call_lock.unlock();
    wake_watcher();
}

/// The worker is done with the call: frees it for the next one. Gives up the call's lock.
void PoolCore::finish(Lock& call_lock, const std::shared_ptr<AsyncCall>& call) {
    WarmProcess* const worker = std::exchange(call->worker, nullptr);
    lend_back(*worker, call->call, call->result);
    const bool again = worker->missed_call() && call->attempts < kMostAttempts;
    {
        const std::scoped_lock lock(mutex_);
        std::erase(running_, call);
        if (again && !closed_) {
            call->state = AsyncCall::State::queued;
            call->call.waited = true;
            call->result = ErasedResult{};
            queue_.push_front({nullptr, call});
        } else {
            call->state = AsyncCall::State::done;
        }
    }
    if (call->state == AsyncCall::State::done) {
        say_what_is_gone(call->call, call->result);
        if (call->result.cost.seconds == 0) {
            call->result.cost.seconds = static_cast<double>(now_ns() - call->call.asked_ns) * 1e-9;
        }
        call->done.notify_all();
    }
    std::function<void()> on_done;
    if (call->state == AsyncCall::State::done) on_done = std::exchange(call->on_done, nullptr);
    call_lock.unlock();
    release(worker);
    if (on_done) on_done();
}

/// Gives up the call's lock.
void PoolCore::tell(Lock& call_lock, AsyncCall& call) {
    const std::function<void()> on_done = std::exchange(call.on_done, nullptr);
    call_lock.unlock();
    if (on_done) on_done();
}

void PoolCore::fail(const std::shared_ptr<AsyncCall>& call, Outcome outcome) {
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::done) return;
    call->result.outcome = std::move(outcome);
    say_what_is_gone(call->call, call->result);
    call->result.cost.seconds = static_cast<double>(now_ns() - call->call.asked_ns) * 1e-9;
    call->state = AsyncCall::State::done;
    call->done.notify_all();
    tell(lock, *call);
}

bool PoolCore::wait(const std::shared_ptr<AsyncCall>& call, Deadline deadline) {
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::running) {
        call->worker->spin();
        if (call->worker->is_done()) {
            finish(lock, call);
            lock.lock();  // it may have been given to another worker
        }
    }
    const auto is_done = [&] { return call->state == AsyncCall::State::done; };
    if (const auto left = deadline.remaining()) return call->done.wait_for(lock, *left, is_done);
    call->done.wait(lock, is_done);
    return true;
}

void PoolCore::cancel(const std::shared_ptr<AsyncCall>& call) {
    {
        const std::scoped_lock lock(mutex_);
        const auto queued =
            std::find_if(queue_.begin(), queue_.end(), [&](const Queued& each) { return each.async == call; });
        if (queued != queue_.end()) queue_.erase(queued);
    }
    Lock lock(call->mutex);
    if (call->state == AsyncCall::State::running) {
        call->worker->cancel();
        return finish(lock, call);
    }
    lock.unlock();
    fail(call, {OutcomeKind::cancelled, 0, "in the queue"});
}

// ---- the watcher

void PoolCore::start_watcher() {
    if (watcher_.joinable()) return;
    wake_ = vmcow::sys::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_) vmcow::sys::throw_errno("start the thread that watches calls");
    // Signals are the business of the caller's own threads.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        watcher_ = std::thread([this] { watch(); });
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void PoolCore::wake_watcher() noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(::write(wake_.get(), &one, sizeof(one)));  // full: it is awake
}

void PoolCore::watch() {
    ::prctl(PR_SET_NAME, "vmcow-pool");
    std::vector<pollfd> entries;
    while (true) {
        {
            const std::scoped_lock lock(mutex_);
            if (closed_ && running_.empty()) return;
        }
        entries.assign(1, pollfd{wake_.get(), POLLIN, 0});
        const Deadline next = earlier(look_at_all(entries), drop_late_calls());
        poll_until(entries, next, "watch calls");
        if (entries[0].revents != 0) {
            std::uint64_t count = 0;
            static_cast<void>(::read(wake_.get(), &count, sizeof(count)));
        }
    }
}

/// Finishes what is done, and says what to wait for and how long.
Deadline PoolCore::look_at_all(std::vector<pollfd>& entries) {
    std::vector<std::shared_ptr<AsyncCall>> running;
    {
        const std::scoped_lock lock(mutex_);
        running = running_;
    }
    Deadline next = Deadline::never();
    for (const auto& call : running) {
        Lock lock(call->mutex);
        if (call->state != AsyncCall::State::running) continue;
        WarmProcess& worker = *call->worker;
        worker.look();
        if (!worker.is_done() && !worker.lie_down()) worker.look();
        if (worker.is_done()) {
            finish(lock, call);
            continue;
        }
        next = earlier(next, worker.next_look());
        entries.push_back({worker.reply_fd(), POLLIN, 0});
        entries.push_back({worker.pidfd(), POLLIN, 0});
    }
    return next;
}

/// Calls whose deadline passes in the queue.
Deadline PoolCore::drop_late_calls() {
    std::vector<std::shared_ptr<AsyncCall>> late;
    Deadline next = Deadline::never();
    {
        const std::scoped_lock lock(mutex_);
        std::erase_if(queue_, [&](const Queued& queued) {
            if (!queued.async) return false;
            const Deadline deadline = queued.async->call.options.deadline;
            if (deadline.passed()) {
                late.push_back(queued.async);
                return true;
            }
            next = earlier(next, deadline);
            return false;
        });
    }
    for (const auto& call : late) fail(call, {OutcomeKind::deadline_passed, 0, {}});
    return next;
}

}  // namespace procrun::detail
