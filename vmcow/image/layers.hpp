#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/delta_stack.hpp"
#include "vmcow/image/mapping_plan.hpp"
#include "vmcow/image/page_tree.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// What a snapshot is made of: a sealed base, and a tree of the pages that lie elsewhere.
///
/// An image that has grown since its base was sealed is longer than the base. Behind the base lie the pages of the
/// tree, and zeros where it has none.
///
/// How the pages are mapped, and as which deltas they are sent, is found out when somebody wants to know: a version
/// that nobody reads or sends costs neither.
///
/// Immutable after construction.
/// Memory: a version takes the blocks of its pages, and what it has in no other version of the tree. A block stays as
///         long as one of its pages is in use. Where less than half of what a version holds is in use, its pages are
///         gathered in a new block.
class Layers {
public:
    static constexpr std::size_t kMaxDeltas = DeltaStack::kMaxDeltas;
    static constexpr std::size_t kMaxMappedRuns = MappingPlan::kMaxMappedRuns;

    /// A base alone, or with zeros behind it.
    Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes);
    /// With deltas over it, the oldest first.
    /// Pre: every page of a delta lies within the base or the extent.
    Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes,
           const std::vector<std::shared_ptr<const Delta>>& deltas);
    Layers(const Layers&) = delete;
    Layers& operator=(const Layers&) = delete;
    ~Layers();

    /// A number that no other layers of this process have or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const ReadOnlyImage& base() const noexcept { return *base_; }
    [[nodiscard]] const std::shared_ptr<const ReadOnlyImage>& shared_base() const noexcept { return base_; }
    [[nodiscard]] const PageTree& tree() const noexcept { return tree_; }
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept { return extent_bytes_; }
    /// The bytes of the base, or of the extent if it is longer, in whole pages.
    [[nodiscard]] std::size_t mapped_bytes() const noexcept {
        return std::max(base_->bytes(), round_up(extent_bytes_, kPageBytes));
    }

    /// The bytes of one page; zeros behind the image. Cost: as `PageTree::find`.
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept { return source(index).bytes; }
    /// Where the bytes of a page are. `block` is the number of the block that holds them, 0 for the base. Two sources
    /// can be compared by this number only, because memory of a block that has ended may be used again.
    struct Source {
        std::uint64_t block = 0;
        const std::byte* bytes = nullptr;
    };
    [[nodiscard]] Source source(PageIndex index) const noexcept;

    /// Whether there is nothing but the base.
    [[nodiscard]] bool is_base_alone() const noexcept { return tree_.is_empty() && mapped_bytes() == base_->bytes(); }

    /// Finds out how the pages are mapped, which `map_at` wants.
    /// Throws: std::bad_alloc.
    /// Cost:   a look at each page of the tree, once.
    const MappingPlan& plan() const;
    /// Builds the private, writable mapping at `address`; behind the base lies anonymous memory. Returns 0 or the
    /// errno. Async-signal-safe.
    /// Pre:  `plan` was called.
    /// Cost: a mapping, and that of MappingPlan::apply.
    [[nodiscard]] int map_at(std::byte* address) const noexcept;

    /// The pages that `map_at` copies into place, ascending. They are private from the start, although nobody wrote to
    /// them.
    /// Throws: as `plan`.
    [[nodiscard]] const std::vector<PageRun>& placed() const { return plan().placed(); }

    /// How many pages those are, or more where nobody has asked for them: all pages of the tree.
    [[nodiscard]] PageCount placed_at_most() const noexcept;

    /// Every page of the tree, ascending.
    [[nodiscard]] std::vector<PageIndex> changed_pages() const;
    /// The pages of the tree as deltas, the oldest first. They stay the same.
    /// Throws: std::system_error -- ENOMEM; std::bad_alloc.
    /// Cost:   the first time, that of DeltaStack::leading_to.
    [[nodiscard]] const std::vector<std::shared_ptr<const Delta>>& deltas() const;

    /// Makes a block of pages: Delta::copy_of or Delta::stored_copy_of.
    using DeltaMaker = std::shared_ptr<const Delta> (*)(std::span<const PageIndex>,
                                                        const std::function<const std::byte*(std::size_t)>&);
    /// These layers with `pages` changed, where `content(i)` points to the bytes of `pages[i]`. The image becomes
    /// `extent_bytes` long, if it is not longer already.
    /// Pre:    `pages` is ascending and within the image.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   a copy of these pages, and of the nodes on the way to them.
    [[nodiscard]] std::shared_ptr<const Layers> with_changes(
        std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content, DeltaMaker make,
        std::uint64_t extent_bytes = 0) const;
    /// These layers with the pages of one more block.
    /// Throws: as `with_changes`.
    [[nodiscard]] std::shared_ptr<const Layers> with_delta(const std::shared_ptr<const Delta>& block,
                                                           std::uint64_t extent_bytes = 0) const;
    /// The same pages in an image of another length.
    /// Pre:    all pages of the tree lie within it.
    /// Throws: std::bad_alloc.
    [[nodiscard]] std::shared_ptr<const Layers> with_extent(std::uint64_t extent_bytes) const;

private:
    using Stack = std::shared_ptr<const DeltaStack>;
    struct Made;

    Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes, PageTree tree, PageCount held,
           Stack below);

    [[nodiscard]] std::shared_ptr<const Layers> made(std::uint64_t extent_bytes, PageTree tree, PageCount held) const;
    [[nodiscard]] const Stack& stack() const;
    /// The bytes of a page below the tree.
    [[nodiscard]] const std::byte* base_page(PageIndex index) const noexcept;

    std::uint64_t id_;
    std::shared_ptr<const ReadOnlyImage> base_;
    std::uint64_t extent_bytes_;
    PageTree tree_;
    PageCount held_;  // of all blocks, at the most
    Stack below_;     // what an earlier version was sent as
    mutable std::atomic<const MappingPlan*> plan_{nullptr};
    mutable std::atomic<const Stack*> stack_{nullptr};
};

/// Which of the pages `runs` of a mapping of `below` at `data` differ from it, ascending (I6).
/// Cost: a comparison a page.
[[nodiscard]] std::vector<PageIndex> pages_that_differ(const Layers& below, const std::vector<PageRun>& runs,
                                                       const std::byte* data);
/// `below` with the pages `changed` as they are in the mapping at `data`, `extent_bytes` long; `below` itself when that
/// is the same.
/// Throws: std::system_error -- EMFILE, ENOMEM.
[[nodiscard]] std::shared_ptr<const Layers> with_pages_of(const std::shared_ptr<const Layers>& below,
                                                          std::span<const PageIndex> changed, const std::byte* data,
                                                          std::uint64_t extent_bytes, Layers::DeltaMaker make);
/// The layers of what a private mapping of `below` at `data` holds, `extent_bytes` long. That is `below` itself when
/// nothing differs, else `below` with those of the private pages `runs` that differ (I6).
/// Throws: std::system_error -- EMFILE, ENOMEM.
[[nodiscard]] std::shared_ptr<const Layers> capture_layers(const std::shared_ptr<const Layers>& below,
                                                           const std::vector<PageRun>& runs, const std::byte* data,
                                                           std::uint64_t extent_bytes, Layers::DeltaMaker make);

}  // namespace vmcow
