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

namespace vmcow::meter {

/// Tells where processes have had page faults since the last call. Nothing is copied without a page fault, so no
/// other place needs a look.
///
/// The kernel reports the address of each fault (perf_event_open(2)), and it counts faults separately (/proc/PID/stat).
/// If the two agree, no fault went unseen. Two kinds of faults are counted but not reported: faults that read from a
/// disk, and faults on the memory of a process in one of its own system calls. Then, and while there are many faults,
/// the guide tells nothing, and all pages have to be looked at.
///
/// Cost:   0.7 µs a fault for the process that has it. If there are more than kMostPerSecond, the guide pauses from the
///         next call on until there are half as many, and it begins only when it knows how many there are. The caller
///         needs a descriptor for each pair of a processor and a thread that existed at the beginning, at most a
///         quarter of its limit, and a ring of up to 1 MiB for each processor.
/// Source: perf_event_open(2) PERF_COUNT_SW_PAGE_FAULTS_MIN, proc(5).
class FaultGuide : private sys::PerfRecords {
public:
    static constexpr double kMostPerSecond = 10'000;

    explicit FaultGuide(sys::PerfOpen open = sys::perf_event_open) : open_(open) {}

    /// The numbers of the 2 MiB chunks in which one of the processes has had a fault since the last call; nothing if
    /// that is not known for every process. `faults`: the faults of each process, as its ProcessStat has just said.
    [[nodiscard]] std::optional<std::set<std::uint64_t>> faulted_chunks(const std::map<pid_t, std::uint64_t>& faults);

    /// The last errno with which the kernel refused to report the faults of a process (PerfFaultEvents::attach), or 0.
    [[nodiscard]] int error() const noexcept { return error_; }

private:
    using Clock = std::chrono::steady_clock;

    struct Process {
        std::set<pid_t> threads;
        std::uint64_t seen = 0;  ///< faults that were reported
        /// Both counts when they were last known to agree.
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
    /// Counts the faults of all processes since the last call; nothing if no process was there at that call.
    std::optional<std::uint64_t> count(const std::map<pid_t, std::uint64_t>& faults);
    void set_pace(std::uint64_t faults);

    sys::PerfOpen open_;
    std::optional<sys::PerfFaultEvents> events_;  ///< nothing while the guide pauses
    std::map<pid_t, std::uint64_t> counted_;      ///< faults of each process at the last call
    std::set<pid_t> refused_;
    int error_ = 0;
    std::map<pid_t, Process> processes_;
    std::set<std::uint64_t> chunks_;
    Clock::time_point asked_ = Clock::now();
    double rate_ = 0;  ///< recent faults a second of all processes
};

}  // namespace vmcow::meter
