#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Reads the memory of another process without changing which of its pages are shared.
///
/// Not by process_vm_readv(2): that pins the pages it reads, and since Linux 5.19 a page that a fork still shares is
/// copied before it is pinned. Reading it would make the very copy that is to be counted.
///
/// Throws:  std::system_error -- EACCES, EPERM (the caller may not ptrace it), ENOENT (no such process), EMFILE.
/// Source:  proc(5) /proc/PID/mem; mm/gup.c, gup_must_unshare.
class ProcessMemory {
public:
    explicit ProcessMemory(pid_t pid);

    /// Reads what is at `address`; returns how many bytes there were before the first that is not mapped. 0 when the
    /// process has ended. Pre: the pages are in memory, or they come to be.
    [[nodiscard]] std::size_t read(std::uint64_t address, std::span<std::byte> bytes) const noexcept;

private:
    UniqueFd memory_;
};

}  // namespace vmcow::sys
