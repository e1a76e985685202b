#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/units.hpp"

namespace vmcow::meter {

/// What copy-on-write cost for an argument, a stage or a process. The quantities are always the same. An unknown
/// quantity has no value and is never shown as 0 (I8).
struct CopyFigures {
    std::optional<std::uint64_t> logical_bytes = {};   ///< written by the program, each write counted
    std::optional<std::uint64_t> distinct_bytes = {};  ///< addresses written, each counted once
    std::optional<std::uint64_t> changed_bytes = {};   ///< bytes that differ from what was there before
    PageCount copied = {};                             ///< pages that exist because of a write
    std::optional<PageCount> identical = {};           ///< copied pages in which no byte differs (I6)
    std::optional<std::uint64_t> page_table_bytes = {};
    std::optional<std::uint64_t> resident_bytes = {};

    [[nodiscard]] std::uint64_t copied_bytes() const noexcept { return copied.bytes(); }
    /// Bytes copied for each byte that the program wrote. Nothing if the number of bytes written is unknown or zero.
    [[nodiscard]] std::optional<double> amplification() const noexcept;
};

}  // namespace vmcow::meter
