#pragma once

#include <cstdint>

namespace vmcow::sys {

/// Page faults of a process.
struct FaultCounts {
    std::uint64_t minor = 0;
    std::uint64_t major = 0;
};
/// The page faults of this process so far.
/// Throws: std::system_error -- the errno of a filter that refuses the call: a count of 0 would mean that nothing was
///         written.
/// Source: getrusage(2).
[[nodiscard]] FaultCounts fault_counts();

}  // namespace vmcow::sys
