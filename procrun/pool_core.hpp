#pragma once

#include <poll.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "procrun/pool_options.hpp"
#include "procrun/warm_process.hpp"
#include "procrun/zygote.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// What a pool has at the moment.
struct PoolStatus {
    std::size_t workers = 0;  ///< function processes, idle or not
    std::size_t idle = 0;
    std::size_t queued = 0;        ///< calls that wait for one
    std::vector<pid_t> idle_pids;  ///< of those that are idle
    pid_t zygote_pid = -1;
    pid_t keeper_pid = -1;
};

namespace detail {

/// A call that goes on while its caller does something else.
struct AsyncCall {
    enum class State : std::uint8_t { queued, running, done };

    // Both are written by whoever holds the mutex; `result` may be read by all once the call is done.
    std::mutex mutex;
    std::condition_variable done;
    State state = State::queued;
    ErasedCall call;
    ErasedResult result;
    WarmProcess* worker = nullptr;
    int attempts = 0;
    /// Called once, when the call is done and its worker is free again: by the thread that has seen the end, which
    /// holds no locks then. Does not throw.
    std::function<void()> on_done{};
};

/// The workers of a pool, the queue in front of them, and the thread that looks after calls nobody waits for.
///
/// A synchronous call is carried by its caller's thread alone. An asynchronous one is given to a worker by the thread
/// that asks for it, or, out of the queue, by the one that has freed the worker; its end is seen by the thread that
/// waits for it or by the watcher.
class PoolCore : public std::enable_shared_from_this<PoolCore> {
public:
    explicit PoolCore(PoolOptions options);
    ~PoolCore();
    PoolCore(const PoolCore&) = delete;
    PoolCore& operator=(const PoolCore&) = delete;

    void call(ErasedCall& call, ErasedResult& result);
    void start(const std::shared_ptr<AsyncCall>& call);
    /// False when the deadline came first.
    bool wait(const std::shared_ptr<AsyncCall>& call, Deadline deadline);
    void cancel(const std::shared_ptr<AsyncCall>& call);

    /// Ends all calls, workers and zygotes. What is queued is cancelled.
    void shut_down();
    /// Ends the idle workers.
    void trim();
    [[nodiscard]] PoolStatus status();
    /// As many calls as keep all workers busy while one more is waiting for each.
    [[nodiscard]] std::size_t calls_ahead() const noexcept {
        return options_.workers + std::min(options_.workers, options_.queue);
    }

    /// Has `worker`, if there is still one of that name and it has something moved there, unmap it.
    void call_back(const WarmProcess* worker) noexcept;
    /// False in a process that was forked from the one that made the pool.
    [[nodiscard]] bool is_mine() const noexcept;

private:
    struct Waiter {
        std::condition_variable turn;
        bool called = false;
        WarmProcess* worker = nullptr;  // nullptr: there is room for a new one
    };
    struct Queued {
        Waiter* waiter = nullptr;
        std::shared_ptr<AsyncCall> async;
    };
    using Lock = std::unique_lock<std::mutex>;

    /// A call that its worker has not even seen is given to another one, but not for ever: what kills idle workers may
    /// go on doing so.
    static constexpr int kMostAttempts = 8;

    [[nodiscard]] WarmProcess* take_idle(const ErasedCall& call);
    [[nodiscard]] WarmProcess* take_or_make(Lock& lock, ErasedCall& call, ErasedResult& result, bool& refused);
    [[nodiscard]] WarmProcess* make_worker(Lock& lock, ErasedCall& call, ErasedResult& result);
    [[nodiscard]] WarmProcess* acquire(ErasedCall& call, ErasedResult& result);
    [[nodiscard]] bool wait_in_queue(Lock& lock, const ErasedCall& call, ErasedResult& result, Waiter& waiter);
    void carry(WarmProcess& worker, ErasedCall& call, ErasedResult& result);
    void prepare_moved(WarmProcess& worker, ErasedCall& call);
    void lend_back(WarmProcess& worker, ErasedCall& call, ErasedResult& result);
    static void say_what_is_gone(const ErasedCall& call, ErasedResult& result);
    void let_go(WarmProcess& worker) noexcept;
    void release(WarmProcess* worker);
    void remove(Lock& lock, WarmProcess* worker);
    [[nodiscard]] std::unique_ptr<WarmProcess> take_out(const WarmProcess* worker);
    void serve_queue(Lock& lock);
    void run_on(const std::shared_ptr<AsyncCall>& call, WarmProcess* worker);
    void finish(Lock& call_lock, const std::shared_ptr<AsyncCall>& call);
    void fail(const std::shared_ptr<AsyncCall>& call, Outcome outcome);
    static void tell(Lock& call_lock, AsyncCall& call);
    [[nodiscard]] bool may_spin() const noexcept;
    void start_watcher();
    void watch();
    void wake_watcher() noexcept;
    [[nodiscard]] Deadline look_at_all(std::vector<pollfd>& entries);
    [[nodiscard]] Deadline drop_late_calls();

    PoolOptions options_;
    WorkerConfig config_;
    unsigned processors_;
    std::uint64_t process_;
    Zygote zygote_;

    std::mutex mutex_;  // taken after a call's own
    std::vector<std::unique_ptr<WarmProcess>> workers_;
    std::size_t being_made_ = 0;
    std::vector<WarmProcess*> idle_;     // the last one was used last
    std::set<const WarmProcess*> lent_;  // those that may still write to what was moved to them
    std::condition_variable lent_changed_;
    std::deque<Queued> queue_;
    std::vector<std::shared_ptr<AsyncCall>> running_;
    bool closed_ = false;

    std::thread watcher_;
    vmcow::sys::UniqueFd wake_;
};

}  // namespace detail
}  // namespace procrun
