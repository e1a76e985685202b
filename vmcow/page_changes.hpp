#pragma once

#include <cstdint>

#include "vmcow/units.hpp"

namespace vmcow {

/// What happened to the pages of a private mapping since it was made.
///
/// Units: pages, and bytes that differ from what the mapping began with.
struct PageChanges {
    PageCount copied;                 ///< pages that exist because of a write
    PageCount identical;              ///< of these, pages that hold the same bytes as before (I6)
    std::uint64_t changed_bytes = 0;  ///< bytes that differ

    [[nodiscard]] std::uint64_t copied_bytes() const noexcept { return copied.bytes(); }
    PageChanges& operator+=(const PageChanges& other);
    bool operator==(const PageChanges&) const = default;
};

}  // namespace vmcow
