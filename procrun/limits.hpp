#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "vmcow/units.hpp"

namespace procrun {

/// What one call may use. nullopt: no limit.
struct CallLimits {
    /// Processor time of all threads of the call together.
    std::optional<std::chrono::nanoseconds> processor_time = std::nullopt;
    /// Pages of images that the kernel copies because the call writes to them.
    std::optional<vmcow::PageCount> copied_pages = std::nullopt;
    /// Descriptors that the function may have open beyond those that were open when it began.
    std::optional<std::uint32_t> open_files = std::nullopt;
    /// Anonymous memory beyond what the process had before the call; copied pages of images are part of it.
    std::optional<std::uint64_t> memory_bytes = std::nullopt;

    [[nodiscard]] bool any() const noexcept { return polled() || open_files; }
    /// Whether the caller has to look at the process from time to time: `LimitWatch`.
    [[nodiscard]] bool polled() const noexcept { return processor_time || copied_pages || memory_bytes; }
};

/// What one program of a pipeline may use. nullopt: no limit.
struct StageLimits {
    /// With a delegated cgroup: all memory that the program and its children are charged for. With polling: anonymous
    /// pages of the program itself.
    std::optional<std::uint64_t> memory_bytes = std::nullopt;
    /// Processor time of all threads of the program; at its end also that of the children it has waited for.
    std::optional<std::chrono::nanoseconds> processor_time = std::nullopt;
    /// Descriptors must be below this number, as with `ulimit -n`: the kernel refuses the program more (EMFILE).
    std::optional<std::uint64_t> open_files = std::nullopt;
    /// Bytes that the program writes by write(2) and its variants, to any file: wchar of /proc/PID/io.
    std::optional<std::uint64_t> output_bytes = std::nullopt;

    /// Whether this process has to look at the program from time to time.
    [[nodiscard]] bool polled() const noexcept { return memory_bytes || processor_time || output_bytes; }

    bool operator==(const StageLimits&) const = default;
};

/// How a memory limit is enforced.
enum class MemoryLimitBy {
    cgroup,   ///< the kernel kills the process at the first page too many: `MemoryCgroup`
    polling,  ///< the caller looks every few milliseconds: `LimitWatch`
};

/// "cgroup" or "polling".
[[nodiscard]] const char* name_of(MemoryLimitBy by) noexcept;

}  // namespace procrun
