#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmcow/snapshot.hpp"

namespace vmcow {

/// Some bytes of a snapshot as an image of their own. The image has nothing of the rest of the snapshot: other bytes on
/// the first and the last page of the part read as zero.
///
///     whole   [........][........][...XXXXX][XXXXXXXX][XXXXXXXX][XX......][........]
///     image                       [000XXXXX][XXXXXXXX][XXXXXXXX][XX000000]
///                                     '-- skip()
///                                 copied    mapped: the whole's file    copied
///
/// Throws:  std::out_of_range -- the bytes are not all in the snapshot; std::system_error -- EMFILE, ENOMEM.
/// Cost:    a mapping, and a copy of at most two pages and of the pages that are not the base's; a copy of all pages if
///          they are few.
/// Threads: all members may be used from several threads at once.
class SnapshotPart {
public:
    SnapshotPart(Snapshot whole, std::uint64_t offset, std::uint64_t bytes);

    [[nodiscard]] const Snapshot& whole() const noexcept { return whole_; }
    [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

    /// The image of the part, `skip() + bytes()` long.
    [[nodiscard]] const Snapshot& image() const noexcept { return image_; }
    /// The offset in `image()` at which the part begins.
    [[nodiscard]] std::size_t skip() const noexcept { return offset_ % kPageBytes; }

private:
    Snapshot whole_;
    std::uint64_t offset_;
    std::uint64_t bytes_;
    Snapshot image_;
};

/// A part, and its image after a change.
struct ChangedPart {
    SnapshotPart part;
    Snapshot changed;  ///< of the shape of `part.image()`
};

/// The whole with all `parts` changed. Only the bytes of the parts are taken from their changed images.
/// Pre:    at least one part; all parts are of one whole and have no bytes in common; each `changed` is a relative of
///         the part's image.
/// Throws: std::system_error -- EMFILE, ENOMEM.
/// Cost:   a copy of each page that was changed.
[[nodiscard]] Snapshot put_back(std::span<const ChangedPart> parts);

}  // namespace vmcow
