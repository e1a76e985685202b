#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "vmcow/mapped_image.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

class ComposedImage;

/// A private copy-on-write mapping of a snapshot. The kernel copies a page when it is first written; everything else is
/// shared with every other view.
///
/// Threads:    one at a time, as for a plain array.
/// After fork: a function process has the view at the same address and as it was, as a private copy of its own; what it
///             counts as changed begins there.
/// Source:     mmap(2) MAP_PRIVATE.
class View {
public:
    /// With `room_bytes` of addresses behind the image to grow into, or as many as there are.
    /// Throws: std::system_error -- ENOMEM (address space, or vm.max_map_count).
    explicit View(const Snapshot& snapshot, std::size_t room_bytes = 0);
    View(View&& other) noexcept;
    View& operator=(View&& other) noexcept;
    ~View();

    /// The image, writable, as long as the snapshot or as it has grown. Valid until the view ends or is assigned to.
    [[nodiscard]] std::span<std::byte> bytes() noexcept;
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
    /// The image as an array of T from its start.
    template <class T>
    [[nodiscard]] std::span<T> as() noexcept {
        static_assert(std::is_trivially_copyable_v<T>, "an image holds bytes: T must be trivially copyable");
        return {reinterpret_cast<T*>(bytes().data()), bytes().size() / sizeof(T)};
    }

    /// What the view was mapped from (in a function process: what it was at the fork).
    [[nodiscard]] Snapshot snapshot() const;

    /// The pages that exist because of a write to this view, ascending (I5).
    /// Throws: std::system_error -- EMFILE, or no /proc. Cost: one page scan.
    [[nodiscard]] std::vector<PageRun> copied_runs(sys::PageScanMethod method = sys::best_page_scan()) const;
    /// The same counted, and compared with the snapshot. Cost: a scan, and reading each copied page twice.
    [[nodiscard]] PageChanges changes(sys::PageScanMethod method = sys::best_page_scan()) const;

    /// The view as it is now, as a snapshot: it shares the unchanged pages with the one below (I6), and is that one
    /// itself when nothing differs. The view goes on. Throws: std::system_error -- EMFILE, ENOMEM. Cost: a scan, a
    /// comparison and a copy per changed page; at the largest
    ///         depth also the pages of the deltas below.
    [[nodiscard]] Snapshot capture() const;

    /// `capture`, and from now on the view counts its changes from what that returns. Its pages stay with it.
    [[nodiscard]] Snapshot commit();

    /// Extends the image to `extent_bytes`, with zeros. Pointers into it stay valid.
    /// Throws: std::system_error -- ENOMEM (past the room, or no memory); the view is as before.
    void grow(std::uint64_t extent_bytes);

    /// Drops every change; the pages go back to the kernel.
    /// Throws: std::system_error -- ENOMEM: of a snapshot with deltas only a part may be mapped then, and the view is
    /// to be
    ///         reset again before it is used.
    void reset();

private:
    std::unique_ptr<ComposedImage> image_;
};

}  // namespace vmcow
