#include "vmcow/meter/watch/fault_guide.hpp"

#include <sys/resource.h>

#include <cerrno>
#include <cmath>
#include <utility>

#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {
namespace {

constexpr double kResumedBelow = FaultGuide::kMostPerSecond / 2;
constexpr double kMeanSeconds = 0.25;

sys::PerfFaultEvents::Options options(sys::PerfOpen open) {
    sys::PerfFaultEvents::Options options;
    options.period = 1;
    options.with_code = false;
    options.only_minor = true;
    options.ring_bytes = std::size_t{1} << 20;
    // The rest is for the files of each process that is looked at.
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    options.most_descriptors = limit.rlim_cur / 4;
    options.open = open;
    return options;
}

}  // namespace

void FaultGuide::follow(pid_t pid) {
    if (refused_.contains(pid) || !processes_[pid].threads.empty()) return;
    const int error = events_->attach_process(pid, processes_[pid].threads, *this);
    if (error == 0) return;
    refused_.insert(pid);
    if (error != ESRCH) error_ = error;
    if (error == EMFILE || error == ENFILE) end();
}

void FaultGuide::on_fault(const sys::FaultSample& sample) {
    ++processes_[sample.pid].seen;
    chunks_.insert(sample.address / kHugeBytes);
}

void FaultGuide::on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t) {
    // The kernel reuses process IDs: what is known under this ID is about an earlier process.
    if (pid != parent) processes_.insert_or_assign(pid, Process{});
    processes_[pid].threads.insert(thread);
}

void FaultGuide::on_exit(pid_t pid, pid_t thread, std::uint64_t) {
    const auto process = processes_.find(pid);
    if (process == processes_.end()) return;
    process->second.threads.erase(thread);
    if (process->second.threads.empty()) processes_.erase(process);
}

void FaultGuide::on_lost(std::uint64_t) {
    for (auto& [pid, process] : processes_) process.agreement.reset();
}

/// Whether every fault that a process had between the last agreement and now was seen. The process may have had more
/// faults between the count `counted_before` and the moment at which the events were drained.
bool FaultGuide::agrees(Process& process, pid_t pid, std::uint64_t counted_before) {
    const std::optional<sys::ProcessStat> stat = sys::read_process_stat(pid);
    if (!stat) return false;
    bool agreed = false;
    if (process.agreement) {
        const std::uint64_t seen = process.seen - process.agreement->seen;
        agreed = counted_before - process.agreement->counted <= seen &&
                 seen <= stat->page_faults - process.agreement->counted;
    }
    if (stat->page_faults == counted_before) {
        process.agreement = {process.seen, counted_before};
    } else if (!agreed) {
        process.agreement.reset();
    }
    return agreed;
}

std::optional<std::uint64_t> FaultGuide::count(const std::map<pid_t, std::uint64_t>& faults) {
    std::optional<std::uint64_t> since;
    for (const auto& [pid, counted] : faults) {
        const auto before = counted_.find(pid);
        if (before != counted_.end() && before->second <= counted) since = since.value_or(0) + counted - before->second;
    }
    counted_ = faults;
    std::erase_if(refused_, [&](pid_t pid) { return !faults.contains(pid); });
    return since;
}

void FaultGuide::end() noexcept {
    events_.reset();
    processes_.clear();
    chunks_.clear();
}

void FaultGuide::set_pace(std::uint64_t faults) {
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - std::exchange(asked_, now)).count();
    if (seconds <= 0) return;
    // An exponentially weighted mean: a call shortly after the last one has little weight.
    const double weight = 1 - std::exp(-seconds / kMeanSeconds);
    rate_ += weight * (static_cast<double>(faults) / seconds - rate_);
    if (events_ && rate_ > kMostPerSecond) {
        end();
    } else if (!events_ && rate_ < kResumedBelow && error_ != EMFILE && error_ != ENFILE) {
        events_.emplace(options(open_));
    }
}

std::optional<std::set<std::uint64_t>> FaultGuide::faulted_chunks(const std::map<pid_t, std::uint64_t>& faults) {
    const bool was_there = events_.has_value();
    if (was_there) events_->drain(*this);
    std::set<std::uint64_t> chunks = std::exchange(chunks_, {});
    bool agreed = was_there;
    for (const auto& [pid, counted] : faults) {
        const auto process = processes_.find(pid);
        agreed = process != processes_.end() && agrees(process->second, pid, counted) && agreed;
    }
    if (const auto since = count(faults)) set_pace(*since);
    for (const auto& [pid, counted] : faults) {
        if (events_) follow(pid);
    }
    if (!agreed) return std::nullopt;
    return chunks;
}

}  // namespace vmcow::meter
