#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/bottleneck.hpp"
#include "procrun/deadline.hpp"
#include "procrun/launcher.hpp"
#include "procrun/limits.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline_sample.hpp"
#include "procrun/pipeline_text.hpp"
#include "procrun/stage_states.hpp"
#include "vmcow/values_message.hpp"

namespace procrun {

struct PipelineOptions {
    /// What still runs then is stopped, and its outcome is deadline_passed.
    Deadline deadline = Deadline::never();
    /// What is to be stopped gets SIGTERM, and SIGKILL when it still runs this much later.
    std::chrono::nanoseconds grace = std::chrono::seconds{2};
    /// The pipeline is stopped when this becomes readable, say a signalfd; -1 for never. It is not read from.
    int stop_fd = -1;
    /// Capacity that the pipes between the stages are to have; nullopt: the kernel's default. What was granted is in
    /// the report.
    std::optional<std::size_t> pipe_bytes = std::nullopt;
    /// What programs that take values (vmcow/program_values.hpp) find as their arguments, all the same. Nobody takes
    /// what they give: EPIPE.
    std::vector<vmcow::TypedSnapshot> values{};
    /// Takes part in a shell's job control, as TerminalJob says. For processes with one thread.
    bool job_control = false;
    /// When the pipeline is stopped, what its stages have started and what has left its process group is stopped too
    /// (StrayProcesses): meanwhile this process gets all orphans below it. For processes that start nothing else.
    bool stop_strays = false;
    /// Told what can be seen of the stages, every `sample_every` at most as often; once more when all have ended.
    std::function<void(const PipelineSample&)> on_sample{};
    std::chrono::nanoseconds sample_every = std::chrono::milliseconds{100};
    /// Where the programs are started from; nullptr: Launcher::shared().
    Launcher* launcher = nullptr;
    /// Told, in one line, when bytes that several stages read or several write begin to go to a file, because they are
    /// not read in the order in which they come.
    std::function<void(const std::string&)> on_notice{};
};

/// What came of one stage. What is unknown, or never was, is nullopt (I8).
struct StageReport {
    std::vector<std::string> argv;
    std::string name;                  ///< as StageText has it; may be empty
    std::vector<std::size_t> readers;  ///< the stages that read what it writes, all of which come after it
    std::optional<pid_t> pid;
    Outcome outcome;
    std::optional<double> wall_seconds;    ///< from its start until its end was seen
    std::optional<double> user_seconds;    ///< with those of the children that it waited for
    std::optional<double> system_seconds;  ///< as above
    /// rchar and wchar of /proc/PID/io: what went through read(2) and write(2), whatever the file. Bytes moved by
    /// splice(2) are not in wchar.
    std::optional<std::uint64_t> read_bytes;
    std::optional<std::uint64_t> written_bytes;
    std::optional<std::uint64_t> minor_faults;  ///< with those of the children that it waited for, as the next
    std::optional<std::uint64_t> major_faults;
    /// Most memory resident at any time, of the largest single process of the stage: ru_maxrss. Unknown where programs
    /// are forked from this process (LauncherKind::fork): its own peak would be in it. Of a function stage, with the
    /// pages that it shares with this process.
    std::optional<std::uint64_t> peak_bytes;
    /// Pages that a function stage has copied by writing (ValueTraffic::changes). Unknown of a program: none of its
    /// memory is there any more when it has ended, and `vmcow watch` looks before that.
    std::optional<std::uint64_t> copied_pages;
    StageShares shares;  ///< how it spent its time
    /// Capacity of the pipe to the next stage, as granted; nullopt for the last.
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<MemoryLimitBy> memory_limit_by;  ///< who kept its memory limit; nullopt: it has none
    std::vector<std::string> limits_unknown;       ///< its limits that nobody could watch, with the reason
};

struct PipelineReport {
    std::vector<StageReport> stages;
    double wall_seconds = 0;
    int status = 0;                      ///< status_of(stages)
    bool stopped = false;                ///< through `stop_fd`
    std::uint64_t attempts = 1;          ///< the number of this run, where the caller has run it before
    Bottleneck bottleneck;               ///< what held it up
    std::optional<std::size_t> refused;  ///< the stage that could not start, because of which none after it did
    std::string pump_failure;            ///< what became of bytes between stages that were lost; empty: none were
};

/// What a shell with pipefail would exit with: 0, or the status of the last stage that failed: what it exited with,
/// 128 + its signal, 124 past its deadline, 1 when it never started. Death by SIGPIPE is no failure when the stages
/// that read from it ended well, themselves or by this rule.
[[nodiscard]] int status_of(std::span<const StageReport> stages);

/// Whether status_of passes over the death of `stages[index]` by SIGPIPE.
[[nodiscard]] bool is_excused(std::span<const StageReport> stages, std::size_t index);

/// Runs the programs of a pipeline at the same time, each one's standard output the next one's standard input, and
/// waits until all have ended. The pipes connect the programs directly; what the first reads and the last writes, and
/// where all write their errors, is this process's, unless redirected. They are one process group of their own.
///
/// Where stages say what they read (StageText::from), several may read one, and one several; a process that is forked
/// for this moves their bytes (pipes::Pump).
///
/// Before anything starts, all programs are looked for and all files opened. When one is not there, nothing runs and no
/// file has lost what it held. A stage that fails to start later has those before it stopped; in both cases the report
/// says so. What is stopped is stopped with all that is in the group still, children that keep a pipe open too. A stage
/// that exceeds a limit gets SIGKILL, it alone.
///
/// Pre:     at least one stage, each with a word; SIGCHLD is not ignored.
/// Throws:  std::system_error -- ECHILD, or when waiting itself fails. No process or descriptor is left behind.
/// Threads: the stages are killed when this process ends, however that comes about (Program::die_with_parent).
/// Source:  pipe(7), pidfd_open(2), Linux 5.11.
[[nodiscard]] PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options = {});

}  // namespace procrun
