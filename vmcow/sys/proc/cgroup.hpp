#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::sys {

/// Whether the text of /proc/self/mountinfo lists a cgroup2 file system.
[[nodiscard]] bool has_cgroup2_mount(std::string_view mountinfo);

/// The directory of a process's cgroup (version 2), from the texts of /proc/PID/cgroup and /proc/self/mountinfo.
/// nullopt when cgroup2 is not mounted, or when only a part is mounted that the process is not in.
[[nodiscard]] std::optional<std::string> cgroup_directory(std::string_view cgroup, std::string_view mountinfo);

/// Whether the text of cgroup.controllers or cgroup.subtree_control names the controller `name`.
[[nodiscard]] bool has_controller(std::string_view controllers, std::string_view name) noexcept;

/// The memory limit that a process reaches first: that of its control group or of a group above, whichever has the
/// least memory left.
struct CgroupMemory {
    std::string group;  ///< path of the group below the mounted hierarchy, as in "/system.slice/redis.service"
    std::uint64_t limit_bytes = 0;
    std::uint64_t used_bytes = 0;
};

/// The memory limit of a process. nullopt when no group has a limit, or when limits cannot be seen: another namespace,
/// no memory controller.
/// Source: cgroups(7); memory.max and memory.current of version 2, memory.limit_in_bytes and memory.usage_in_bytes of
///         version 1.
[[nodiscard]] std::optional<CgroupMemory> cgroup_memory(pid_t pid);

/// Like cgroup_memory(pid), from the texts of /proc/PID/cgroup and /proc/self/mountinfo.
[[nodiscard]] std::optional<CgroupMemory> cgroup_memory(std::string_view cgroup, std::string_view mountinfo);

}  // namespace vmcow::sys
