#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/pipe_gauge.hpp"
#include "procrun/stage_meter.hpp"
#include "procrun/stage_tasks.hpp"
#include "procrun/value_wait.hpp"

namespace procrun {

/// What a stage does at one moment.
enum class StageState {
    unknown,
    running,        ///< on a processor, or ready for one
    blocked_read,   ///< asleep for want of input
    blocked_write,  ///< asleep because what it writes to takes no more
    waiting,        ///< asleep for another reason: a clock, a lock, a file or socket of its own
};

/// Which share of its life a stage spent how, 0 to 1; nullopt for what is not known (I8). Where all are known they sum
/// to 1.
struct StageShares {
    std::optional<double> running;
    std::optional<double> blocked_read;
    std::optional<double> blocked_write;
    std::optional<double> waiting;

    double life_seconds = 0;         ///< from its start to its end, or until it was last counted
    std::uint64_t looks = 0;         ///< those that saw what it did
    std::uint64_t asleep_looks = 0;  ///< those of them that found it asleep
};

/// Fewer looks than this say nothing of how a stage's sleep divides.
inline constexpr std::uint64_t kFewestLooks = 20;

/// What there is to be seen of a stage while it runs. The bytes, the level and the memory are at most 100 ms old, or as
/// old as the last look. Of a stage that has ended, as it was last seen.
struct StageView {
    StageState state = StageState::unknown;
    std::optional<PipeLevel> input;  ///< of the pipe that it reads from
    std::optional<TransferredBytes> transferred;
    std::optional<std::uint64_t> resident_bytes;
};

/// What a stage reads and writes as its standard input and output; null where that is not known.
struct StageStreams {
    SharedGauge input{};
    SharedGauge output{};
    SharedValueWait values{};  ///< of a function stage
};

/// How much may be used of what the kernel offers. All of it unless a test wants to see what is left without.
struct LookOptions {
    enum class Depth {
        calls,   ///< the system call in which each thread sleeps
        states,  ///< whether each thread sleeps, and in which function of the kernel
        levels,  ///< how full the pipes are
    };
    Depth depth = Depth::calls;
    bool children_files = true;  ///< as for tasks_below
};

/// Finds out which share of its life a stage of a pipeline runs, waits for its input, waits for its output, or waits
/// otherwise, by looking at it from outside now and then. The stage may be any program; nothing of it is slowed down.
///
/// The stage is the program with its threads and all processes below it, such as those of a shell. It runs when any of
/// them runs. How long it runs is counted by the kernel; only how the rest divides is estimated from the looks: the
/// time between two of them goes in halves to what each has found. At a look the stage is
///   running        when a thread is on a processor or ready for one,
///   blocked_write  when a thread sleeps in a call that writes to the stage's output,
///   blocked_read   when a thread sleeps in a call that reads from the stage's input,
///   blocked_read, blocked_write  too, when the stage shows that it waits for a value, or for somebody to take one,
///   by the pipes   when a thread polls, or it cannot be seen in which call it sleeps: blocked_read when the input pipe
///                  is empty, blocked_write when the output pipe is full,
///   waiting        otherwise;
/// the first of these that holds. How long any of several threads ran is what they used together, divided by how
/// many the looks found running at once; for the part of its life in which threads came and went uncounted, how often
/// the looks found it running. Both within the bounds that are known (StageTasks).
///
/// Cost:    two or three system calls a look at a stage of one thread that runs, or sleeps at its ends; 4 more where
///          the pipes decide; about ten where it waits otherwise, to find out whether a new process does its work.
/// Pre:     the process is a child that is not reaped before `stop`.
/// Source:  proc(5) /proc/PID/{syscall,wchan,stat,schedstat,io,statm}; syscall needs the right to trace the process.
class StageStates {
public:
    using Clock = Deadline::Clock;

    StageStates(pid_t pid, StageStreams streams, Clock::time_point started, LookOptions options = {});

    /// Takes one look, and counts when that has not been done for a while.
    void look(Clock::time_point now);
    /// The stage has ended and has not been reaped: counts what it has used for the last time.
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
    LookOptions options_;
    Clock::time_point started_;
    StageTasks tasks_;
    Clock::time_point looked_at_;
    Clock::time_point details_at_;
    StageView view_;

    /// Seconds that the looks stand for, by what they found.
    struct SeenSeconds {
        double running = 0;
        double running_threads = 0;  // each look with the number of threads that it found running
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
