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
    std::uint64_t bytes = 0;  ///< the length of the file now
};

/// How far a process has read its standard input, if that is a regular file open for reading only, or else the largest
/// such file that it has open. nullopt while the position is 0, for files of length 0, and for a process that cannot be
/// seen. A program that reads through a mapping, or with pread(2), moves no position.
/// Cost:   four system calls for each descriptor of the process.
/// Source: proc(5) /proc/PID/fd, /proc/PID/fdinfo.
[[nodiscard]] std::optional<FilePosition> position_in_input(pid_t pid);

}  // namespace procrun
