#pragma once

#include <cstddef>
#include <system_error>
#include <variant>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// What ends a wait early: the deadline, or a descriptor that becomes readable (-1: none).
struct WaitLimits {
    Deadline deadline = Deadline::never();
    int stop_fd = -1;
};

/// The files of one stage, one for each of its redirections; a duplication has no file.
using StageFiles = std::vector<vmcow::sys::UniqueFd>;

/// The stage whose file could not be opened, and why.
struct FileRefusal {
    std::size_t stage = 0;
    Outcome outcome;
};

/// The outcome of a stage that never ran because of `error`. Its text lacks the errno's description, which
/// Outcome::describe adds.
[[nodiscard]] Outcome not_started(const std::system_error& error);

/// Opens the files of all redirections: first files to read, then files to write. A file to write loses its content
/// only when all files could be opened. A file that did not exist is created, and stays.
///
/// A named pipe to read is waited for until something is written to it, and one to write until somebody reads it. When
/// a limit ends this wait, the errno of the refusal is ETIMEDOUT (the deadline) or ECANCELED (`stop_fd`).
///
/// Throws: std::system_error -- when waiting itself fails. Refusals of the files are returned.
/// Source: open(2); fifo(7).
[[nodiscard]] std::variant<std::vector<StageFiles>, FileRefusal> open_stage_files(const PipelineText& text,
                                                                                  const WaitLimits& limits);

}  // namespace procrun
