#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A snapshot whose bytes behind its extent read as zero, for any number of pages. Two snapshots of different extents
/// are compared through it: behind the extent a mapping may hold anything, such as a page of the base that a longer
/// relative uses, or what a function wrote into the padding.
///
/// Threads: as Snapshot.
class ClippedImage {
public:
    explicit ClippedImage(Snapshot snapshot);

    [[nodiscard]] const Snapshot& snapshot() const noexcept { return snapshot_; }
    /// The bytes of a page, valid for as long as this object lives. Cost: a binary search.
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept;

private:
    using Page = std::array<std::byte, kPageBytes>;

    Snapshot snapshot_;
    std::unique_ptr<const Page> last_;  // a copy of the last page; only where the extent ends within a page
};

}  // namespace vmcow
