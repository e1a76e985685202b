#pragma once

#include <boost/container/small_vector.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "vmcow/image/page_store.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// Whether the first and the last entry of a table allow it to be strictly ascending.
/// Cost: two reads; Delta::checked_table looks at every entry.
[[nodiscard]] constexpr bool may_ascend(std::span<const PageIndex> table) {
    if (table.empty()) return true;
    return table.front() <= table.back() && (table.back() - table.front()).value >= table.size() - 1;
}

/// A run of at least this many pages of a delta is mapped where layers are put together, a shorter one is copied. A
/// mapping costs as much as the copies of two or three pages (5 to 7 µs against 3 µs, the write fault), and the number
/// of mappings is limited.
inline constexpr PageCount kMappedRun{8};

/// The pages of an image that differ from the snapshot below.
///
/// Shape:     a file holds the `pages().size()` pages, in the order of `pages()`, and behind them the table of their
///            indices: one 64-bit little-endian page index each, strictly ascending, zero-padded to a page. The file is
///            either a sealed memfd of its own, so that one descriptor is all that another process needs, or a part of
///            a chunk of the page store, which is filled ten times faster. A single page in the store has no table:
///            who says where it lies says its index as well.
/// Memory:    120 bytes beside the pages, and 8 for each page but the first.
/// Invariant: I1, I6.
class Delta {
public:
    /// Copies pages out of memory into a file of their own. `content(i)` points to the bytes of `pages[i]`.
    /// Pre:    `pages` is not empty and strictly ascending.
    /// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
    /// Cost:   one memcpy a page, into fresh memory.
    [[nodiscard]] static std::shared_ptr<const Delta> copy_of(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content);
    /// Like copy_of, into the page store.
    /// Cost: one memcpy a page, into memory that was used before.
    [[nodiscard]] static std::shared_ptr<const Delta> stored_copy_of(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content);

    /// A delta for a child that is about to be forked: a short one in ordinary memory, which the child inherits, others
    /// like copy_of. A short one is never mapped.
    /// Cost: one memcpy a page.
    [[nodiscard]] static std::shared_ptr<const Delta> copy_for_child(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content);

    /// Takes over a delta that another process sent. Checks the seals, the size, and every index against `image_pages`,
    /// because nothing in it is trusted (I3).
    /// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. The descriptor is closed.
    [[nodiscard]] static std::shared_ptr<const Delta> adopt(sys::UniqueFd fd, PageCount count, PageCount image_pages);

    /// A delta in memory that somebody else keeps: `image` maps a file whose bytes from `offset` on have the shape of a
    /// delta. `first` is the index of its first page; of a single page it is all that is known.
    /// Throws: std::system_error -- EBADMSG as `adopt`.
    [[nodiscard]] static std::shared_ptr<const Delta> lying_in(std::shared_ptr<const ReadOnlyImage> image,
                                                               std::uint64_t offset, PageCount count, PageIndex first,
                                                               PageCount image_pages);

    /// A delta whose table is known already: `image` holds these pages, one behind the other, and nothing else.
    /// Pre: `pages` is not empty and strictly ascending.
    [[nodiscard]] static std::shared_ptr<const Delta> filling(std::shared_ptr<const ReadOnlyImage> image,
                                                              std::vector<PageIndex> pages);

    /// The table of `count` pages at `table`. It is copied before it is checked, because the process that wrote it may
    /// still be able to change it (I3).
    /// Throws: std::system_error -- EBADMSG: not ascending within the image.
    [[nodiscard]] static std::vector<PageIndex> checked_table(const std::byte* table, PageCount count,
                                                              PageCount image_pages);

    /// A delta with the same pages in a file of its own: `delta` itself, or a copy.
    [[nodiscard]] static std::shared_ptr<const Delta> in_own_file(const std::shared_ptr<const Delta>& delta);

    /// A number that no other delta of this process has or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    /// The pages of the image that the delta holds, ascending.
    [[nodiscard]] std::span<const PageIndex> pages() const noexcept { return {pages_.data(), pages_.size()}; }
    /// The bytes of `pages()[stored]`.
    [[nodiscard]] const std::byte* content(PageIndex stored) const noexcept { return data_ + stored.byte_offset(); }
    /// The file that holds the pages.
    /// Pre: the delta is in a file or in the page store.
    [[nodiscard]] int fd() const noexcept;
    /// Where in the file the first page begins.
    /// Pre: the delta is in a file or in the page store.
    [[nodiscard]] std::uint64_t file_offset() const noexcept;
    /// The place in the page store; nullptr for a delta in a file.
    [[nodiscard]] const StoredPages* stored() const noexcept { return std::get_if<StoredPages>(&memory_); }
    /// Whether the pages take up memory of this process: they are neither on a disk nor somebody else's.
    [[nodiscard]] bool holds_memory() const noexcept;

private:
    using File = std::shared_ptr<const ReadOnlyImage>;
    using Memory = std::unique_ptr<std::byte[]>;
    struct Made;

    template <class Kept>
    Delta(Kept memory, const std::byte* data, std::span<const PageIndex> pages);

    std::variant<File, StoredPages, Memory> memory_;
    const std::byte* data_;
    boost::container::small_vector<PageIndex, 1> pages_;
    std::uint64_t id_;
};

}  // namespace vmcow
