#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

namespace vmcow::sys {

/// Which processes and threads there are. A process or thread in a list may have ended by the time the list is read.
/// Source: proc(5) /proc/PID, /proc/PID/task/TID.

/// The numbers of all processes that this process may see.
/// Throws: std::system_error -- EMFILE, ENOENT (no /proc).
[[nodiscard]] std::vector<pid_t> list_processes();
/// Like list_processes, but nullopt, with errno, when they cannot be listed.
[[nodiscard]] std::optional<std::vector<pid_t>> try_list_processes();

/// The numbers of the threads of a process. nullopt, with errno, when they cannot be listed: ENOENT (no such process),
/// EMFILE.
[[nodiscard]] std::optional<std::vector<pid_t>> try_list_threads(pid_t pid);
/// Like try_list_threads, for this process.
[[nodiscard]] std::optional<std::vector<pid_t>> try_list_own_threads();

/// The children of a thread of a process, including those that have ended and were not waited for. nullopt, with errno,
/// when they cannot be listed: ENOENT (no such thread, or a kernel without CONFIG_PROC_CHILDREN), EMFILE.
/// Source: proc(5) /proc/PID/task/TID/children.
[[nodiscard]] std::optional<std::vector<pid_t>> try_list_children(pid_t pid, pid_t thread);

/// Whether the kernel lists the children of a thread. Source: CONFIG_PROC_CHILDREN.
[[nodiscard]] bool has_children_files() noexcept;

/// The process that `thread` belongs to; nullopt when there is no such thread.
/// Throws: std::system_error -- EMFILE, ENOMEM.
[[nodiscard]] std::optional<pid_t> process_of_thread(pid_t thread);

}  // namespace vmcow::sys
