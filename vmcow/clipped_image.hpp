#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A snapshot whose bytes behind its extent read as zero, for as many pages as one likes: what two snapshots of
/// different extents are compared by. Behind the extent a mapping may have anything: a page of the base that a longer
/// relative uses, or what a function wrote into the padding.
///
/// Threads: as Snapshot.
class ClippedImage {
public:
    explicit ClippedImage(Snapshot snapshot);

    [[nodiscard]] const Snapshot& snapshot() const noexcept { return snapshot_; }
    /// Valid for as long as this lives. Cost: a binary search.
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept;

private:
    using Page = std::array<std::byte, kPageBytes>;

    Snapshot snapshot_;
    std::unique_ptr<const Page> last_;  // only where the extent ends within a page
};

}  // namespace vmcow
