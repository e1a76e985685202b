#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/units.hpp"

namespace vmcow::measure {

/// What copy-on-write cost for an argument, a stage or a process: always the same quantities. What is unknown has no
/// value, and is never 0 (I8).
struct Meter {
    std::optional<std::uint64_t> logical_bytes = {};   ///< written by the program, each write counted
    std::optional<std::uint64_t> distinct_bytes = {};  ///< addresses written, each counted once
    std::optional<std::uint64_t> changed_bytes = {};   ///< differ from what was there before
    PageCount copied = {};                             ///< pages that exist because of a write
    std::optional<PageCount> identical = {};           ///< of these, pages in which nothing differs (I6)
    std::optional<std::uint64_t> page_table_bytes = {};
    std::optional<std::uint64_t> resident_bytes = {};

    [[nodiscard]] std::uint64_t copied_bytes() const noexcept { return copied.bytes(); }
    /// Bytes copied for each byte that the program wrote; nothing while that is unknown or zero.
    [[nodiscard]] std::optional<double> amplification() const noexcept;
};

}  // namespace vmcow::measure
