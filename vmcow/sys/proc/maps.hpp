#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmcow::sys {

/// A mapping of a process.
struct ProcessMapping {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t offset = 0;  ///< where the first byte lies in the file
    std::uint64_t inode = 0;   ///< 0 for memory without a file
    bool shared = false;
    bool writable = false;
    bool executable = false;
    std::string name;  ///< the file's path, "[heap]", "[stack]", …; empty for nameless memory

    [[nodiscard]] std::uint64_t bytes() const { return end - start; }
    /// A private mapping of a file: a write to a page makes a copy that no longer belongs to the file.
    [[nodiscard]] bool private_file() const { return !shared && inode != 0; }
    bool operator==(const ProcessMapping&) const = default;
};

/// Parses a line of /proc/PID/maps, without its line end: "START-END rwxp OFFSET DEVICE INODE   NAME". nullopt for any
/// other text.
[[nodiscard]] std::optional<ProcessMapping> parse_process_mapping(std::string_view line);

/// The mappings of a process, ascending. Empty for a process that has no memory any more (a zombie) or never had any (a
/// kernel thread). Mappings past the addresses of programs, such as [vsyscall], are left out.
/// Throws: std::system_error -- ENOENT, ESRCH (no such process), EACCES (not ours), EMFILE.
/// Cost:   1 µs a mapping; the kernel keeps the memory's lock for a page of text at a time.
/// Source: proc(5) /proc/PID/maps.
[[nodiscard]] std::vector<ProcessMapping> read_process_maps(pid_t pid);

/// Whether a process has one of these memfds mapped shared and writable, now. True when that cannot be known; false for
/// a process that has ended. The caller of a moved value relies on a false (I3).
/// Cost:   the kernel writes a line for each mapping, 0.1 ms for a hundred.
/// Source: proc(5) /proc/PID/maps.
[[nodiscard]] bool maps_writable(pid_t pid, std::span<const std::uint64_t> inodes);

}  // namespace vmcow::sys
