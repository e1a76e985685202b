#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::sys {

/// What /proc/PID/stat says about a process, or /proc/PID/task/TID/stat about a thread.
struct ProcessStat {
    pid_t pid = 0;  ///< for a thread: the number of the thread
    pid_t parent = 0;
    char state = '?';  ///< 'Z' for a zombie, 'X' for a process that is being removed
    bool kernel_thread = false;
    bool exiting = false;                    ///< it runs no code any more
    std::string command;                     ///< at most 15 bytes; the program may have changed them
    std::uint64_t page_faults = 0;           ///< minor and major, of all threads, ended ones included
    std::uint64_t children_page_faults = 0;  ///< of children that have ended and were waited for, and of their children
    std::uint64_t threads = 0;               ///< of a zombie more than 1 until the last thread has ended
    std::uint64_t start_ticks = 0;  ///< since the machine started; together with the pid it names a process for good
    /// Where the program and its stack were placed. A forked child has its parent's values; exec(2) makes new ones,
    /// unless addresses are not randomised and the program is the same. Zeros for a reader that may not ptrace the
    /// process.
    std::array<std::uint64_t, 6> placement{};
};

/// Parses the line of /proc/PID/stat. nullopt for any other text; a missing number is 0.
[[nodiscard]] std::optional<ProcessStat> parse_process_stat(std::string_view text);

/// Reads the line of a process. nullopt when there is no such process (ENOENT, ESRCH).
/// Throws: std::system_error -- EMFILE, ENOMEM.
/// Source: proc(5) /proc/PID/stat.
[[nodiscard]] std::optional<ProcessStat> read_process_stat(pid_t pid);

/// Like read_process_stat, but nullopt whenever the line cannot be read.
[[nodiscard]] std::optional<ProcessStat> try_read_process_stat(pid_t pid);

/// Like read_process_stat, for the folder of a process or of a thread, such as "/proc/self" or "/proc/12/task/13".
[[nodiscard]] std::optional<ProcessStat> read_stat_in(const std::string& folder);
/// Like read_stat_in, but nullopt whenever the line cannot be read.
[[nodiscard]] std::optional<ProcessStat> try_read_stat_in(const std::string& folder);

/// How much memory a process has, in pages. Zeros for a process that has ended.
struct ProcessMemoryCounts {
    std::uint64_t mapped = 0;
    std::uint64_t resident = 0;
    std::uint64_t resident_of_files = 0;
    bool operator==(const ProcessMemoryCounts&) const = default;
};

/// Reads how much memory a process has. Zeros when there is no such process.
/// Throws: std::system_error -- EMFILE, ENOMEM.
/// Cost:   10 µs.
/// Source: proc(5) /proc/PID/statm.
[[nodiscard]] ProcessMemoryCounts read_process_memory_counts(pid_t pid);

/// Like read_process_memory_counts, but nullopt whenever the counts cannot be read.
[[nodiscard]] std::optional<ProcessMemoryCounts> try_read_process_memory_counts(pid_t pid);

/// Whether two processes have the same memory, as after vfork(2) until the child executes a program. nullopt when the
/// kernel does not tell.
/// Source: kcmp(2) KCMP_VM.
[[nodiscard]] std::optional<bool> share_memory(pid_t a, pid_t b) noexcept;

}  // namespace vmcow::sys
