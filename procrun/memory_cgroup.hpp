#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "vmcow/sys/fd.hpp"

namespace procrun {

/// A cgroup (v2) of our own, in which the kernel keeps the memory of a function process within a limit: one that takes
/// more is killed at once, with what it forked.
///
/// It is made below a directory of cgroup2 that has the memory controller and is delegated to us, as a service with
/// systemd's `Delegate=memory` has one. The kernel allows no controllers below a cgroup that has processes itself, so
/// that a program which is to limit its function processes either runs in the hierarchy's root or names a directory
/// beside the cgroup it runs in:
///
///     service's cgroup/            delegated; this directory is named
///         main/                    the program itself
///         procrun-PID-N/           made here
///
/// Moving a process does not move memory that it has already: what it takes from then on is counted, and that is not
/// anonymous memory alone but also page cache, images it is the first to touch, page tables and pipes.
///
/// Threads: one at a time.
/// Source:  Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint", "Memory Interface Files".
class MemoryCgroup {
public:
    /// Makes one below `directory`, or, when that is empty, below the cgroup of this process; enables the memory
    /// controller there when it is not. The string says why there can be none, for people; nothing has been made then.
    [[nodiscard]] static std::variant<MemoryCgroup, std::string> make(const std::string& directory = {});
    /// Takes over a cgroup that was made for this purpose, with its removal at the end.
    [[nodiscard]] static std::variant<MemoryCgroup, std::string> adopt(std::string directory);

    MemoryCgroup(MemoryCgroup&& other) noexcept;
    MemoryCgroup& operator=(MemoryCgroup&& other) noexcept;
    MemoryCgroup(const MemoryCgroup&) = delete;
    MemoryCgroup& operator=(const MemoryCgroup&) = delete;
    /// Removes the cgroup, unless it has processes still: end and reap them first.
    ~MemoryCgroup();

    [[nodiscard]] const std::string& directory() const noexcept { return directory_; }

    /// Moves a process, with all its threads, into the cgroup. 0 or the errno: ESRCH (ended), EACCES (the cgroup that
    /// it comes from, or that of both, is not delegated to us), EMFILE.
    [[nodiscard]] int add(pid_t pid) noexcept;

    /// From now on, `bytes` beyond what is counted now; nullopt lifts the limit. Nothing of it may be swapped out. The
    /// kernel counts ahead by up to 64 pages per processor. 0 or the errno: EACCES, EMFILE.
    [[nodiscard]] int limit(std::optional<std::uint64_t> bytes) noexcept;

    /// Processes killed because of a limit, so far; nullopt when that cannot be read (I8).
    [[nodiscard]] std::optional<std::uint64_t> oom_kills() const noexcept;

private:
    MemoryCgroup(std::string directory, vmcow::sys::UniqueFd fd) noexcept;
    void remove() noexcept;

    std::string directory_;  // empty: nothing to remove
    vmcow::sys::UniqueFd fd_;
};

namespace detail {

/// The directory of a process's cgroup (v2), from the texts of /proc/PID/cgroup and /proc/self/mountinfo; nullopt when
/// cgroup2 is not mounted, or only a part of it that the process is not in.
[[nodiscard]] std::optional<std::string> cgroup_directory(std::string_view cgroup, std::string_view mountinfo);

}  // namespace detail
}  // namespace procrun
