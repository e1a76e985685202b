#include "vmcow/sys/faults.hpp"

#include <sys/resource.h>

namespace vmcow::sys {

FaultCounts fault_counts() noexcept {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return {static_cast<std::uint64_t>(usage.ru_minflt), static_cast<std::uint64_t>(usage.ru_majflt)};
}

}  // namespace vmcow::sys
