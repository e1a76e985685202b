#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>

namespace vmcow::sys {

/// The inode number of an open file, which together with its file system names it: memfds all have the same one.
/// Throws: std::system_error -- EBADF.
[[nodiscard]] std::uint64_t inode_of(int fd);

/// Whether a process has one of these memfds mapped shared and writable, now. True when that cannot be known; false for
/// a process that has ended. Cost: the kernel writes a line for each mapping, 0.1 ms for a hundred. Source: proc(5)
/// /proc/PID/maps.
[[nodiscard]] bool maps_writable(pid_t pid, std::span<const std::uint64_t> inodes);

}  // namespace vmcow::sys
