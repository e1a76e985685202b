#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pool/async_call.hpp"
#include "procrun/pool/pool_lock.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// The asynchronous calls that are with a worker, and the watcher: the thread that sees their ends while nobody waits.
///
/// Threads: any; members that take a PoolLock need the pool's lock.
class AsyncCalls {
public:
    /// A look at all calls, which the watcher takes repeatedly, without a lock. It appends what to wait for to
    /// `wakers`, and returns when to look again at the latest; nullopt ends the watcher.
    using Look = std::function<std::optional<Deadline>(std::vector<pollfd>& wakers)>;

    explicit AsyncCalls(Look look) : look_(std::move(look)) {}

    void add(const PoolLock& held, const std::shared_ptr<AsyncCall>& call);
    void remove(const PoolLock& held, const std::shared_ptr<AsyncCall>& call);
    [[nodiscard]] std::vector<std::shared_ptr<AsyncCall>> running(const PoolLock& held) const;

    /// Starts the watcher if it does not run yet. Throws: std::system_error -- EMFILE, EAGAIN.
    void start_watcher(const PoolLock& held);
    /// Has the watcher look now. Pre: it was started.
    void wake_watcher() noexcept;
    /// Waits for the watcher's end, if it was started. Pre: its next look returns nullopt.
    void join_watcher();

private:
    void watch();

    Look look_;
    std::vector<std::shared_ptr<AsyncCall>> running_;
    std::thread watcher_;
    vmcow::sys::UniqueFd wake_;
    std::atomic<bool> wakes_are_refused_ = false;
};

}  // namespace procrun::detail
