#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Reads the memory of another process without changing which of its pages are shared.
///
/// process_vm_readv(2) would not do: it pins the pages that it reads, and since Linux 5.19 a page that a fork still
/// shares is copied before it is pinned. The reading itself would make the copy that is to be counted.
///
/// Throws:  std::system_error -- EACCES, EPERM (the caller may not ptrace it), ENOENT (no such process), EMFILE.
/// Source:  proc(5) /proc/PID/mem; mm/gup.c, gup_must_unshare.
class ProcessMemory {
public:
    explicit ProcessMemory(pid_t pid);

    /// Reads what is at `address`. Returns how many bytes there were before the first that is not mapped; 0 when the
    /// process has ended.
    /// Pre: the pages are in memory, or the read may bring them there.
    [[nodiscard]] std::size_t read(std::uint64_t address, std::span<std::byte> bytes) const noexcept;

private:
    UniqueFd memory_;
};

}  // namespace vmcow::sys
