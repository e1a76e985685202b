#pragma once

#include <cstdint>

namespace vmcow::sys {

/// Minor and major page faults of this process so far. Source: getrusage(2).
struct FaultCounts {
    std::uint64_t minor = 0;
    std::uint64_t major = 0;
};
[[nodiscard]] FaultCounts fault_counts() noexcept;

}  // namespace vmcow::sys
