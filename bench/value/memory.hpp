#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace bench {

/// All memory that the processes hold, each byte once: every page of the memfds that one of them has open; of memfds
/// that are only mapped, the pages in a page table; pages that are private to a process; and page tables. Private pages
/// that a child shares with its parent since the fork count for both.
/// Throws: std::system_error, std::runtime_error -- /proc cannot be read.
[[nodiscard]] std::uint64_t held_memory_bytes(const std::vector<pid_t>& processes);

}  // namespace bench
