#pragma once

#include <memory>
#include <optional>
#include <string>

#include "procrun/observe/stage_view.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// Looks into a pipe that other processes use, without keeping an end of the pipe open. Of a file that is no pipe, the
/// gauge knows the name but never a level.
///
/// The gauge keeps the pipe's inode by an O_PATH descriptor, which counts as neither reader nor writer. It becomes a
/// reader for the moment of one FIONREAD. That cannot disturb the programs. No byte is read. A reader's end of file
/// depends on the writers, and the gauge is never a writer. If the programs' last reader leaves within that moment, the
/// writer gets its SIGPIPE at the end of the moment, because the kernel wakes writers when the last reader closes,
/// which is the gauge then. Bytes written within the moment are lost, as if written right before the reader left.
///
/// A named pipe has no level: opening it would let a writer go on that waits for a reader to open it.
///
/// Threads: a process forked while a level is read keeps the end until it execs. Fork in the thread that reads levels.
/// Source:  open(2) O_PATH, pipe(7); the kernel's pipe_release.
class PipeGauge {
public:
    /// A gauge of the file that `fd` refers to; it knows nothing if `fd` is not open. The caller may close `fd` then.
    explicit PipeGauge(int fd);

    /// The name that /proc/PID/fd shows for the file in any process, as in "pipe:[1234]"; empty when not known.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Whether the file is a pipe whose level can be asked for.
    [[nodiscard]] bool is_pipe() const noexcept { return static_cast<bool>(path_); }
    /// nullopt if the file is no pipe, or is another user's pipe, and when no descriptor is left.
    /// Cost: 4 system calls.
    [[nodiscard]] std::optional<PipeLevel> level() const;

private:
    std::string name_;
    vmcow::sys::UniqueFd path_;  // O_PATH
    std::string reopen_path_;
};

/// The two stages at a pipe share one gauge. Null where nothing is known of what a stage reads or writes.
using SharedGauge = std::shared_ptr<const PipeGauge>;

/// The name that /proc shows for a descriptor of a process; empty when it is not open or may not be seen.
/// Source: proc(5) /proc/PID/fd.
[[nodiscard]] std::string name_of_descriptor(const std::string& process_folder, int fd);

}  // namespace procrun
