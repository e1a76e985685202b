#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/owned_span.hpp"
#include "vmcow/units.hpp"

namespace vmcow::sys {
enum class PageScanMethod;  // vmcow/sys/page_scan_method.hpp
}

namespace vmcow {

class ComposedImage;
struct PageChanges;  // vmcow/page_changes.hpp

/// A private copy-on-write mapping of a snapshot. The kernel copies a page when it is first written; every view shares
/// the other pages.
///
/// Threads:    one at a time, as for a plain array.
/// After fork: a function process has a private copy of the view, as it was, at the same address; it counts only the
///             changes since the fork.
/// Source:     mmap(2) MAP_PRIVATE.
class View {
public:
    /// Maps `snapshot`, with `room_bytes` of addresses behind the image to grow into, or as many as there are.
    /// Throws: std::system_error -- ENOMEM (address space, or vm.max_map_count).
    explicit View(const Snapshot& snapshot, std::size_t room_bytes = 0);
    View(View&& other) noexcept;
    View& operator=(View&& other) noexcept;
    ~View();

    /// The image, writable: as long as the snapshot, or longer if it was grown. Valid until the view ends or is
    /// assigned to.
    [[nodiscard]] std::span<std::byte> bytes() & noexcept;
    [[nodiscard]] std::span<const std::byte> bytes() const& noexcept;
    [[nodiscard]] OwnedSpan<View, std::byte> bytes() &&;
    /// The image as an array of T from its start.
    template <class T>
    [[nodiscard]] std::span<T> as() & noexcept {
        static_assert(
            PlainBytes<T>,
            "an image holds plain bytes: trivially copyable, without pointers, references and views; a class that "
            "hides its members has to vouch for itself (vmcow::kVouched)");
        return {reinterpret_cast<T*>(bytes().data()), bytes().size() / sizeof(T)};
    }
    /// For a temporary view: the elements together with the view.
    template <class T>
    [[nodiscard]] OwnedSpan<View, T> as() && {
        const std::span<T> elements = as<T>();
        return {std::move(*this), elements};
    }

    /// The snapshot that the view was mapped from (in a function process: the view as it was at the fork).
    [[nodiscard]] Snapshot snapshot() const;

    /// The pages that exist because of a write to this view, ascending (I5).
    /// Throws: std::system_error -- EMFILE, or no /proc. Cost: one page scan.
    [[nodiscard]] std::vector<PageRun> copied_runs() const;
    /// The copied pages counted, and compared with the snapshot. Cost: a scan, and reading each copied page twice.
    [[nodiscard]] PageChanges changes() const;
    /// `copied_runs` by a method that need not be the fastest.
    [[nodiscard]] std::vector<PageRun> copied_runs(sys::PageScanMethod method) const;
    /// `changes` by a method that need not be the fastest.
    [[nodiscard]] PageChanges changes(sys::PageScanMethod method) const;

    /// A snapshot of the view as it is now. It shares the unchanged pages with the snapshot below (I6), and is that
    /// snapshot itself when nothing differs. The view goes on.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   a scan, a comparison per page that the view has to itself, and a copy per changed page. After a `commit`
    ///         of hundreds of pages, only pages that were written since are compared, where the kernel tells which.
    [[nodiscard]] Snapshot capture() const;

    /// As `capture`; from now on the view counts its changes from the snapshot that this returns. The view keeps its
    /// pages.
    [[nodiscard]] Snapshot commit();

    /// Extends the image to `extent_bytes`, with zeros. Pointers into it stay valid.
    /// Throws: std::system_error -- ENOMEM (past the room, or no memory); the view is as before.
    void grow(std::uint64_t extent_bytes);

    /// Drops every change; the pages go back to the kernel.
    /// Throws: std::system_error -- ENOMEM: of a snapshot with pages beside its base only a part may be mapped then,
    ///         and the view has to be reset again before it is used.
    void reset();

private:
    std::unique_ptr<ComposedImage> image_;
};

}  // namespace vmcow
