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

/// What it took to find the differences of two snapshots.
struct DiffCounts {
    /// They lie over one base, so that most pages are known to be equal unread. Otherwise every page was compared.
    bool related = false;
    /// Pages that were read, on both sides.
    PageCount pages_compared;
    PageCount pages_changed;
};

/// A page on which two snapshots differ, and its bytes in both, valid during the visit.
struct ChangedPage {
    PageIndex index;
    const std::byte* a;
    const std::byte* b;
};

/// Where two snapshots differ.
struct Diff : DiffCounts {
    std::uint64_t a_extent_bytes = 0;
    std::uint64_t b_extent_bytes = 0;
    /// Ascending; no run could be joined with the next one, over pages' ends too.
    std::vector<PageRun> pages;
    std::vector<ByteRange> ranges;
    std::uint64_t changed_bytes = 0;

    /// Same extent, same bytes.
    [[nodiscard]] bool empty() const noexcept { return ranges.empty() && a_extent_bytes == b_extent_bytes; }
};

/// Visits the pages on which `a` and `b` differ, ascending. Bytes behind an extent count as zero.
///
/// Cost: for relatives, which lie over one base, a binary search for each page that a delta of either holds, and a
///       memcmp for each of those that the two have from different deltas, whatever the size of the image; for others
///       a memcmp of every page.
DiffCounts for_each_changed_page(const Snapshot& a, const Snapshot& b,
                                 const std::function<void(const ChangedPage&)>& visit);

/// Visits the maximal runs of differing bytes, ascending; ranges that are one equal byte apart are two. Cost: as above,
/// and the changed pages are read once more, 64 bytes at a time. No memory is needed for the ranges.
DiffCounts for_each_change(const Snapshot& a, const Snapshot& b, const std::function<void(const ByteRange&)>& visit);

/// The same as lists. Cost: as above, and 16 bytes of memory for each range.
[[nodiscard]] Diff diff(const Snapshot& a, const Snapshot& b);

}  // namespace vmcow
