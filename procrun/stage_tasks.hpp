#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/blocked_call.hpp"
#include "procrun/deadline.hpp"
#include "procrun/stage_meter.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// A thread that does a stage's work: one of the program itself or of a process below it.
///
/// Source: proc(5) /proc/PID/task/TID.
class StageTask {
public:
    /// `keep_open` keeps a descriptor from the first look on, which saves two system calls of three in each.
    StageTask(pid_t pid, pid_t tid, bool keep_open);

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] pid_t tid() const noexcept { return tid_; }
    /// As in "/proc/12": where its process's descriptors are listed.
    [[nodiscard]] const std::string& process_folder() const noexcept { return process_folder_; }

    /// What it does right now; nullopt when it has ended, or when this process may not trace it.
    [[nodiscard]] std::optional<BlockedCall> call();
    /// The same from the scheduler's state and the kernel function it sleeps in, which need fewer rights; the
    /// descriptor is not known.
    [[nodiscard]] std::optional<BlockedCall> scheduler_state() const;
    /// Time on a processor and on a run queue since the thread began. Without the scheduler's statistics, for a main
    /// thread, the processor time of its process.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> busy() const;

private:
    pid_t pid_;
    pid_t tid_;
    std::string process_folder_;
    std::string folder_;
    bool keep_open_;
    vmcow::sys::UniqueFd call_;
};

/// Ids of a thread that does a stage's work.
struct TaskId {
    pid_t pid = -1;
    pid_t tid = -1;
    bool operator==(const TaskId&) const = default;
};

/// Whether the kernel lists the children of each thread. Source: proc(5) /proc/PID/task/TID/children
/// (CONFIG_PROC_CHILDREN).
[[nodiscard]] bool has_children_files();

/// The threads of `pid` and of all processes below it, `pid` itself first. Without `children_files` these are
/// found by their parents' ids among all processes. nullopt when `pid` is no process, or no descriptor is left.
[[nodiscard]] std::optional<std::vector<TaskId>> tasks_below(pid_t pid, bool children_files);

/// How long at least one of several threads was busy lies between these.
struct BusyBounds {
    std::chrono::nanoseconds lower{0};
    std::chrono::nanoseconds upper{0};
    std::chrono::nanoseconds counted{0};  ///< what all have used together, as far as they were seen
    bool operator==(const BusyBounds&) const = default;
};

/// The threads that do one stage's work and how busy they have been.
///
/// Busy is on a processor or ready for one: who waits for a processor is not held up by a neighbour. For one thread it
/// is counted exactly; for several it is between what the busiest has used and what all have used together, where a
/// thread that came or went may have used all the time since the list before. Both are of the whole life: the kernel
/// counts late what a thread has used, so that the parts of a short interval say little about one another.
class StageTasks {
public:
    using Clock = Deadline::Clock;

    StageTasks(pid_t pid, Clock::time_point started, bool children_files);

    /// Lists the threads anew and counts what they have used. Leaves all as it was when they cannot be listed.
    void refresh(Clock::time_point now);
    /// The same at the end, when nothing is left but the process itself, which has not been reaped.
    void finish(Clock::time_point now);

    /// False when finding the processes below takes a search among all there are.
    [[nodiscard]] bool has_children_files() const noexcept { return children_files_; }
    [[nodiscard]] std::span<StageTask> tasks() noexcept { return tasks_; }
    [[nodiscard]] Clock::time_point refreshed_at() const noexcept { return refreshed_at_; }
    /// From the start to refreshed_at(); nullopt when the kernel does not say.
    [[nodiscard]] std::optional<BusyBounds> busy() const;
    /// Sums over the processes; nullopt when it is not known of the stage's own, for memory when of none.
    [[nodiscard]] std::optional<TransferredBytes> transferred();
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
    std::optional<TransferMeter> transferred_;  // of the process itself, from when it is first asked for
    std::vector<StageTask> tasks_;
    std::vector<Counted> counted_;
    Clock::time_point refreshed_at_;
    BusyBounds busy_;
    bool busy_known_ = true;
};

}  // namespace procrun
