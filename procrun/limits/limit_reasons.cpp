#include "procrun/limits/limit_reasons.hpp"

#include <cmath>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "procrun/limits.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {
namespace {

/// Writes both numbers with enough decimals to tell them apart and to show the limit within half a percent.
std::string of_at_most(double used, double limit, int decimals, std::string_view unit) {
    constexpr int kMostDecimals = 9;
    for (;; ++decimals) {
        const std::string used_text = fmt::format("{:.{}f}", used, decimals);
        const std::string limit_text = fmt::format("{:.{}f}", limit, decimals);
        const bool shows_limit = std::abs(std::strtod(limit_text.c_str(), nullptr) - limit) <= limit * 0.005;
        if ((used_text != limit_text && shows_limit) || decimals == kMostDecimals) {
            return fmt::format("{} {} of at most {} {}", used_text, unit, limit_text, unit);
        }
    }
}

struct Unit {
    double size;
    const char* name;
};

Unit unit_of_bytes(std::uint64_t limit) {
    return limit < (1u << 20) ? Unit{1024.0, "KiB"} : Unit{1024.0 * 1024.0, "MiB"};
}

}  // namespace

const char* name_of(MemoryLimitBy by) noexcept { return by == MemoryLimitBy::cgroup ? "cgroup" : "polling"; }

std::string processor_limit_reason(std::uint64_t used_ns, std::uint64_t limit_ns) {
    VMCOW_ASSERT(used_ns > limit_ns && "the call has used more than its limit");
    const Unit unit = limit_ns < 10'000'000'000 ? Unit{1e6, "ms"} : Unit{1e9, "s"};
    return "processor time: " + of_at_most(static_cast<double>(used_ns) / unit.size,
                                           static_cast<double>(limit_ns) / unit.size, 0, unit.name);
}

std::string memory_limit_reason(std::uint64_t used_bytes, std::uint64_t limit_bytes) {
    VMCOW_ASSERT(used_bytes > limit_bytes && "the call has used more than its limit");
    return fmt::format("memory: {} (polled)", bytes_of_at_most(used_bytes, limit_bytes));
}

std::string copied_limit_reason(std::uint64_t used_pages, std::uint64_t limit_pages) {
    VMCOW_ASSERT(used_pages > limit_pages && "the call has used more than its limit");
    return fmt::format("copied pages: {} of at most {}", used_pages, limit_pages);
}

std::string bytes_of_at_most(std::uint64_t used, std::uint64_t limit) {
    VMCOW_ASSERT(used > limit && "more was used than the limit");
    const Unit unit = unit_of_bytes(limit);
    return of_at_most(static_cast<double>(used) / unit.size, static_cast<double>(limit) / unit.size, 1, unit.name);
}

std::string cgroup_limit_reason(std::uint64_t memory_bytes) {
    const Unit unit = unit_of_bytes(memory_bytes);
    return fmt::format("memory: more than {:.1f} {} (cgroup)", static_cast<double>(memory_bytes) / unit.size,
                       unit.name);
}

}  // namespace procrun
