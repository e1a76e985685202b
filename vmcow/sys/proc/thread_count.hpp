#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>

namespace vmcow::sys {

/// How many threads a process has. The functions differ in which threads they count.

/// Counts the threads of this process that the kernel lists. These include threads on their way out, which are there
/// for a while after they were joined, and those of a sanitizer. Needs no descriptor.
/// Throws: std::system_error -- ENOENT (no /proc).
/// Cost:   a system call, 1 µs.
/// Source: the link count of /proc/self/task.
[[nodiscard]] std::size_t count_listed_threads();

/// Like count_listed_threads, for another process; nullopt, with errno, when there is no such process.
[[nodiscard]] std::optional<std::size_t> try_count_listed_threads(pid_t pid);

/// Like try_count_listed_threads, by a descriptor of the folder /proc/PID/task: 0 when the process has been reaped;
/// nullopt, with errno, when the descriptor has been closed.
[[nodiscard]] std::optional<std::size_t> try_count_listed_threads_in(int tasks) noexcept;

/// Counts the threads of this process that may run its code: without threads on their way out and those of a sanitizer.
/// Throws: std::system_error -- EMFILE, ENOENT.
/// Cost:   1 µs for one thread, 20 µs for each of several.
/// Source: proc(5) /proc/PID/task/TID/stat, PF_EXITING.
[[nodiscard]] std::size_t count_running_threads();

/// Whether the kernel lists one thread of this process. False also when the kernel does not say.
[[nodiscard]] bool has_one_thread() noexcept;

}  // namespace vmcow::sys
