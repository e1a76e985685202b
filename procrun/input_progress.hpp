#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace procrun {

/// How far a program has read the file that feeds it.
struct FilePosition {
    std::string file;  ///< as /proc shows it
    std::uint64_t position = 0;
    std::uint64_t bytes = 0;  ///< how long it is now
};

/// The largest regular file that a process has open for reading only, and where it is in it; its standard input before
/// others. A program that reads through a mapping, or at places of its own (pread), moves no position: nullopt as long
/// as none has been moved, for no process that can be seen, and for files of length 0.
/// Cost: four system calls for each descriptor of the process. Source: proc(5) /proc/PID/fd, /proc/PID/fdinfo.
[[nodiscard]] std::optional<FilePosition> position_in_input(pid_t pid);

}  // namespace procrun
