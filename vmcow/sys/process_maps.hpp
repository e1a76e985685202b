#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vmcow::sys {

/// A mapping of a process.
struct ProcessMapping {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t offset = 0;  ///< of its first byte in the file
    std::uint64_t inode = 0;   ///< 0 for memory without a file
    bool shared = false;
    bool writable = false;
    bool executable = false;
    std::string name;  ///< the file's path, "[heap]", "[stack]", …; empty for nameless memory

    [[nodiscard]] std::uint64_t bytes() const { return end - start; }
    /// Private, and of a file: a write makes a page of it that is no longer the file's.
    [[nodiscard]] bool private_file() const { return !shared && inode != 0; }
    bool operator==(const ProcessMapping&) const = default;
};

/// The mappings of a process, ascending; empty for one that has no memory any more (a zombie) or never had (a kernel
/// thread). What lies past the addresses of programs, as [vsyscall], is left out.
/// Throws: std::system_error -- ENOENT, ESRCH (no such process), EACCES (not ours), EMFILE.
/// Cost: 1 µs a mapping; the kernel keeps the memory's lock for a page of text at a time. Source: proc(5)
/// /proc/PID/maps.
[[nodiscard]] std::vector<ProcessMapping> read_process_maps(pid_t pid);

}  // namespace vmcow::sys
