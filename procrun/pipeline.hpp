#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline_text.hpp"

namespace procrun {

struct PipelineOptions {
    /// What still runs then is stopped, and its outcome is deadline_passed.
    Deadline deadline = Deadline::never();
    /// What is to be stopped gets SIGTERM, and SIGKILL when it still runs this much later.
    std::chrono::nanoseconds grace = std::chrono::seconds{2};
    /// The pipeline is stopped when this becomes readable, say a signalfd; -1 for never. It is not read from.
    int stop_fd = -1;
};

/// What came of one stage. What is unknown, or never was, is nullopt (I8).
struct StageReport {
    std::vector<std::string> argv;
    std::optional<pid_t> pid;
    Outcome outcome;
    std::optional<double> wall_seconds;    ///< from its start until its end was seen
    std::optional<double> user_seconds;    ///< with those of the children that it waited for
    std::optional<double> system_seconds;  ///< as above
    /// rchar and wchar of /proc/PID/io: what went through read(2) and write(2), whatever the file. Bytes moved by
    /// splice(2) are not in wchar.
    std::optional<std::uint64_t> read_bytes;
    std::optional<std::uint64_t> written_bytes;
    /// Most memory resident at any time. From ru_maxrss, which is the largest single process below this stage too, when
    /// that exceeds what the stage inherited from us; otherwise VmHWM when it was last looked at.
    std::optional<std::uint64_t> peak_bytes;
};

struct PipelineReport {
    std::vector<StageReport> stages;
    double wall_seconds = 0;
    int status = 0;                      ///< status_of(stages)
    bool stopped = false;                ///< through `stop_fd`
    std::optional<std::size_t> refused;  ///< the stage that could not start, because of which none after it did
};

/// What a shell with pipefail would exit with: 0, or the status of the last stage that failed: what it exited with,
/// 128 + its signal, 124 past its deadline, 1 when it never started. Death by SIGPIPE is no failure when the stage that
/// reads from it ended well, itself or by this rule.
[[nodiscard]] int status_of(std::span<const StageReport> stages);

/// Whether status_of passes over the death of `stages[index]` by SIGPIPE.
[[nodiscard]] bool is_excused(std::span<const StageReport> stages, std::size_t index);

/// Runs the programs of a pipeline at the same time, each one's standard output the next one's standard input, and
/// waits until all have ended. The pipes connect the programs directly; what the first reads and the last writes, and
/// where all write their errors, is this process's, unless redirected.
///
/// Before anything starts, all programs are looked for and all files opened. When one is not there, nothing runs and no
/// file has lost what it held. A stage that fails to start later has those before it stopped; in both cases the report
/// says so. A stage that is stopped has its children left alone.
///
/// Pre:     at least one stage, each with a word; SIGCHLD is not ignored.
/// Throws:  std::system_error -- ECHILD, or when waiting itself fails. No process or descriptor is left behind.
/// Threads: the stages are killed when the calling thread ends, however that comes about.
/// Source:  pipe(7), pidfd_open(2), Linux 5.11.
[[nodiscard]] PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options = {});

}  // namespace procrun
