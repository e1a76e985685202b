#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmcow/snapshot.hpp"

namespace vmcow {

/// Some bytes of a snapshot as an image of their own, which has nothing of the rest: what else lies on the first and
/// the last page of the part reads as zero.
///
///     whole   [........][........][...XXXXX][XXXXXXXX][XXXXXXXX][XX......][........]
///     image                       [000XXXXX][XXXXXXXX][XXXXXXXX][XX000000]
///                                     '-- skip()
///                                 copied    mapped: the whole's file    copied
///
/// Throws: std::out_of_range -- the bytes are not all in the snapshot; std::system_error -- EMFILE, ENOMEM.
/// Cost:   a mapping, and a copy of at most two pages and of those that lie in deltas; a copy of all if they are few.
/// Threads: all members may be used from several at once.
class SnapshotPart {
public:
    SnapshotPart(Snapshot whole, std::uint64_t offset, std::uint64_t bytes);

    [[nodiscard]] const Snapshot& whole() const noexcept { return whole_; }
    [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

    /// `skip() + bytes()` long.
    [[nodiscard]] const Snapshot& image() const noexcept { return image_; }
    /// Where in the image the part begins.
    [[nodiscard]] std::size_t skip() const noexcept { return offset_ % kPageBytes; }

private:
    Snapshot whole_;
    std::uint64_t offset_;
    std::uint64_t bytes_;
    Snapshot image_;
};

/// A part and what became of it: an image of the same shape.
struct ChangedPart {
    SnapshotPart part;
    Snapshot changed;
};

/// The whole with all its parts changed; only bytes of the parts are taken.
/// Pre:    at least one; all of one whole, without common bytes; `changed` is a relative of the part's image.
/// Throws: std::system_error -- EMFILE, ENOMEM. Cost: a copy of each page that was changed.
[[nodiscard]] Snapshot put_back(std::span<const ChangedPart> parts);

}  // namespace vmcow
