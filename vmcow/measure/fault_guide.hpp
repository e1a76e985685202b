#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "vmcow/sys/perf_events.hpp"

namespace vmcow::measure {

/// Where processes have had page faults since it was asked last: nothing is copied anywhere else, so nowhere else is
/// there anything to look at.
///
/// The kernel hands over the address of each fault (perf_event_open(2)), and counts them by itself (/proc/PID/stat):
/// where the two agree, no fault went unseen. Faults from a disk, and those made for a process by a system call of its
/// own that reaches for its memory, are counted and not handed over; then, and while there are many, it says nothing,
/// and all pages are to be looked at.
///
/// Cost:   0.7 µs a fault for the process that has it: where there are more than kMostPerSecond, it pauses from the
///         next call on until there are far less, and it begins only when it knows how many there are. For the caller a
///         descriptor for each thread that was there at the begin and processor, at most a quarter of those that it may
///         have, and a ring of up to 1 MiB for each processor.
/// Source: perf_event_open(2) PERF_COUNT_SW_PAGE_FAULTS_MIN, proc(5).
class FaultGuide : private sys::PerfRecords {
public:
    static constexpr double kMostPerSecond = 10'000;

    explicit FaultGuide(sys::PerfOpen open = sys::perf_event_open) : open_(open) {}

    /// The chunks of 2 MiB, by their numbers, in which one of the processes has had a fault since the call before; or
    /// nothing, where that is not known of all of them. `faults`: of each process, as its ProcessStat has just said.
    [[nodiscard]] std::optional<std::set<std::uint64_t>> where(const std::map<pid_t, std::uint64_t>& faults);

    /// The errno with which the kernel has refused to tell of a process's faults, or 0: the last one of
    /// PerfFaultEvents::attach.
    [[nodiscard]] int error() const noexcept { return error_; }

private:
    using Clock = std::chrono::steady_clock;

    struct Process {
        std::set<pid_t> threads;
        std::uint64_t seen = 0;  ///< faults that were handed over
        /// Where both counts stood when they were last known to belong together.
        struct Agreement {
            std::uint64_t seen;
            std::uint64_t counted;
        };
        std::optional<Agreement> agreement;
    };

    void on_fault(const sys::FaultSample& sample) override;
    void on_mapped_code(const sys::MappedCode&) override {}
    void on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t time_ns) override;
    void on_exec(pid_t, std::string_view) override {}
    void on_exit(pid_t pid, pid_t thread, std::uint64_t time_ns) override;
    void on_lost(std::uint64_t records) override;

    [[nodiscard]] bool agrees(Process& process, pid_t pid, std::uint64_t counted_before);
    void follow(pid_t pid);
    void end() noexcept;
    /// Counts the faults of all processes since the last call; nothing where there was none.
    std::optional<std::uint64_t> count(const std::map<pid_t, std::uint64_t>& faults);
    void set_pace(std::uint64_t faults);

    sys::PerfOpen open_;
    std::optional<sys::PerfFaultEvents> events_;  ///< nothing while it pauses
    std::map<pid_t, std::uint64_t> counted_;      ///< at the last call
    std::set<pid_t> refused_;
    int error_ = 0;
    std::map<pid_t, Process> processes_;
    std::set<std::uint64_t> chunks_;
    Clock::time_point asked_ = Clock::now();
    double rate_ = 0;  ///< faults a second, of all processes, lately
};

}  // namespace vmcow::measure
