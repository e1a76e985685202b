#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/limits.hpp"
#include "procrun/observe/bottleneck.hpp"
#include "procrun/observe/stage_view.hpp"
#include "procrun/outcome.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// What a program has done with values.
struct StageValues {
    std::uint64_t taken = 0;      ///< values that it asked for and got
    std::uint64_t given = 0;      ///< values that it gave itself
    std::uint64_t passed_on = 0;  ///< values for it that went on to its readers, because it gave none itself
    /// Pages that came with the values that it gave: it has made or changed no others.
    std::uint64_t new_pages = 0;
    std::uint64_t untaken = 0;  ///< values that it gave and that neither another stage nor the caller took

    bool operator==(const StageValues&) const = default;
};

/// A stage that has ended: how it ended, and what it used. nullopt is what is unknown, or never was (I8).
struct StageReport {
    std::vector<std::string> argv;
    std::string name;                  ///< as StageText has it; may be empty
    std::vector<std::size_t> readers;  ///< the stages that read what it writes, all of which come after it
    std::optional<pid_t> pid;
    Outcome outcome;
    std::optional<double> wall_seconds;    ///< from its start until its end was seen
    std::optional<double> user_seconds;    ///< with those of the children that it waited for
    std::optional<double> system_seconds;  ///< with those of the children that it waited for
    /// rchar of /proc/PID/io: bytes that went through read(2), whatever the file.
    std::optional<std::uint64_t> read_bytes;
    /// wchar of /proc/PID/io: bytes that went through write(2), whatever the file, but not those moved by splice(2).
    std::optional<std::uint64_t> written_bytes;
    std::optional<std::uint64_t> minor_faults;  ///< with those of the children that it waited for
    std::optional<std::uint64_t> major_faults;  ///< with those of the children that it waited for
    /// The most memory that was resident at any time, in the largest single process of the stage: ru_maxrss. Unknown
    /// where programs are forked from this process (LauncherKind::fork), because the peak of this process would be in
    /// it. For a function stage, the pages that it shares with this process count too.
    std::optional<std::uint64_t> peak_bytes;
    /// Pages that a function stage has copied by writing (ValueTraffic::changes). Unknown for a program: when it has
    /// ended, its memory is gone. `vmcow watch` looks before that.
    std::optional<std::uint64_t> copied_pages;
    std::optional<StageValues> values;  ///< nullopt: no values went through this stage
    StageShares shares;                 ///< how it spent its time
    /// Capacity of the pipe to the next stage, as granted; nullopt for the last.
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<MemoryLimitBy> memory_limit_by;  ///< how its memory limit was kept; nullopt: it has none
    std::vector<std::string> limits_unknown;       ///< its limits that could not be watched, each with the reason
};

struct PipelineReport {
    std::vector<StageReport> stages;
    double wall_seconds = 0;
    int status = 0;                            ///< status_of(stages)
    bool stopped = false;                      ///< it was stopped through `stop_fd`
    std::uint64_t attempts = 1;                ///< the number of this run, where the caller has run it before
    Bottleneck bottleneck;                     ///< what held the pipeline up
    std::optional<std::size_t> refused;        ///< the stage that could not start; those after it were not started
    std::vector<vmcow::TypedSnapshot> values;  ///< those that no stage read (PipelineOptions::keep_values)
    std::uint64_t untaken_values = 0;          ///< those of PipelineOptions::values that no stage took
    std::string pump_failure;                  ///< which bytes between stages were lost, and why; empty: none were
};

/// The status with which a shell with pipefail would exit: 0, or the status of the last stage that failed. That is the
/// stage's exit status, 128 + its signal, 124 past its deadline, or 1 when it never started. Death by SIGPIPE is no
/// failure when the stages that read from the stage ended well, or are excused by this rule themselves.
[[nodiscard]] int status_of(std::span<const StageReport> stages);

/// Whether status_of excuses the death of `stages[index]` by SIGPIPE.
[[nodiscard]] bool is_excused(std::span<const StageReport> stages, std::size_t index);

/// What held up a pipeline whose stages ended like this.
[[nodiscard]] Bottleneck bottleneck_of(std::span<const StageReport> stages);

}  // namespace procrun
