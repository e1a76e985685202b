#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "vmcow/sys/owned_span.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

class Layers;
class View;
struct SnapshotParts;  // vmcow/image/snapshot_parts.hpp

/// A handle to an immutable image: a sealed base, and a tree of the pages that differ. Versions of an image share the
/// base and all of the tree but what has changed between them. Copying the handle is O(1).
///
/// A handle that was moved from holds nothing: it can only be assigned to or destroyed (sys/held.hpp).
///
/// Shape:      byte i of the source lies at image offset i; the last page is zero-padded.
/// Threads:    all members may be used from several threads at once.
/// After fork: see ImagesInFork; in a function process the image is mapped at the same address.
/// Invariant:  I1.
class Snapshot {
public:
    /// Bytes that mean something; those behind them on the last page are padding.
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept;
    [[nodiscard]] PageCount page_count() const noexcept;
    [[nodiscard]] const std::string& name() const noexcept;

    /// The whole image, contiguous and read-only, valid for as long as this handle or a copy of it lives.
    /// Throws: std::system_error -- ENOMEM, when a snapshot with pages beside its base is first put together.
    /// Cost:   nothing for a base alone; otherwise, once, that of `View`.
    [[nodiscard]] std::span<const std::byte> bytes() const&;
    /// For a temporary handle: the bytes together with the handle.
    [[nodiscard]] OwnedSpan<Snapshot, const std::byte> bytes() const&&;
    /// The bytes of one page, wherever they are. Cost: a step on each level of the tree, of which 1 GiB has six.
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept;

    /// Maps the whole image privately: writes stay in the returned view.
    /// Throws: std::system_error -- ENOMEM (address space, or vm.max_map_count). Nothing is left behind.
    /// Cost:   one mmap, 3 µs whatever the size; one more for each long run of pages that are not the base's, and a
    ///         copy of each such page of a short run.
    [[nodiscard]] View map_private() const;

    /// The same bytes in one sealed file of their own: this snapshot itself when it is a base alone, else a copy.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   one memcpy of the image.
    [[nodiscard]] Snapshot flatten() const;
    /// The same bytes in sealed files, which another process needs: this snapshot itself, unless its base is on disk or
    /// part of a larger file. A caller that sends the snapshot more than once keeps what this returns: a snapshot that
    /// comes back is a relative of it.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   nothing, or as `flatten`.
    [[nodiscard]] Snapshot sealed() const;

    /// As how many deltas the snapshot is sent.
    /// Throws: std::system_error -- ENOMEM.
    /// Cost:   a look at each page that the snapshot has beside its base; at the most, once, a copy of each.
    [[nodiscard]] std::size_t delta_count() const;
    /// How many pages the snapshot has beside those of its base, for itself or with other versions.
    [[nodiscard]] PageCount delta_pages() const noexcept;

    /// The file of the base. For a snapshot that was made from an arena and has no other pages, this file is the image:
    /// a program can read it.
    [[nodiscard]] int base_fd() const noexcept;

    /// Duplicated descriptors of all parts, for another process.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   as `delta_count`, and a copy of each delta that lies in the page store.
    [[nodiscard]] SnapshotParts parts() const;
    /// Takes over the snapshot that another process sent, after checking every seal, size and index (I3).
    /// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. All descriptors are closed.
    [[nodiscard]] static Snapshot adopt(SnapshotParts parts, std::string name);

    /// Whether an image of `extent_bytes` can have a base of `base_bytes`: it is as long as the base, or has grown
    /// since the base was sealed.
    [[nodiscard]] static bool fits(std::uint64_t base_bytes, std::uint64_t extent_bytes) noexcept;
    [[nodiscard]] const std::shared_ptr<const Layers>& layers() const noexcept;
    /// The snapshot that `layers` describes. For the inside of vmcow/ only.
    explicit Snapshot(std::shared_ptr<const Layers> layers);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace vmcow
