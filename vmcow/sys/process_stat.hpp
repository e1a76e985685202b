#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vmcow::sys {

/// What /proc/PID/stat says of a process.
struct ProcessStat {
    pid_t pid = 0;
    pid_t parent = 0;
    char state = '?';  ///< 'Z' for a zombie, 'X' for one that is going
    bool kernel_thread = false;
    std::string command;            ///< at most 15 bytes, whatever the program made of them
    std::uint64_t page_faults = 0;  ///< minor and major ones, of all its threads, also of those that have ended
    std::uint64_t children_page_faults = 0;  ///< of children that have ended and were waited for, and of theirs
    std::uint64_t start_ticks = 0;  ///< since the machine started: with the number, it names the process for good
    /// Where the program that it runs and its stack were placed. A forked child has its parent's; exec(2) makes new
    /// ones, unless addresses are not randomised and the program is the same. Zeros for who may not ptrace it.
    std::array<std::uint64_t, 6> placement{};
};

/// Nothing where there is no such process (ENOENT, ESRCH).
/// Throws: std::system_error -- EMFILE, ENOMEM. Source: proc(5) /proc/PID/stat.
[[nodiscard]] std::optional<ProcessStat> read_process_stat(pid_t pid);

/// How much memory a process has, in pages. Zeros where there is no such process.
struct ProcessMemoryCounts {
    std::uint64_t mapped = 0;
    std::uint64_t resident = 0;
    std::uint64_t resident_of_files = 0;
    bool operator==(const ProcessMemoryCounts&) const = default;
};

/// Throws: std::system_error -- EMFILE, ENOMEM. Cost: 10 µs. Source: proc(5) /proc/PID/statm.
[[nodiscard]] ProcessMemoryCounts read_process_memory_counts(pid_t pid);

/// The numbers of all processes that are to be seen. Source: proc(5). Throws: std::system_error -- EMFILE, ENOENT.
[[nodiscard]] std::vector<pid_t> list_processes();

/// The process that the thread `thread` belongs to; nothing where there is no such thread.
[[nodiscard]] std::optional<pid_t> process_of_thread(pid_t thread);

/// Whether two processes have the same memory, as after vfork(2) until the child executes a program; nothing where the
/// kernel does not tell. Source: kcmp(2) KCMP_VM.
[[nodiscard]] std::optional<bool> share_memory(pid_t a, pid_t b) noexcept;

}  // namespace vmcow::sys
