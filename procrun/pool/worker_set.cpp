#include "procrun/pool/worker_set.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "vmcow/image/copy_costs.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {

WorkerSet::WorkerSet(const PoolOptions& options)
    : options_(options),
      config_{options.idle_time, options.resident_budget,
              options.copy_costs ? *options.copy_costs : vmcow::CopyCosts::measure(), options.at_step} {}

WorkerHandle* WorkerSet::take_idle(const PoolLock&, std::span<const ImageArgument> images) {
    if (idle_.empty()) return nullptr;
    auto chosen = std::prev(idle_.end());
    if (!images.empty() && idle_.size() > 1) {
        const auto knows = [&](const WorkerHandle* worker) { return worker->knows(images[0]); };
        const auto found = std::find_if(idle_.rbegin(), idle_.rend(), knows);
        if (found != idle_.rend()) chosen = std::prev(found.base());
    }
    WorkerHandle* const worker = *chosen;
    idle_.erase(chosen);
    return worker;
}

WorkerHandle* WorkerSet::take_if_idle(const PoolLock&, const WorkerHandle* worker) {
    const auto found = std::find(idle_.begin(), idle_.end(), worker);
    if (found == idle_.end()) return nullptr;
    WorkerHandle* const taken = *found;
    idle_.erase(found);
    return taken;
}

bool WorkerSet::is_idle(const PoolLock&, const WorkerHandle* worker) const noexcept {
    return std::find(idle_.begin(), idle_.end(), worker) != idle_.end();
}

void WorkerSet::give_back(const PoolLock&, WorkerHandle* worker) {
    worker->set_idle();
    idle_.push_back(worker);
}

bool WorkerSet::has_room(const PoolLock&) const noexcept { return workers_.size() + being_made_ < options_.workers; }

void WorkerSet::keep_room(const PoolLock&) noexcept { ++being_made_; }

void WorkerSet::give_up_room(const PoolLock&) noexcept {
    VMCOW_ASSERT(being_made_ > 0 && "room is given up that nobody has kept");
    --being_made_;
}

WorkerHandle* WorkerSet::make(PoolLock& lock, Deadline deadline) {
    keep_room(lock);
    lock.unlock();
    Owned made;
    try {
        made = std::make_unique<WorkerHandle>(*zygote_, options_, deadline);
    } catch (...) {
        lock.lock();
        give_up_room(lock);
        throw;
    }
    lock.lock();
    give_up_room(lock);
    static_cast<void>(made->take_if_idle());
    workers_.push_back(std::move(made));
    return workers_.back().get();
}

WorkerSet::Owned WorkerSet::take_out(const PoolLock&, const WorkerHandle* worker) {
    const auto found =
        std::find_if(workers_.begin(), workers_.end(), [&](const Owned& each) { return each.get() == worker; });
    if (found == workers_.end()) return nullptr;
    Owned owned = std::move(*found);
    workers_.erase(found);
    return owned;
}

std::vector<WorkerSet::Owned> WorkerSet::take_out_idle(const PoolLock& held) {
    std::vector<Owned> taken;
    for (const WorkerHandle* const worker : std::exchange(idle_, {})) taken.push_back(take_out(held, worker));
    return taken;
}

std::vector<WorkerSet::Owned> WorkerSet::take_out_retired(const PoolLock& held) {
    std::vector<Owned> taken;
    std::erase_if(idle_, [&](const WorkerHandle* worker) {
        const bool has_retired = worker->has_retired();
        if (has_retired) taken.push_back(take_out(held, worker));
        return has_retired;
    });
    return taken;
}

std::size_t WorkerSet::size(const PoolLock&) const noexcept { return workers_.size() + being_made_; }

std::size_t WorkerSet::busy(const PoolLock&) const noexcept { return workers_.size() - idle_.size(); }

std::vector<pid_t> WorkerSet::idle_pids(const PoolLock&) const {
    std::vector<pid_t> pids;
    for (const WorkerHandle* const worker : idle_) pids.push_back(worker->pid());
    return pids;
}

bool WorkerSet::has_idle(const PoolLock&) const noexcept { return !idle_.empty(); }

}  // namespace procrun::detail
