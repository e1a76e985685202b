#include "procrun/pipeline/stage_limit_watch.hpp"

#include <utility>
#include <variant>

#include "procrun/limits/limit_reasons.hpp"
#include "procrun/process/poll_until.hpp"

namespace procrun {

namespace {

constexpr std::chrono::milliseconds kOutputInterval{5};

}  // namespace

StageLimitWatch::StageLimitWatch(pid_t pid, const StageLimits& limits) : limits_(limits) {
    if (!limits.polled()) return;
    if (limits.memory_bytes) limit_memory_by_cgroup(pid);
    const bool polls_memory = limits.memory_bytes && !cgroup_;
    if (polls_memory) memory_by_ = MemoryLimitBy::polling;
    if (limits.processor_time || polls_memory) {
        counters_ = std::make_unique<ProcessCounters>(pid);
        const CallLimits watched{.processor_time = limits.processor_time,
                                 .memory_bytes = polls_memory ? limits.memory_bytes : std::nullopt};
        watch_ =
            std::make_unique<LimitWatch>(*counters_, watched, std::vector<vmcow::WritableRange>{}, CallStart::forked);
    }
    if (limits.output_bytes) {
        transferred_ = TransferMeter(pid);
        output_look_ = Deadline::in(kOutputInterval);
    }
}

void StageLimitWatch::limit_memory_by_cgroup(pid_t pid) {
    auto made = MemoryCgroup::make();
    auto* const cgroup = std::get_if<MemoryCgroup>(&made);
    if (cgroup == nullptr || cgroup->add(pid) != 0 || cgroup->limit(limits_.memory_bytes) != 0) return;
    cgroup_ = std::move(*cgroup);
    memory_by_ = MemoryLimitBy::cgroup;
}

Deadline StageLimitWatch::next_look() const {
    return watch_ ? earlier(watch_->next_look(), output_look_) : output_look_;
}

std::optional<std::string> StageLimitWatch::exceeded() {
    if (watch_ && watch_->next_look().passed()) {
        if (auto reason = watch_->exceeded()) return reason;
    }
    if (!output_look_.passed()) return std::nullopt;
    output_look_ = Deadline::in(kOutputInterval);
    const auto transferred = transferred_.read();
    output_unknown_ = !transferred;
    return output_exceeded(transferred ? std::optional(transferred->written) : std::nullopt);
}

std::optional<std::string> StageLimitWatch::exceeded_at_end(std::chrono::nanoseconds processor_time,
                                                            std::optional<std::uint64_t> written_bytes) const {
    if (cgroup_ && cgroup_->oom_kills().value_or(0) > 0) return cgroup_limit_reason(*limits_.memory_bytes);
    if (watch_ && limits_.processor_time) {
        if (auto reason = watch_->exceeded_at_end(processor_time, std::nullopt)) return reason;
    }
    return output_exceeded(written_bytes);
}

std::optional<std::string> StageLimitWatch::output_exceeded(std::optional<std::uint64_t> written) const {
    if (!limits_.output_bytes || !written || *written <= *limits_.output_bytes) return std::nullopt;
    return "output: " + bytes_of_at_most(*written, *limits_.output_bytes);
}

std::vector<std::string> StageLimitWatch::unknown() const {
    std::vector<std::string> reasons = watch_ ? watch_->unknown() : std::vector<std::string>{};
    if (output_unknown_) reasons.emplace_back("output: /proc/PID/io cannot be read");
    return reasons;
}

}  // namespace procrun
