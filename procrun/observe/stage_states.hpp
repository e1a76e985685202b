#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "procrun/deadline.hpp"
#include "procrun/observe/pipe_gauge.hpp"
#include "procrun/observe/stage_tasks.hpp"
#include "procrun/observe/stage_view.hpp"
#include "procrun/observe/value_wait.hpp"

namespace procrun {

/// What a stage has as its standard input and output; null where that is not known.
struct StageStreams {
    SharedGauge input{};
    SharedGauge output{};
    SharedValueWait values{};  ///< what a function stage shows of itself
};

/// How much of what the kernel offers may be used: all of it, except in tests of what can be seen with less.
struct StageLookOptions {
    enum class Depth {
        calls,   ///< the system call in which each thread sleeps
        states,  ///< whether each thread sleeps, and in which function of the kernel
        levels,  ///< how full the pipes are
    };
    Depth depth = Depth::calls;
    bool children_files = true;  ///< as for tasks_below
};

/// Finds out for which share of its life a stage of a pipeline runs, waits for input, waits for output, or waits for
/// something else, by looking at it from outside now and then. The stage may be any program, and it is not slowed down.
///
/// The stage is the program with its threads and all processes below it, such as those of a shell. It runs when any of
/// these threads runs. The kernel counts how long it runs. Only how the rest of the time divides is estimated from the
/// looks: half of the time between two looks goes to the state that each of them found. The state that a look finds is
/// the first of these that holds:
///   running        a thread is on a processor or ready for one;
///   blocked_write  a thread sleeps in a call that writes to the stage's output;
///   blocked_read   a thread sleeps in a call that reads from the stage's input;
///   as shown       a function stage shows that it waits for a value (blocked_read) or for a taker (blocked_write);
///   by the pipes   a thread polls, or sleeps in a call that cannot be seen: blocked_read when the input pipe is empty,
///                  blocked_write when the output pipe is full;
///   waiting        otherwise.
/// The time in which any of several threads ran is what they used together, divided by how many of them the looks found
/// running at once. For the part of the life in which threads came and went uncounted, it is how often the looks found
/// the stage running. Both are kept within the bounds that are known (StageTasks).
///
/// Cost:    a look takes two or three system calls for a stage of one thread that runs or sleeps at its ends; 4 more
///          where the pipes decide; about ten where it waits for something else, because it may have a new process.
/// Pre:     the process is a child that is not reaped before `stop`.
/// Source:  proc(5) /proc/PID/{syscall,wchan,stat,schedstat,io,statm}; syscall needs the right to trace the process.
class StageStates {
public:
    using Clock = Deadline::Clock;

    StageStates(pid_t pid, StageStreams streams, Clock::time_point started, StageLookOptions options = {});

    /// Takes one look. Also counts the time that the threads used, when the last count is old.
    /// Pre: `stop` has not been called.
    void look(Clock::time_point now);
    /// Counts what the stage has used for the last time.
    /// Pre: the stage has ended and has not been reaped; `stop` has not been called.
    void stop(Clock::time_point now);

    [[nodiscard]] StageShares shares() const;
    [[nodiscard]] const StageView& view() const noexcept { return view_; }

private:
    /// What one look has found out about a thread: a state, or that the pipes decide.
    struct Finding {
        StageState state = StageState::unknown;
        bool pipes_decide = false;
    };

    void read_details(Clock::time_point now);
    [[nodiscard]] StageState seen_state();
    [[nodiscard]] std::optional<Finding> find(StageTask& task) const;
    [[nodiscard]] Finding find_by_descriptors(const StageTask& task, const BlockedCall& call) const;
    [[nodiscard]] Finding find_by_kernel_function(BlockedCall::Kind kind) const;
    [[nodiscard]] StageState shown_wait() const noexcept;
    [[nodiscard]] StageState state_of_pipes(bool asleep);
    [[nodiscard]] std::optional<double> running_share() const;

    StageStreams streams_;
    StageLookOptions options_;
    Clock::time_point started_;
    StageTasks tasks_;
    Clock::time_point looked_at_;
    Clock::time_point details_at_;
    StageView view_;

    /// The seconds that the looks stand for, by the state that they found.
    struct SeenSeconds {
        double running = 0;
        double running_threads = 0;  // seconds times the number of threads found running
        double blocked_read = 0;
        double blocked_write = 0;
        double waiting = 0;

        void add(StageState state, std::size_t running_threads, double seconds);
        [[nodiscard]] double asleep() const { return blocked_read + blocked_write + waiting; }
    };
    SeenSeconds seen_;
    std::size_t running_threads_ = 0;  // at the last look
    std::uint64_t looks_ = 0;
    std::uint64_t asleep_looks_ = 0;
    bool stopped_ = false;
};

}  // namespace procrun
