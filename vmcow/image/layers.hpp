#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// What a snapshot is made of: a sealed base and at most `kMaxDeltas` deltas over it, which become one contiguous
/// mapping. Of several layers that have a page, the newest one counts.
///
///     base     [0][1][2][3][4][5][6][7] …      one mapping of the base's memfd, private
///     delta 1     [1][2][3]             …      a long run: a mapping of the delta's memfd over it
///     delta 2           [3]      [6]    …      short runs: copied into place, which costs less than a mapping each
///
/// An image that has grown since its base was sealed is longer than the base. Behind the base lie the pages of the
/// deltas, and zeros where no delta has a page.
///
/// Immutable after construction.
class Layers {
public:
    /// One delta more than this is merged with those below instead of being stacked.
    static constexpr std::size_t kMaxDeltas = 4;
    /// Runs past this number are copied, however long they are: vm.max_map_count is 65 530 for the whole process.
    static constexpr std::size_t kMaxMappedRuns = 256;

    /// Pre: every page of a delta lies within the base or the extent.
    Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes,
           std::vector<std::shared_ptr<const Delta>> deltas);

    /// A number that no other layers of this process have or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const ReadOnlyImage& base() const noexcept { return *base_; }
    [[nodiscard]] const std::shared_ptr<const ReadOnlyImage>& shared_base() const noexcept { return base_; }
    [[nodiscard]] const std::vector<std::shared_ptr<const Delta>>& deltas() const noexcept { return deltas_; }
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept { return extent_bytes_; }
    /// The bytes of the base, or of the extent if it is longer, in whole pages.
    [[nodiscard]] std::size_t mapped_bytes() const noexcept { return mapped_bytes_; }

    /// The bytes of one page; zeros behind the image.
    /// Cost: a binary search over the runs of the deltas.
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept { return source(index).bytes; }
    /// Where the bytes of a page are. `delta` is the number of the delta that holds them, 0 for the base. Two sources
    /// can be compared by this number only, because memory of a delta that has ended may be used again.
    struct Source {
        std::uint64_t delta = 0;
        const std::byte* bytes = nullptr;
    };
    /// The source of one page.
    /// Cost: as `page`.
    [[nodiscard]] Source source(PageIndex index) const noexcept;

    /// Whether there is nothing but the base.
    [[nodiscard]] bool is_base_alone() const noexcept { return deltas_.empty() && mapped_bytes_ == base_->bytes(); }

    /// Builds the private, writable mapping of all layers at `address`; behind the base lies anonymous memory. Returns
    /// 0 or the errno. Async-signal-safe.
    /// Cost: a mapping, one more for each long run, and a page copy for each page of a short run.
    [[nodiscard]] int map_at(std::byte* address) const noexcept;

    /// The pages that `map_at` copies into place, ascending. They are private from the start, although nobody wrote to
    /// them.
    [[nodiscard]] const std::vector<PageRun>& placed() const noexcept { return placed_; }

    /// Every page that some delta holds, ascending.
    [[nodiscard]] std::vector<PageIndex> delta_pages() const;

    /// Makes a delta of pages: Delta::copy_of or Delta::stored_copy_of.
    using DeltaMaker = std::shared_ptr<const Delta> (*)(std::span<const PageIndex>,
                                                        const std::function<const std::byte*(std::size_t)>&);
    /// These layers with `pages` changed, where `content(i)` points to the bytes of `pages[i]`. One delta is added. At
    /// the largest depth, one delta takes the place of all the newest deltas that are not much larger than what is
    /// merged, without the pages that are as below (I6). The image becomes `extent_bytes` long, if it is not longer
    /// already.
    /// Pre:    `pages` is ascending and within the image.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    [[nodiscard]] std::shared_ptr<const Layers> with_changes(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content, DeltaMaker make,
        std::uint64_t extent_bytes = 0) const;
    /// These layers with one more delta, which is merged with those below at the largest depth.
    /// Throws: as `with_changes`.
    [[nodiscard]] std::shared_ptr<const Layers> with_delta(const std::shared_ptr<const Delta>& delta,
                                                           std::uint64_t extent_bytes = 0) const;

private:
    /// Neighbouring pages that lie one after the other in one delta.
    struct Piece {
        PageRun run;
        PageIndex stored;
        const Delta* delta;
        bool mapped;
    };

    /// The bytes of a page below all deltas.
    [[nodiscard]] const std::byte* base_page(PageIndex index) const noexcept;
    void append_page(PageIndex page, PageIndex stored, const Delta* delta);
    void choose_mapped();

    std::uint64_t id_;
    std::shared_ptr<const ReadOnlyImage> base_;
    std::uint64_t extent_bytes_;
    std::size_t mapped_bytes_;
    std::vector<std::shared_ptr<const Delta>> deltas_;
    std::vector<Piece> pieces_;  // ascending, disjoint
    std::vector<PageRun> placed_;
};

/// The layers of what a private mapping of `below` at `data` holds, `extent_bytes` long. That is `below` itself when
/// nothing differs, else `below` with a delta of those of the private pages `runs` that differ (I6).
/// Throws: std::system_error -- EMFILE, ENOMEM.
[[nodiscard]] std::shared_ptr<const Layers> capture_layers(const std::shared_ptr<const Layers>& below,
                                                           const std::vector<PageRun>& runs, const std::byte* data,
                                                           std::uint64_t extent_bytes, Layers::DeltaMaker make);

}  // namespace vmcow
