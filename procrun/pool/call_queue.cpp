#include "procrun/pool/call_queue.hpp"

#include <utility>

#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {

bool CallQueue::is_empty(const PoolLock&) const noexcept { return entries_.empty(); }

bool CallQueue::is_full(const PoolLock&) const noexcept { return entries_.size() >= most_; }

std::size_t CallQueue::size(const PoolLock&) const noexcept { return entries_.size(); }

void CallQueue::push(const PoolLock&, std::shared_ptr<AsyncCall> call) {
    entries_.push_back({nullptr, std::move(call)});
}

void CallQueue::push_front(const PoolLock&, std::shared_ptr<AsyncCall> call) {
    entries_.push_front({nullptr, std::move(call)});
}

bool CallQueue::wait(PoolLock& lock, Waiter& waiter, Deadline deadline) {
    entries_.push_back({&waiter, nullptr});
    const auto has_its_turn = [&] { return waiter.turn != Turn::none; };
    if (const auto left = deadline.remaining()) {
        waiter.called.wait_for(lock, *left, has_its_turn);
    } else {
        waiter.called.wait(lock, has_its_turn);
    }
    if (has_its_turn()) return true;
    std::erase_if(entries_, [&](const Entry& entry) { return entry.waiter == &waiter; });
    return false;
}

CallQueue::Entry CallQueue::pop(const PoolLock&) {
    VMCOW_ASSERT(!entries_.empty() && "a call is taken out of an empty queue");
    Entry first = std::move(entries_.front());
    entries_.pop_front();
    return first;
}

void CallQueue::call(const PoolLock&, Waiter& waiter, WorkerHandle* worker) noexcept {
    waiter.turn = worker != nullptr ? Turn::worker : Turn::room;
    waiter.worker = worker;
    waiter.called.notify_one();
}

void CallQueue::remove(const PoolLock&, const std::shared_ptr<AsyncCall>& call) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.async == call; });
}

std::vector<std::shared_ptr<AsyncCall>> CallQueue::take_late(const PoolLock&, Deadline& next) {
    std::vector<std::shared_ptr<AsyncCall>> late;
    std::erase_if(entries_, [&](const Entry& entry) {
        if (!entry.async) return false;  // a waiting thread watches its own deadline
        const Deadline deadline = entry.async->call.options.deadline;
        if (deadline.passed()) {
            late.push_back(entry.async);
            return true;
        }
        next = earlier(next, deadline);
        return false;
    });
    return late;
}

std::vector<std::shared_ptr<AsyncCall>> CallQueue::close(const PoolLock&) {
    std::vector<std::shared_ptr<AsyncCall>> calls;
    for (Entry& entry : std::exchange(entries_, {})) {
        if (entry.async) {
            calls.push_back(std::move(entry.async));
        } else {
            entry.waiter->turn = Turn::closed;
            entry.waiter->called.notify_one();
        }
    }
    return calls;
}

}  // namespace procrun::detail
