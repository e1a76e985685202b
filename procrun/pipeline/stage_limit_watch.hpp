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
#include "procrun/limits/limit_watch.hpp"
#include "procrun/limits/memory_cgroup.hpp"
#include "procrun/limits/process_counters.hpp"
#include "procrun/observe/transfer_meter.hpp"

namespace procrun {

/// Gives the kernel the memory limit of one running program, where it takes it, and watches the other limits.
///
/// Pre:     the program is not reaped while this is in use, except for `exceeded_at_end`.
/// Throws:  nothing but std::bad_alloc; `unknown` tells what cannot be watched (I8).
/// Threads: one at a time.
class StageLimitWatch {
public:
    /// To be made right after the program was started. The kernel keeps a memory limit where we have a cgroup
    /// (MemoryCgroup); otherwise memory is polled.
    StageLimitWatch(pid_t pid, const StageLimits& limits);

    /// When to look next; never when nothing is polled.
    [[nodiscard]] Deadline next_look() const;
    /// Looks now. Returns what has been exceeded, for people, as in "output: 1.2 MiB of at most 1.0 MiB".
    [[nodiscard]] std::optional<std::string> exceeded();
    /// Returns what has been exceeded by all that the program used, when it has been reaped: it may have ended between
    /// two looks, or the cgroup may have killed it.
    [[nodiscard]] std::optional<std::string> exceeded_at_end(std::chrono::nanoseconds processor_time,
                                                             std::optional<std::uint64_t> written_bytes) const;

    /// How the memory limit is kept; nullopt when there is none.
    [[nodiscard]] std::optional<MemoryLimitBy> memory_limit_by() const noexcept { return memory_by_; }
    /// The limits that cannot be watched, each with the reason.
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
