#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace procrun {

/// What lies in a pipe at one moment.
struct PipeLevel {
    std::size_t queued_bytes = 0;
    std::size_t capacity_bytes = 0;

    [[nodiscard]] bool empty() const noexcept { return queued_bytes == 0; }
    /// Nothing can be written without waiting. A pipe takes bytes as long as one of its pages is unused, and only when
    /// less than a page is missing can none be. One whose pages hold little each is full long before; that is not seen.
    [[nodiscard]] bool full() const noexcept;

    bool operator==(const PipeLevel&) const = default;
};

/// Looks into a pipe that other processes use without being one of its ends. Of a file that is no pipe it knows the
/// name and never a level.
///
/// It keeps the pipe's inode by an O_PATH descriptor, which counts as neither reader nor writer, and becomes a reader
/// for the moment of one FIONREAD. That cannot disturb the programs: no byte is read; a reader's end of file depends on
/// writers, of which this is never one; a writer whose last reader leaves within that moment gets its SIGPIPE at the
/// end of the moment, because the kernel wakes writers when the last reader closes, whoever that is. What is written
/// within the moment is lost as if it had been written right before the reader left.
///
/// Named pipes have no level: to open one lets a writer pass that waits for a reader to open it.
///
/// Threads: a process forked while a level is read keeps the end until it execs. Fork in the thread that reads levels.
/// Source:  open(2) O_PATH, pipe(7); the kernel's pipe_release.
class PipeGauge {
public:
    /// Of what `fd` refers to, which the caller may close afterwards. Knows nothing of a descriptor that is not open.
    explicit PipeGauge(int fd);

    /// The name under which /proc/PID/fd shows it in any process, as in "pipe:[1234]"; empty when not known.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// True when it is a pipe whose level can be asked for.
    [[nodiscard]] bool is_pipe() const noexcept { return static_cast<bool>(path_); }
    /// nullopt for what is no pipe, when there is no descriptor left, or for another user's pipe. Cost: 4 system calls.
    [[nodiscard]] std::optional<PipeLevel> level() const;

private:
    std::string name_;
    vmcow::sys::UniqueFd path_;  // O_PATH
    std::string reopen_path_;
};

/// One gauge serves both stages at a pipe; null where nothing is known of what a stage reads or writes.
using SharedGauge = std::shared_ptr<const PipeGauge>;

/// The name that /proc shows for a descriptor of a process; empty when it is not open or must not be seen.
/// Source: proc(5) /proc/PID/fd.
[[nodiscard]] std::string name_of_descriptor(const std::string& process_folder, int fd);

}  // namespace procrun
