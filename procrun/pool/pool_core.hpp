#pragma once

#include <poll.h>
#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pool_options.hpp"

namespace procrun {

/// What a pool has at the moment.
struct PoolStatus {
    std::size_t workers = 0;  ///< function processes, idle or not
    std::size_t idle = 0;
    std::size_t queued = 0;        ///< calls that wait for a worker
    std::vector<pid_t> idle_pids;  ///< of those that are idle
    pid_t zygote_pid = -1;
    pid_t keeper_pid = -1;
};

namespace detail {

class AsyncCalls;
class CallQueue;
class LoanBook;
class WorkerHandle;
class WorkerSet;
struct AsyncCall;
struct ErasedCall;
struct ErasedResult;
struct ImageArgument;

/// A pool: its workers, the queue in front of them, the loans of moved arenas and the asynchronous calls, under one
/// lock.
///
/// A synchronous call runs on its caller's thread alone. An asynchronous call is given to a worker by the thread that
/// starts it or, out of the queue, by the thread that has freed the worker. The thread that waits for the call, or the
/// watcher, sees its end.
class PoolCore : public std::enable_shared_from_this<PoolCore> {
public:
    /// Forks nothing yet, so that the processes forked by `open` have a complete PoolCore in their memory.
    explicit PoolCore(PoolOptions options);
    ~PoolCore();
    PoolCore(const PoolCore&) = delete;
    PoolCore& operator=(const PoolCore&) = delete;

    /// Forks the zygote. Throws: std::system_error -- as ZygoteClient.
    void open();

    /// The pool that serves calls through `core` in this process: `core` itself in the process that made it. A process
    /// forked from that one has a copy of `core` without workers of its own: it gets a stand-in, a pool with the same
    /// options, made at the first call.
    /// Throws: std::system_error -- as ZygoteClient.
    [[nodiscard]] static const std::shared_ptr<PoolCore>& here(const std::shared_ptr<PoolCore>& core);
    /// The pool that `here` returns; `core` itself, which refuses calls, where no stand-in could be made.
    [[nodiscard]] static std::shared_ptr<PoolCore> here_or_refusing(const std::shared_ptr<PoolCore>& core);
    /// The pool that `here` returns, if it exists already; else `core` itself.
    [[nodiscard]] static std::shared_ptr<PoolCore> found_here(const std::shared_ptr<PoolCore>& core);
    /// Ends a Pool in this process.
    static void end(std::shared_ptr<PoolCore> core);
    static void call_here(const std::shared_ptr<PoolCore>& core, ErasedCall& call, ErasedResult& result);

    void call(ErasedCall& call, ErasedResult& result);
    void start(const std::shared_ptr<AsyncCall>& call);
    /// False when the deadline came first.
    bool wait(const std::shared_ptr<AsyncCall>& call, Deadline deadline);
    void cancel(const std::shared_ptr<AsyncCall>& call);

    /// Ends all calls and workers. Queued calls are cancelled.
    void shut_down();
    /// Ends the idle workers.
    void trim();
    [[nodiscard]] PoolStatus status();
    /// The number of calls that keeps all workers busy while one more call waits for each, as far as the queue allows.
    [[nodiscard]] std::size_t calls_ahead() const noexcept {
        return options_.workers + std::min(options_.workers, options_.queue);
    }

    /// Has `worker` unmap the arenas that were moved to it, if it still exists and has any.
    void reclaim_from(const WorkerHandle* worker, Deadline deadline) noexcept;
    /// False in a process that was forked from the one that made the pool. Every member leaves the workers alone there,
    /// and the state that other threads may have been changing at the fork.
    [[nodiscard]] bool is_mine() const noexcept;
    /// Keeps a pool and a call for ever in a process where `is_mine` is false: they must not be destroyed there.
    static void leave_to_owner(std::shared_ptr<PoolCore> core, std::shared_ptr<AsyncCall> call);

private:
    using Lock = std::unique_lock<std::mutex>;
    /// A worker, or the reason why there is none. Neither means that the call has to wait.
    struct Taken {
        WorkerHandle* worker = nullptr;
        std::optional<Outcome> refusal{};

        [[nodiscard]] bool has_to_wait() const noexcept { return worker == nullptr && !refusal; }
    };

    // Workers, and which call gets them.
    [[nodiscard]] Taken take_or_make(Lock& lock, ErasedCall& call);
    [[nodiscard]] Taken make_worker(Lock& lock, ErasedCall& call);
    [[nodiscard]] Taken wait_for_worker(Lock& lock, ErasedCall& call);
    [[nodiscard]] WorkerHandle* take_idle(const Lock& lock, std::span<const ImageArgument> images);
    [[nodiscard]] WorkerHandle* acquire(ErasedCall& call, ErasedResult& result);
    void set_idle(const Lock& lock, WorkerHandle* worker);
    void release(WorkerHandle* worker);
    void remove(Lock& lock, WorkerHandle* worker);
    void serve_queue(Lock& lock);
    [[nodiscard]] static Outcome pool_has_ended();
    [[nodiscard]] bool may_spin(const Lock& lock) const noexcept;
    void end_all(std::vector<std::unique_ptr<WorkerHandle>> workers);

    // One call, synchronous or not.
    void prepare_moved(WorkerHandle& worker, ErasedCall& call);
    void return_moved(WorkerHandle& worker, ErasedCall& call, ErasedResult& result);
    void unmap_moved(WorkerHandle& worker, Deadline deadline) noexcept;
    [[nodiscard]] static bool goes_to_another(const WorkerHandle& worker, int attempts) noexcept;
    static void complete(const ErasedCall& call, ErasedResult& result);

    // Asynchronous calls.
    void run_on(const std::shared_ptr<AsyncCall>& call, Taken taken);
    void finish(Lock& call_lock, const std::shared_ptr<AsyncCall>& call);
    void fail(const std::shared_ptr<AsyncCall>& call, Outcome outcome);
    [[nodiscard]] static std::function<void()> conclude(const Lock& call_lock, AsyncCall& call);
    [[nodiscard]] std::optional<Deadline> look_at_calls(std::vector<pollfd>& wakers);
    [[nodiscard]] Deadline drop_late_calls();

    PoolOptions options_;
    unsigned processors_;

    std::mutex mutex_;  // guards the members below; taken after the mutex of a call
    std::unique_ptr<WorkerSet> workers_;
    std::unique_ptr<LoanBook> loans_;
    std::unique_ptr<CallQueue> queue_;
    std::unique_ptr<AsyncCalls> async_;
    bool closed_ = false;
};

/// Ends the program for a caller's bug: the member `call` is used on a future that was moved from (sys/held.hpp).
[[noreturn]] void refuse_moved_from_future(const char* call) noexcept;

}  // namespace detail
}  // namespace procrun
