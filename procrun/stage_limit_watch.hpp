#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/limits.hpp"
#include "procrun/memory_cgroup.hpp"
#include "procrun/stage_limits.hpp"
#include "procrun/stage_meter.hpp"

namespace procrun {

/// Sees to it that one running program keeps its limits.
///
/// Pre:     the program has not been reaped while this is in use.
/// Throws:  nothing but std::bad_alloc; what cannot be watched is told by `unknown` (I8).
/// Threads: one at a time.
class StageLimitWatch {
public:
    /// Right after the program was started. A memory limit is the kernel's where we have a cgroup (MemoryCgroup), and
    /// polled otherwise.
    StageLimitWatch(pid_t pid, const StageLimits& limits);

    /// When to look next; never when nothing is polled.
    [[nodiscard]] Deadline next_look() const;
    /// Looks now: what has been exceeded, for people, as "output: 1.2 MiB of at most 1.0 MiB".
    [[nodiscard]] std::optional<std::string> exceeded();
    /// The same for what it used in all, when it has been reaped: it may have ended between two looks, or been killed
    /// by the cgroup.
    [[nodiscard]] std::optional<std::string> exceeded_at_end(std::chrono::nanoseconds processor_time,
                                                             std::optional<std::uint64_t> written_bytes) const;

    /// Who keeps the memory limit; nullopt when there is none.
    [[nodiscard]] std::optional<MemoryLimitBy> memory_limit_by() const noexcept { return memory_by_; }
    /// The limits that nobody watches, each with the reason.
    [[nodiscard]] std::vector<std::string> unknown() const;

private:
    void limit_memory_by_cgroup(pid_t pid);
    [[nodiscard]] std::optional<std::string> output_exceeded(std::optional<std::uint64_t> written) const;

    StageLimits limits_;
    std::optional<MemoryLimitBy> memory_by_;
    std::optional<MemoryCgroup> cgroup_;
    std::unique_ptr<ProcessCounters> counters_;
    std::unique_ptr<LimitWatch> watch_;  // processor time, and memory without a cgroup
    TransferMeter transferred_;
    bool output_unknown_ = false;
    Deadline output_look_ = Deadline::never();
};

}  // namespace procrun
