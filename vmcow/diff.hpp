#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// Neighbouring bytes of an image, `offset` to `offset + bytes`, end excluded.
struct ByteRange {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;

    [[nodiscard]] constexpr std::uint64_t end() const { return offset + bytes; }
    constexpr bool operator==(const ByteRange&) const = default;
};

/// The work that it took to find the differences of two snapshots.
struct DiffCounts {
    /// The snapshots lie over one base, so most pages are known to be equal without being read. Otherwise every page
    /// was compared.
    bool related = false;
    /// Pages that were read, on both sides.
    PageCount pages_compared;
    PageCount pages_changed;
};

/// A page on which two snapshots differ, with its bytes in both. The pointers are valid during the visit.
struct ChangedPage {
    PageIndex index;
    const std::byte* a;
    const std::byte* b;
};

/// Where two snapshots differ.
struct Diff : DiffCounts {
    std::uint64_t a_extent_bytes = 0;
    std::uint64_t b_extent_bytes = 0;
    /// Ascending, each run as long as possible.
    std::vector<PageRun> pages;
    /// Ascending, each range as long as possible, also across the ends of pages.
    std::vector<ByteRange> ranges;
    std::uint64_t changed_bytes = 0;

    /// The snapshots have the same extent and the same bytes.
    [[nodiscard]] bool empty() const noexcept { return ranges.empty() && a_extent_bytes == b_extent_bytes; }
};

/// Visits the pages on which `a` and `b` differ, in ascending order. Bytes behind an extent count as zero.
///
/// Cost: for relatives, which lie over one base, a look at what their trees do not share, and a memcmp for each page
///       that the two have in different places, whatever the size of the image and of what they have in common; for
///       other snapshots a memcmp of every page.
DiffCounts for_each_changed_page(const Snapshot& a, const Snapshot& b,
                                 const std::function<void(const ChangedPage&)>& visit);

/// Visits the maximal runs of differing bytes, in ascending order. Ranges that are one equal byte apart are two.
/// Cost: as `for_each_changed_page`, and the changed pages are read once more, 64 bytes at a time. No memory is needed
///       for the ranges.
DiffCounts for_each_change(const Snapshot& a, const Snapshot& b, const std::function<void(const ByteRange&)>& visit);

/// The differences of two snapshots as lists. Cost: as `for_each_change`, and 16 bytes of memory for each range.
[[nodiscard]] Diff diff(const Snapshot& a, const Snapshot& b);

}  // namespace vmcow
