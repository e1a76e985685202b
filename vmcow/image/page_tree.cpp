#include "vmcow/image/page_tree.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <new>
#include <span>
#include <utility>

#include "vmcow/image/delta.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace detail {
namespace {

constexpr unsigned kBits = 3;
constexpr std::size_t kWidth = std::size_t{1} << kBits;

using Place = PageTree::Place;
using NodeRef = boost::intrusive_ptr<const PageNode>;

}  // namespace

/// A node, and behind it in the same memory one item for each bit of `occupied`: a child, or in a leaf the place of a
/// page.
class PageNode {
public:
    [[nodiscard]] static NodeRef leaf(std::uint8_t occupied, std::array<Place, kWidth>&& places) {
        return make<Place>(occupied, 0, std::move(places));
    }
    [[nodiscard]] static NodeRef inner(std::uint8_t occupied, unsigned level, std::array<NodeRef, kWidth>&& children) {
        return make<NodeRef>(occupied, level, std::move(children));
    }

    /// How many levels of nodes are below.
    [[nodiscard]] unsigned level() const noexcept { return level_; }
    [[nodiscard]] bool has(std::size_t slot) const noexcept { return (occupied_ >> slot & 1U) != 0; }
    /// Pre: has(slot), in a leaf.
    [[nodiscard]] const Place& place(std::size_t slot) const noexcept { return items<Place>()[index_of(slot)]; }
    /// Pre: has(slot), in no leaf.
    [[nodiscard]] const PageNode* child(std::size_t slot) const noexcept {
        return items<NodeRef>()[index_of(slot)].get();
    }

    void add_reference() const noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() const noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
    }

private:
    PageNode(std::uint8_t occupied, unsigned level) noexcept
        : occupied_(occupied), level_(static_cast<std::uint8_t>(level)) {}

    template <class Item>
    [[nodiscard]] static NodeRef make(std::uint8_t occupied, unsigned level, std::array<Item, kWidth>&& items) {
        static_assert(alignof(Item) <= sizeof(PageNode), "the items begin where the node ends");
        const auto count = static_cast<std::size_t>(std::popcount(occupied));
        void* const memory = ::operator new(sizeof(PageNode) + count * sizeof(Item));
        NodeRef node(new (memory) PageNode(occupied, level));
        auto* at = const_cast<Item*>(node->items<Item>());
        for (std::size_t slot = 0; slot < kWidth; ++slot) {
            if (node->has(slot)) new (at++) Item(std::move(items[slot]));
        }
        return node;
    }

    [[nodiscard]] std::size_t index_of(std::size_t slot) const noexcept {
        return static_cast<std::size_t>(std::popcount(static_cast<std::uint8_t>(occupied_ & ((1U << slot) - 1))));
    }
    template <class Item>
    [[nodiscard]] const Item* items() const noexcept {
        return std::launder(reinterpret_cast<const Item*>(this + 1));
    }
    template <class Item>
    void destroy_items() const noexcept {
        std::destroy_n(const_cast<Item*>(items<Item>()), std::popcount(occupied_));
    }
    void destroy() const noexcept {
        level_ == 0 ? destroy_items<Place>() : destroy_items<NodeRef>();
        ::operator delete(const_cast<PageNode*>(this));
    }

    mutable std::atomic<std::uint32_t> references_{0};
    std::uint8_t occupied_;
    std::uint8_t level_;
};

void intrusive_ptr_add_ref(const PageNode* node) noexcept { node->add_reference(); }
void intrusive_ptr_release(const PageNode* node) noexcept { node->release(); }

namespace {

/// How many pages a node of this level can hold.
constexpr std::uint64_t pages_below(unsigned level) noexcept { return std::uint64_t{1} << (kBits * (level + 1)); }

constexpr std::size_t slot_of(PageIndex page, unsigned level) noexcept {
    return page.value >> (kBits * level) & (kWidth - 1);
}

/// A node in a tree whose root may be lower than that of another: above its root, only the first slot is occupied.
struct Cursor {
    const PageNode* node = nullptr;

    [[nodiscard]] unsigned level() const noexcept { return node == nullptr ? 0 : node->level(); }
    [[nodiscard]] Cursor child(unsigned level, std::size_t slot) const noexcept {
        if (node == nullptr) return {};
        if (node->level() < level) return slot == 0 ? *this : Cursor{};
        return node->has(slot) ? Cursor{node->child(slot)} : Cursor{};
    }
    [[nodiscard]] const Place* place(std::size_t slot) const noexcept {
        return node != nullptr && node->has(slot) ? &node->place(slot) : nullptr;
    }
};

/// Pages that are put into a tree: `pages[i]` is the page number `first + i` of `block`.
struct NewPages {
    std::span<const PageIndex> pages;
    const std::shared_ptr<const Delta>& block;
    std::uint32_t first;

    /// The pages that belong below one slot, which are at the beginning. They are taken off.
    NewPages take(unsigned level, std::size_t slot) noexcept {
        const auto is_in = [&](PageIndex page) { return slot_of(page, level) == slot; };
        const auto end = std::partition_point(pages.begin(), pages.end(), is_in);
        const auto count = static_cast<std::size_t>(end - pages.begin());
        const NewPages taken{pages.first(count), block, first};
        pages = pages.subspan(count);
        first += static_cast<std::uint32_t>(count);
        return taken;
    }
};

/// The node of `level` that has the pages of `old` and the new ones. Counts pages that `old` did not have in `added`.
NodeRef with_pages(Cursor old, unsigned level, NewPages news, std::uint64_t& added) {
    std::uint8_t occupied = 0;
    if (level == 0) {
        std::array<Place, kWidth> places;
        for (std::size_t slot = 0; slot < kWidth; ++slot) {
            const Place* const before = old.place(slot);
            const NewPages mine = news.take(0, slot);
            if (mine.pages.empty() && before == nullptr) continue;
            occupied = static_cast<std::uint8_t>(occupied | 1U << slot);
            places[slot] = mine.pages.empty() ? *before : Place{mine.block, mine.first};
            added += before == nullptr ? 1U : 0U;
        }
        return PageNode::leaf(occupied, std::move(places));
    }
    std::array<NodeRef, kWidth> children;
    for (std::size_t slot = 0; slot < kWidth; ++slot) {
        const Cursor before = old.child(level, slot);
        const NewPages mine = news.take(level, slot);
        if (mine.pages.empty() && before.node == nullptr) continue;
        occupied = static_cast<std::uint8_t>(occupied | 1U << slot);
        const bool is_shared = mine.pages.empty() && before.level() + 1 == level;
        children[slot] = is_shared ? NodeRef(before.node) : with_pages(before, level - 1, mine, added);
    }
    return PageNode::inner(occupied, level, std::move(children));
}

void visit_all(Cursor at, PageIndex first, const PageTree::Visit& visit) {
    const unsigned level = at.level();
    for (std::size_t slot = 0; slot < kWidth; ++slot) {
        if (!at.node->has(slot)) continue;
        const PageIndex page{first.value + slot * (pages_below(level) / kWidth)};
        level == 0 ? visit(page, at.node->place(slot)) : visit_all({at.node->child(slot)}, page, visit);
    }
}

void visit_differences(Cursor a, Cursor b, PageIndex first, const PageTree::VisitDifference& visit) {
    if (a.node == b.node) return;
    const unsigned level = std::max(a.level(), b.level());
    for (std::size_t slot = 0; slot < kWidth; ++slot) {
        const PageIndex page{first.value + slot * (pages_below(level) / kWidth)};
        if (level > 0) {
            visit_differences(a.child(level, slot), b.child(level, slot), page, visit);
            continue;
        }
        const Place* const in_a = a.place(slot);
        const Place* const in_b = b.place(slot);
        const bool same = in_a == in_b || (in_a != nullptr && in_b != nullptr && *in_a == *in_b);
        if (!same) visit(page, in_a, in_b);
    }
}

}  // namespace
}  // namespace detail

using detail::Cursor;
using detail::PageNode;

const PageTree::Place* PageTree::find_in_nodes(PageIndex page) const noexcept {
    const PageNode* node = root_.get();
    if (page.value >= detail::pages_below(node->level())) return nullptr;
    for (unsigned level = node->level(); level > 0; --level) {
        const std::size_t slot = detail::slot_of(page, level);
        if (!node->has(slot)) return nullptr;
        node = node->child(slot);
    }
    const std::size_t slot = detail::slot_of(page, 0);
    return node->has(slot) ? &node->place(slot) : nullptr;
}

PageTree PageTree::with(const std::shared_ptr<const Delta>& block) const {
    const std::span<const PageIndex> pages = block->pages();
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a block's pages ascend");
    unsigned level = root_ == nullptr ? 0 : root_->level();
    while (pages.back().value >= detail::pages_below(level)) ++level;
    PageTree made;
    std::uint64_t added = 0;
    made.root_ = detail::with_pages({root_.get()}, level, {pages, block, 0}, added);
    made.count_ = count_ + PageCount{added};
    return made;
}

void PageTree::for_each(const Visit& visit) const {
    if (root_ != nullptr) detail::visit_all({root_.get()}, {}, visit);
}

void PageTree::for_each_difference(const PageTree& a, const PageTree& b, const VisitDifference& visit) {
    detail::visit_differences({a.root_.get()}, {b.root_.get()}, {}, visit);
}

}  // namespace vmcow
