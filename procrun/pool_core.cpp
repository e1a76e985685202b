#include "procrun/pool_core.hpp"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <iterator>
#include <new>
#include <system_error>
#include <utility>

#include "procrun/call_clock.hpp"
#include "procrun/doorbell.hpp"
#include "procrun/poll_until.hpp"
#include "vmcow/copy_costs.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {
namespace {

/// Counts the forks that lie between this process and the first one of the program.
std::uint64_t process_generation() noexcept {
    static std::atomic<std::uint64_t> generation{0};
    static const int registered =
        ::pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
    static_cast<void>(registered);
    return generation.load(std::memory_order_relaxed);
}

Outcome refusal(int error, const char* step) { return {OutcomeKind::not_started, error, step}; }

/// The worker that has had an arena moved to it, until the arena's owner wants it for himself.
class WorkerLoan final : public vmcow::Loan {
public:
    WorkerLoan(std::weak_ptr<PoolCore> core, const WarmProcess* worker) : core_(std::move(core)), worker_(worker) {}

    void call_back() noexcept override {
        if (const auto core = core_.lock(); core && core->is_mine()) core->call_back(worker_);
    }
    [[nodiscard]] const void* holder() const noexcept override { return worker_; }

private:
    std::weak_ptr<PoolCore> core_;
    const WarmProcess* worker_;
};

}  // namespace

PoolCore::PoolCore(PoolOptions options)
    : options_((prepare_clock(), std::move(options))),
      config_{options_.idle_time, options_.resident_budget,
              options_.copy_costs ? *options_.copy_costs : vmcow::CopyCosts::measure(), options_.at_step},
      processors_(usable_processors()),
      process_(process_generation()),
      zygote_(config_) {
    if (options_.workers == 0) options_.workers = processors_;
}

PoolCore::~PoolCore() = default;

bool PoolCore::is_mine() const noexcept { return process_generation() == process_; }

/// Only as many processes as there are processors beside the caller's own. Under the lock.
bool PoolCore::may_spin() const noexcept { return workers_.size() - idle_.size() < processors_; }

// ---- workers

/// An idle worker, best one that has the first image already, else the one that was used last. Under the lock.
WarmProcess* PoolCore::take_idle(const ErasedCall& call) {
    while (!idle_.empty()) {
        auto chosen = std::prev(idle_.end());
        if (call.images.size() > 0 && idle_.size() > 1) {
            const auto knows = [&](const WarmProcess* worker) { return worker->knows(call.images[0]); };
            const auto found = std::find_if(idle_.rbegin(), idle_.rend(), knows);
            if (found != idle_.rend()) chosen = std::prev(found.base());
        }
        WarmProcess* const worker = *chosen;
        idle_.erase(chosen);
        if (worker->occupy()) return worker;
        static_cast<void>(take_out(worker));  // it has ended by itself
        lent_.erase(worker);
        lent_changed_.notify_all();
    }
    return nullptr;
}

WarmProcess* PoolCore::make_worker(Lock& lock, ErasedCall& call, ErasedResult& result) {
    call.waited = true;
    ++being_made_;
    lock.unlock();
    std::unique_ptr<WarmProcess> made;
    try {
        made = std::make_unique<WarmProcess>(zygote_, options_);
    } catch (const std::system_error& error) {
        result.outcome = refusal_of(error, "start a function process");
    } catch (const std::bad_alloc&) {
        result.outcome = refusal(ENOMEM, "start a function process");
    }
    lock.lock();
    --being_made_;
    if (!made) return nullptr;
    static_cast<void>(made->occupy());
    workers_.push_back(std::move(made));
    return workers_.back().get();
}

/// A worker, if one can be had without waiting; `refused` when the kernel would not give one.
WarmProcess* PoolCore::take_or_make(Lock& lock, ErasedCall& call, ErasedResult& result, bool& refused) {
    if (WarmProcess* const idle = take_idle(call)) return idle;
    if (workers_.size() + being_made_ >= options_.workers) return nullptr;
    WarmProcess* const made = make_worker(lock, call, result);
    refused = made == nullptr;
    return made;
}

bool PoolCore::wait_in_queue(Lock& lock, const ErasedCall& call, ErasedResult& result, Waiter& waiter) {
    if (queue_.size() >= options_.queue) {
        result.outcome = refusal(EAGAIN, "queue of calls is full");
        return false;
    }
    queue_.push_back({&waiter, nullptr});
    const auto called = [&] { return waiter.called; };
    if (const auto left = call.options.deadline.remaining()) {
        waiter.turn.wait_for(lock, *left, called);
    } else {
        waiter.turn.wait(lock, called);
    }
    if (waiter.called) return !closed_ || waiter.worker != nullptr;
    std::erase_if(queue_, [&](const Queued& queued) { return queued.waiter == &waiter; });
    result.outcome = {OutcomeKind::deadline_passed, 0, {}};
    return false;
}

WarmProcess* PoolCore::acquire(ErasedCall& call, ErasedResult& result) {
    Lock lock(mutex_);
    if (closed_) {
        result.outcome = {OutcomeKind::cancelled, 0, "because the pool has ended"};
        return nullptr;
    }
    if (queue_.empty()) {
        bool refused = false;
        if (WarmProcess* const worker = take_or_make(lock, call, result, refused)) {
            call.may_spin = may_spin();
            return worker;
        }
        if (refused) {
            serve_queue(lock);  // what came meanwhile may still find a worker
            return nullptr;
        }
    }
    call.waited = true;
    Waiter waiter;
    if (!wait_in_queue(lock, call, result, waiter)) {
        if (closed_) result.outcome = {OutcomeKind::cancelled, 0, "because the pool has ended"};
        return nullptr;
    }
    call.may_spin = may_spin();
    if (waiter.worker != nullptr) return waiter.worker;
    --being_made_;  // was counted for us
    WarmProcess* const made = make_worker(lock, call, result);
    if (made == nullptr) serve_queue(lock);
    return made;
}

/// Under the lock. Its owner, who ends it: nobody who waits for the lock waits for that, too.
std::unique_ptr<WarmProcess> PoolCore::take_out(const WarmProcess* worker) {
    const auto found =
        std::find_if(workers_.begin(), workers_.end(), [&](const auto& each) { return each.get() == worker; });
    if (found == workers_.end()) return nullptr;
    std::unique_ptr<WarmProcess> owned = std::move(*found);
    workers_.erase(found);
    return owned;
}

/// Whoever waits for what was moved to it goes on when it has ended, not before.
void PoolCore::remove(Lock& lock, WarmProcess* worker) {
    std::unique_ptr<WarmProcess> owned = take_out(worker);
    lock.unlock();
    owned.reset();
    lock.lock();
    lent_.erase(worker);
    lent_changed_.notify_all();
}

void PoolCore::release(WarmProcess* worker) {
    Lock lock(mutex_);
    if (worker->is_spent()) {
        remove(lock, worker);
    } else {
        worker->set_idle();
        idle_.push_back(worker);
        if (lent_.contains(worker)) lent_changed_.notify_all();
    }
    if (!queue_.empty()) serve_queue(lock);
}

/// Gives workers, or room for new ones, to those who have waited longest.
void PoolCore::serve_queue(Lock& lock) {
    while (!queue_.empty()) {
        const bool room = workers_.size() + being_made_ < options_.workers;
        if (idle_.empty() && !room) return;
        Queued next = queue_.front();
        if (next.waiter != nullptr) {
            queue_.pop_front();
            WarmProcess* const worker = take_idle(ErasedCall{});
            if (worker == nullptr) ++being_made_;
            next.waiter->worker = worker;
            next.waiter->called = true;
            next.waiter->turn.notify_one();
            continue;
        }
        bool refused = false;
        queue_.pop_front();
        WarmProcess* const worker = take_or_make(lock, next.async->call, next.async->result, refused);
        if (worker == nullptr && !refused) {
            queue_.push_front(std::move(next));
            return;
        }
        lock.unlock();
        run_on(next.async, worker);
        lock.lock();
    }
}

// ---- moved arenas

void PoolCore::let_go(WarmProcess& worker) noexcept {
    static_cast<void>(worker.let_go());
    const std::scoped_lock lock(mutex_);
    lent_.erase(&worker);
    lent_changed_.notify_all();
}

/// Whoever else may still write to an arena that is moved now is called back, and so is what was moved to this worker
/// before: while it serves one call it can write to nothing of another (I3).
void PoolCore::prepare_moved(WarmProcess& worker, ErasedCall& call) {
    if (worker.has_moved_but(call)) let_go(worker);
    for (std::size_t i = 0; i < call.images.size(); ++i) {
        if (!call.images[i].moved) continue;
        const std::shared_ptr<vmcow::Loan> loan = call.images[i].moved->take_loan();
        if (!loan) continue;
        if (loan->holder() == &worker) {
            call.loan = loan;
        } else {
            loan->call_back();
        }
    }
}

void PoolCore::lend_back(WarmProcess& worker, ErasedCall& call, ErasedResult& result) {
    if (!result.moved_back || worker.is_spent()) return;
    if (!call.loan) call.loan = std::make_shared<WorkerLoan>(weak_from_this(), &worker);
    result.moved_back->lend(std::move(call.loan));
    const std::scoped_lock lock(mutex_);
    lent_.insert(&worker);
}

void PoolCore::say_what_is_gone(const ErasedCall& call, ErasedResult& result) {
    const auto is_moved = [](const ImageArgument& image) { return image.mode == ImageMode::moved; };
    if (result.outcome.ok() || std::none_of(call.images.begin(), call.images.end(), is_moved)) return;
    result.outcome.text += result.outcome.text.empty() ? "the moved value is gone" : "; the moved value is gone";
}

void PoolCore::call_back(const WarmProcess* worker) noexcept {
    WarmProcess* found = nullptr;
    {
        Lock lock(mutex_);
        const auto idle = [&] { return std::find(idle_.begin(), idle_.end(), worker); };
        // One that is busy lets go before it does anything else (prepare_moved).
        lent_changed_.wait(lock, [&] { return !lent_.contains(worker) || idle() != idle_.end(); });
        if (!lent_.contains(worker)) return;
        found = *idle();
        idle_.erase(idle());
        if (!found->occupy()) {  // it has ended by itself
            remove(lock, found);
            return;
        }
    }
    let_go(*found);
    release(found);
}

// ---- synchronous calls

/// One call on one worker, to its end.
void PoolCore::carry(WarmProcess& worker, ErasedCall& call, ErasedResult& result) {
    prepare_moved(worker, call);
    worker.start(call, result);
    worker.spin();
    while (!worker.is_done()) {
        if (worker.lie_down()) {
            std::array<pollfd, 2> wanted{pollfd{worker.reply_fd(), POLLIN, 0}, pollfd{worker.pidfd(), POLLIN, 0}};
            poll_until(wanted, worker.next_look(), "wait for a function process");
        }
        worker.look();
    }
    lend_back(worker, call, result);
}

void PoolCore::call(ErasedCall& call, ErasedResult& result) {
    if (!is_mine()) {
        result.outcome = refusal(EPERM, "call through a pool of another process");
        return say_what_is_gone(call, result);
    }
    for (int attempt = 1;; ++attempt) {
        WarmProcess* const worker = acquire(call, result);
        if (worker == nullptr) break;
        carry(*worker, call, result);
        const bool again = worker->missed_call() && attempt < kMostAttempts;
        release(worker);
        if (!again) break;
        result = ErasedResult{};
    }
    say_what_is_gone(call, result);
    if (result.cost.seconds == 0) result.cost.seconds = static_cast<double>(now_ns() - call.asked_ns) * 1e-9;
}

// ---- the end

void PoolCore::trim() {
    std::vector<std::unique_ptr<WarmProcess>> ended;
    const std::scoped_lock lock(mutex_);
    for (WarmProcess* const worker : std::exchange(idle_, {})) {
        ended.push_back(take_out(worker));
        lent_.erase(worker);
    }
    ended.clear();
    lent_changed_.notify_all();
}

void PoolCore::shut_down() {
    std::vector<std::shared_ptr<AsyncCall>> running;
    std::vector<std::shared_ptr<AsyncCall>> queued;
    {
        const std::scoped_lock lock(mutex_);
        closed_ = true;
        running = running_;
        for (const Queued& each : std::exchange(queue_, {})) {
            if (each.async) {
                queued.push_back(each.async);
            } else {
                each.waiter->called = true;
                each.waiter->turn.notify_one();
            }
        }
    }
    for (const auto& call : queued) fail(call, {OutcomeKind::cancelled, 0, "because the pool has ended"});
    for (const auto& call : running) cancel(call);
    if (watcher_.joinable()) {
        wake_watcher();
        watcher_.join();
    }
    trim();
}

PoolStatus PoolCore::status() {
    PoolStatus status;
    const std::scoped_lock lock(mutex_);
    // Those that have retired are gone, though nobody has noticed yet.
    std::erase_if(idle_, [&](WarmProcess* worker) {
        if (!worker->has_retired()) return false;
        static_cast<void>(take_out(worker));
        lent_.erase(worker);
        lent_changed_.notify_all();
        return true;
    });
    status.workers = workers_.size() + being_made_;
    status.idle = idle_.size();
    status.queued = queue_.size();
    for (const WarmProcess* const worker : idle_) status.idle_pids.push_back(worker->pid());
    status.zygote_pid = zygote_.zygote_pid();
    status.keeper_pid = zygote_.keeper_pid();
    return status;
}

}  // namespace procrun::detail
