#pragma once

#include <cstddef>
#include <cstdint>

namespace vmcow::sys {

/// The counters of /proc/self/smaps that matter here, in bytes, summed over the mappings that lie within a range.
struct SmapsTotals {
    std::uint64_t resident_bytes = 0;     ///< Rss
    std::uint64_t anonymous_bytes = 0;    ///< Anonymous
    std::uint64_t swapped_bytes = 0;      ///< Swap
    std::uint64_t huge_mapped_bytes = 0;  ///< ShmemPmdMapped + FilePmdMapped
};

/// Reads the counters for the mappings within `bytes` from `address` on.
/// Throws: std::system_error -- EMFILE, EACCES.
/// Cost:   the kernel walks every page of the process.
[[nodiscard]] SmapsTotals read_smaps(std::uintptr_t address, std::size_t bytes);

}  // namespace vmcow::sys
