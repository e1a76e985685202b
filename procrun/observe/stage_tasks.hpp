#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/observe/blocked_call.hpp"
#include "procrun/observe/transfer_meter.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// A thread that does a stage's work: one of the program itself or of a process below it.
///
/// Source: proc(5) /proc/PID/task/TID.
class StageTask {
public:
    /// `keep_open`: a descriptor is kept from the first look on, which saves two of three system calls in each look.
    StageTask(pid_t pid, pid_t tid, bool keep_open);

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] pid_t tid() const noexcept { return tid_; }
    /// The folder of the thread's process, as in "/proc/12", where its descriptors are listed.
    [[nodiscard]] const std::string& process_folder() const noexcept { return process_folder_; }

    /// What the thread does right now; nullopt when it has ended, or when this process may not trace it.
    [[nodiscard]] std::optional<BlockedCall> call();
    /// What the thread does, by the scheduler's state and the kernel function it sleeps in. These need fewer rights
    /// than `call`, and tell no descriptor.
    [[nodiscard]] std::optional<BlockedCall> scheduler_state() const;
    /// Time on a processor and on a run queue since the thread began. Without the scheduler's statistics it is the
    /// processor time of the process, for the main thread, and nullopt for others.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> busy() const;

private:
    pid_t pid_;
    pid_t tid_;
    std::string process_folder_;
    std::string folder_;
    bool keep_open_;
    vmcow::sys::UniqueFd call_;
};

/// The ids of a thread that does a stage's work.
struct TaskId {
    pid_t pid = -1;
    pid_t tid = -1;
    bool operator==(const TaskId&) const = default;
};

/// The threads of `pid` and of all processes below it, `pid` itself first. Without `children_files` the processes below
/// are found by their parents' ids among all processes. nullopt when `pid` is no process, or no descriptor is left.
[[nodiscard]] std::optional<std::vector<TaskId>> tasks_below(pid_t pid, bool children_files);

/// Bounds of the time in which at least one of several threads was busy.
struct BusyBounds {
    std::chrono::nanoseconds lower{0};
    std::chrono::nanoseconds upper{0};
    std::chrono::nanoseconds counted{0};  ///< what all threads have used together, as far as it was seen
    bool operator==(const BusyBounds&) const = default;
};

/// The threads that do one stage's work and how busy they have been.
///
/// A thread is busy when it is on a processor or ready for one: while it waits for a processor, no neighbour holds it
/// up. The time of one thread is counted exactly. For several threads it lies between what the busiest has used and
/// what all have used together, where a thread that came or went may have used all the time since the list before. Both
/// bounds are of the whole life: the kernel counts late what a thread has used, so that the counts of a short interval
/// say little about one another.
class StageTasks {
public:
    using Clock = Deadline::Clock;

    StageTasks(pid_t pid, Clock::time_point started, bool children_files);

    /// Lists the threads anew and counts what they have used. Changes nothing when they cannot be listed.
    void refresh(Clock::time_point now);
    /// Counts for the last time, when nothing is left but the process itself, which has ended and has not been reaped.
    void finish(Clock::time_point now);

    /// False when the processes below have to be found among all processes.
    [[nodiscard]] bool has_children_files() const noexcept { return children_files_; }
    [[nodiscard]] std::span<StageTask> tasks() noexcept { return tasks_; }
    [[nodiscard]] Clock::time_point refreshed_at() const noexcept { return refreshed_at_; }
    /// From the start to refreshed_at(); nullopt when the kernel does not say.
    [[nodiscard]] std::optional<BusyBounds> busy() const;
    /// The sum over the processes; nullopt when it is not known of the stage's own process.
    [[nodiscard]] std::optional<TransferredBytes> transferred();
    /// The sum over the processes; nullopt when it is known of none.
    [[nodiscard]] std::optional<std::uint64_t> resident_bytes() const;

private:
    struct Counted {
        TaskId id;
        std::chrono::nanoseconds busy{0};
    };

    void count(const std::vector<TaskId>& ids, Clock::time_point now);
    void adopt(const std::vector<TaskId>& ids);
    [[nodiscard]] std::chrono::nanoseconds counted_before(TaskId id) const;
    [[nodiscard]] std::vector<pid_t> processes() const;

    pid_t pid_;
    bool children_files_;
    TransferMeter transferred_;  // of the process itself, opened before it can end
    std::vector<StageTask> tasks_;
    std::vector<Counted> counted_;
    Clock::time_point refreshed_at_;
    BusyBounds busy_;
    bool busy_known_ = true;
};

}  // namespace procrun
