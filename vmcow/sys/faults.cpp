#include "vmcow/sys/faults.hpp"

#include <sys/resource.h>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {

FaultCounts fault_counts() {
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) != 0) throw_errno("getrusage of this process");
    return {static_cast<std::uint64_t>(usage.ru_minflt), static_cast<std::uint64_t>(usage.ru_majflt)};
}

}  // namespace vmcow::sys
