#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace procrun {

/// A cgroup (v2) that we make, in which the kernel enforces a memory limit on a function process: it kills a process
/// that takes more at once, with all that the process forked.
///
/// The cgroup is made below a cgroup2 directory that has the memory controller and is delegated to us, as a service
/// with systemd's `Delegate=memory` has one. The kernel allows no controllers below a cgroup that has processes itself.
/// A program that wants to limit its function processes therefore either runs in the root of the hierarchy or names a
/// directory above the cgroup it runs in:
///
///     service's cgroup/            delegated; this directory is named
///         main/                    the program itself
///         procrun-PID-N/           made here
///
/// Moving a process does not move the memory that it has already. Memory that it takes from then on is counted: not
/// only anonymous memory, but also page cache, pages of images that it is the first to touch, page tables and pipes.
///
/// Threads: one at a time.
/// Source:  Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint", "Memory Interface Files".
class MemoryCgroup {
public:
    /// Makes a cgroup below `directory`, or, when that is empty, below the cgroup of this process. Enables the memory
    /// controller there if needed. When no cgroup can be made, the string says why, for people, and nothing is left
    /// behind.
    [[nodiscard]] static std::variant<MemoryCgroup, std::string> make(const std::string& directory = {});
    /// Takes over a cgroup that was made for this purpose; the destructor removes it.
    [[nodiscard]] static std::variant<MemoryCgroup, std::string> adopt(std::string directory);

    MemoryCgroup(MemoryCgroup&& other) noexcept;
    MemoryCgroup& operator=(MemoryCgroup&& other) noexcept;
    MemoryCgroup(const MemoryCgroup&) = delete;
    MemoryCgroup& operator=(const MemoryCgroup&) = delete;
    /// Removes the cgroup, unless it still has processes: end and reap them first. A forked copy does not remove it.
    ~MemoryCgroup();

    [[nodiscard]] const std::string& directory() const noexcept { return directory_; }

    /// Moves a process, with all its threads, into the cgroup. Returns 0 or an errno: ESRCH (the process has ended),
    /// EACCES (the cgroup that the process comes from, or the common ancestor of both cgroups, is not delegated to us),
    /// EMFILE.
    [[nodiscard]] int add(pid_t pid) noexcept;

    /// Limits memory to `bytes` beyond what is counted now, without swap; nullopt lifts the limit. The kernel counts
    /// ahead by up to 64 pages per processor. Returns 0 or an errno: EACCES, EMFILE.
    [[nodiscard]] int limit(std::optional<std::uint64_t> bytes) noexcept;

    /// How many processes were killed because of the limit so far; nullopt when that cannot be read (I8).
    [[nodiscard]] std::optional<std::uint64_t> oom_kills() const noexcept;

private:
    MemoryCgroup(std::string directory, vmcow::sys::UniqueFd fd) noexcept;
    void remove() noexcept;

    std::string directory_;  // empty once moved from: nothing to remove
    vmcow::sys::UniqueFd fd_;
    vmcow::sys::OwnerProcess owner_;
};

}  // namespace procrun
