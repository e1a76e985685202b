#pragma once

#include <sys/types.h>

#include <vector>

namespace procrun {

/// The children of this process, which has one thread. Empty also where they cannot be found out.
/// Cost: 10 µs; a search among all processes where the kernel does not list children.
/// Source: proc(5) /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN).
[[nodiscard]] std::vector<pid_t> own_children();

}  // namespace procrun
