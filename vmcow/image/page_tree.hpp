#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <functional>
#include <memory>

#include "vmcow/units.hpp"

namespace vmcow {

class Delta;

namespace detail {

class PageNode;
void intrusive_ptr_add_ref(const PageNode* node) noexcept;
void intrusive_ptr_release(const PageNode* node) noexcept;

}  // namespace detail

/// The pages that a version of an image has beside those of its base, and the block that holds each. Versions share all
/// nodes of the tree but those on the way to what has changed.
///
///     version 1   root ─ node ─ node ─ leaf [page 8 → block a, 0] [page 9 → block a, 1]
///                     ╲      ╲
///                      node   leaf [page 70 → block a, 2]                 shared by both
///                     ╱
///     version 2   root ─ node ─ node ─ leaf [page 8 → block b, 0] [page 9 → block a, 1]
///
/// A node has room for eight, but takes memory for those that are there.
///
/// Threads: immutable, like a number; any.
/// Cost:    a copy is one increment. A new page copies a node on each of log8(pages of the image) levels.
/// Source:  the bitmaps are those of a hash array mapped trie (Bagwell, Ideal Hash Trees, 2001).
class PageTree {
public:
    /// The page number `stored` of `block`.
    struct Place {
        std::shared_ptr<const Delta> block;
        std::uint32_t stored = 0;

        bool operator==(const Place&) const = default;
    };
    using Visit = std::function<void(PageIndex, const Place&)>;
    /// A nullptr stands for the page of the base.
    using VisitDifference = std::function<void(PageIndex, const Place*, const Place*)>;

    PageTree() noexcept = default;

    [[nodiscard]] bool is_empty() const noexcept { return root_ == nullptr; }
    [[nodiscard]] PageCount count() const noexcept { return count_; }
    /// Where a page is; nullptr where the base has it. Good for as long as this tree or a copy of it lives.
    /// Cost: a step on each level.
    [[nodiscard]] const Place* find(PageIndex page) const noexcept {
        return root_ == nullptr ? nullptr : find_in_nodes(page);
    }
    /// This tree with all pages of `block`, which is newer.
    /// Throws: std::bad_alloc; nothing has changed.
    [[nodiscard]] PageTree with(const std::shared_ptr<const Delta>& block) const;

    /// Visits all pages, ascending.
    void for_each(const Visit& visit) const;
    /// Visits the pages that lie elsewhere in `a` than in `b`, ascending.
    /// Cost: that of the nodes that the two do not share.
    static void for_each_difference(const PageTree& a, const PageTree& b, const VisitDifference& visit);

private:
    using Node = boost::intrusive_ptr<const detail::PageNode>;

    [[nodiscard]] const Place* find_in_nodes(PageIndex page) const noexcept;

    Node root_;
    PageCount count_;
};

}  // namespace vmcow
