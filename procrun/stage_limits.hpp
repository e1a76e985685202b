#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace procrun {

/// What one program of a pipeline may use. nullopt: as much as it likes.
struct StageLimits {
    /// Memory of its own: anonymous pages of the program itself where we poll; all that it is charged for, with its
    /// children, where there is a delegated cgroup.
    std::optional<std::uint64_t> memory_bytes = std::nullopt;
    /// Of all its threads; at its end with that of the children it has waited for.
    std::optional<std::chrono::nanoseconds> processor_time = std::nullopt;
    /// Descriptors below this number: what `ulimit -n` sets, so that the program itself is refused more (EMFILE).
    std::optional<std::uint64_t> open_files = std::nullopt;
    /// What it writes by write(2) and its kind, whatever the file: wchar of /proc/PID/io.
    std::optional<std::uint64_t> output_bytes = std::nullopt;

    /// Whether somebody has to look from time to time.
    [[nodiscard]] bool polled() const noexcept { return memory_bytes || processor_time || output_bytes; }

    bool operator==(const StageLimits&) const = default;
};

}  // namespace procrun
