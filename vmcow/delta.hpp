#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmcow/read_only_image.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The pages of an image that differ from the snapshot below, packed into a sealed memfd of their own.
///
/// Shape:     the file holds `pages().size()` pages, in the order of `pages()`, and behind them that table itself: one
///            64-bit little-endian page index each, strictly ascending, zero-padded to a page. So one descriptor is all
///            that another process needs.
/// Invariant: I1, I6.
class Delta {
public:
    /// Copies pages out of memory. `content(i)` is where the bytes of `pages[i]` are.
    /// Pre: `pages` is not empty and strictly ascending.
    /// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind. Cost: one memcpy a page, into fresh memory.
    [[nodiscard]] static std::shared_ptr<const Delta> copy_of(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content);

    /// Takes over what another process sent: checks the seals, the size, and every index against `image_pages`, because
    /// nothing in it is trusted (I3).
    /// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. The descriptor is closed.
    [[nodiscard]] static std::shared_ptr<const Delta> adopt(sys::UniqueFd fd, PageCount count, PageCount image_pages);

    /// Which pages of the image it holds, ascending.
    [[nodiscard]] std::span<const PageIndex> pages() const noexcept { return pages_; }
    /// The bytes of `pages()[stored]`.
    [[nodiscard]] const std::byte* content(PageIndex stored) const noexcept {
        return image_->data() + stored.byte_offset();
    }
    [[nodiscard]] int fd() const noexcept { return image_->fd(); }

private:
    Delta(std::unique_ptr<ReadOnlyImage> image, std::vector<PageIndex> pages);

    std::unique_ptr<ReadOnlyImage> image_;
    std::vector<PageIndex> pages_;
};

}  // namespace vmcow
