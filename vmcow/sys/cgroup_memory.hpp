#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace vmcow::sys {

/// The memory limit that a process meets first: of its control group or of one above, the one with the least left.
struct CgroupMemory {
    std::string group;  ///< its folder below the mounted hierarchy, as in "/system.slice/redis.service"
    std::uint64_t limit_bytes = 0;
    std::uint64_t used_bytes = 0;
};

/// Nothing where no group has a limit, or where that is not to be seen: another namespace, no memory controller.
/// Source: cgroups(7); memory.max and memory.current of version 2, memory.limit_in_bytes and memory.usage_in_bytes of
/// version 1.
[[nodiscard]] std::optional<CgroupMemory> cgroup_memory(pid_t pid);

}  // namespace vmcow::sys
