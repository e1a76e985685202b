#include "vmcow/image/layers.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow {
namespace {

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

/// Where several threads may find the same thing out at once: the first one's answer is kept for all. No lock, because
/// a forked child asks as well.
template <class T, class Make>
const T& first_answer(std::atomic<const T*>& kept, Make&& make) {
    if (const T* const known = kept.load(std::memory_order_acquire)) return *known;
    auto found = std::make_unique<const T>(make());
    const T* before = nullptr;
    if (kept.compare_exchange_strong(before, found.get(), std::memory_order_acq_rel)) return *found.release();
    return *before;
}

/// A tree whose blocks hold little beside what it uses.
struct Compact {
    PageTree tree;
    PageCount held;
};

/// Gathers the pages of all blocks of which less than half is in use in a block of their own.
Compact compacted(const PageTree& tree) {
    std::map<const Delta*, std::uint64_t> in_use;
    tree.for_each([&](PageIndex, const PageTree::Place& place) { ++in_use[place.block.get()]; });
    const auto is_wasteful = [&](const Delta& block) {
        return block.holds_memory() && in_use[&block] * 2 < block.pages().size();
    };
    std::vector<PageIndex> moved;
    std::vector<const std::byte*> sources;
    PageCount held;
    tree.for_each([&](PageIndex page, const PageTree::Place& place) {
        if (!is_wasteful(*place.block)) return;
        moved.push_back(page);
        sources.push_back(place.block->content({place.stored}));
    });
    for (const auto& [block, count] : in_use) {
        if (block->holds_memory() && !is_wasteful(*block)) held += PageCount{block->pages().size()};
    }
    if (moved.empty()) return {tree, held};
    const auto block = Delta::stored_copy_of(moved, [&](std::size_t i) { return sources[i]; });
    return {tree.with(block), held + PageCount{moved.size()}};
}

PageCount held_by(const Delta& block) noexcept { return {block.holds_memory() ? block.pages().size() : 0}; }

}  // namespace

/// Layers and their count of references in one piece of memory.
struct Layers::Made final : Layers {
    Made(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes, PageTree tree, PageCount held,
         Stack below)
        : Layers(std::move(base), extent_bytes, std::move(tree), held, std::move(below)) {}
};

Layers::Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes, PageTree tree, PageCount held,
               Stack below)
    : id_(next_id()),
      base_(std::move(base)),
      extent_bytes_(extent_bytes),
      tree_(std::move(tree)),
      held_(held),
      below_(std::move(below)) {}

Layers::Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes)
    : Layers(std::move(base), extent_bytes, PageTree(), {}, nullptr) {}

Layers::Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes,
               const std::vector<std::shared_ptr<const Delta>>& deltas)
    : Layers(std::move(base), extent_bytes) {
    for (const auto& delta : deltas) {
        const auto pages = delta->pages();
        const bool within = !pages.empty() && pages.back().byte_offset() < mapped_bytes();
        VMCOW_ASSERT(within && "I3: a page of a delta lies outside of the image");
        tree_ = tree_.with(delta);
        held_ += held_by(*delta);
    }
}

Layers::~Layers() {
    delete plan_.load(std::memory_order_relaxed);
    delete stack_.load(std::memory_order_relaxed);
}

Layers::Source Layers::source(PageIndex index) const noexcept {
    const PageTree::Place* const place = tree_.find(index);
    if (place == nullptr) return {0, base_page(index)};
    return {place->block->id(), place->block->content({place->stored})};
}

const std::byte* Layers::base_page(PageIndex index) const noexcept {
    alignas(64) static constexpr std::array<std::byte, kPageBytes> kZeros{};
    return index.byte_offset() < base_->bytes() ? base_->data() + index.byte_offset() : kZeros.data();
}

const MappingPlan& Layers::plan() const {
    return first_answer(plan_, [&] { return MappingPlan(tree_); });
}

const Layers::Stack& Layers::stack() const {
    return first_answer(stack_, [&] {
        const auto content = [&](PageIndex at) { return page(at); };
        return std::make_shared<const DeltaStack>((below_ ? *below_ : DeltaStack()).leading_to(tree_, content));
    });
}

const std::vector<std::shared_ptr<const Delta>>& Layers::deltas() const { return stack()->deltas(); }

int Layers::map_at(std::byte* address) const noexcept {
    const MappingPlan* const plan = plan_.load(std::memory_order_acquire);
    VMCOW_ASSERT(plan != nullptr && "I7: a forked child would have to plan its mapping");
    const std::size_t base_bytes = base_->bytes();
    const std::size_t mapped = mapped_bytes();
    int error = sys::map_file_at(address, base_bytes, sys::MapMode::private_write, base_->fd(), base_->file_offset());
    if (error == 0 && mapped > base_bytes) error = sys::map_memory_at(address + base_bytes, mapped - base_bytes);
    if (error == 0) error = plan->apply(address);
    return error != 0 ? error : sys::keep_out_of_children(address, mapped);
}

PageCount Layers::placed_at_most() const noexcept {
    const MappingPlan* const plan = plan_.load(std::memory_order_acquire);
    return plan == nullptr ? tree_.count() : sys::total_pages(plan->placed());
}

std::vector<PageIndex> Layers::changed_pages() const {
    std::vector<PageIndex> pages;
    pages.reserve(tree_.count().value);
    tree_.for_each([&](PageIndex page, const PageTree::Place&) { pages.push_back(page); });
    return pages;
}

std::shared_ptr<const Layers> Layers::made(std::uint64_t extent_bytes, PageTree tree, PageCount held) const {
    constexpr std::uint64_t kSlack = 64;
    if (held.value > 2 * tree.count().value + kSlack) {
        Compact compact = compacted(tree);
        tree = std::move(compact.tree);
        held = compact.held;
    }
    const Stack* const sent = stack_.load(std::memory_order_acquire);
    return std::make_shared<const Made>(base_, extent_bytes, std::move(tree), held, sent != nullptr ? *sent : below_);
}

std::shared_ptr<const Layers> Layers::with_changes(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content,
                                                   DeltaMaker make, std::uint64_t extent_bytes) const {
    VMCOW_ASSERT(may_ascend(pages) && "a block's pages ascend");
    if (pages.empty()) return made(std::max(extent_bytes, extent_bytes_), tree_, held_);
    return with_delta(make(pages, content), extent_bytes);
}

std::shared_ptr<const Layers> Layers::with_delta(const std::shared_ptr<const Delta>& block,
                                                 std::uint64_t extent_bytes) const {
    const std::uint64_t extent = std::max(extent_bytes, extent_bytes_);
    const bool within = block->pages().back().byte_offset() < std::max(base_->bytes(), round_up(extent, kPageBytes));
    VMCOW_ASSERT(within && "I3: a page of a delta lies outside of the image");
    return made(extent, tree_.with(block), held_ + held_by(*block));
}

std::shared_ptr<const Layers> Layers::with_extent(std::uint64_t extent_bytes) const {
    return made(extent_bytes, tree_, held_);
}

std::vector<PageIndex> pages_that_differ(const Layers& below, const std::vector<PageRun>& runs, const std::byte* data) {
    std::vector<PageIndex> changed;
    for (const PageRun& run : runs) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            if (std::memcmp(data + page.byte_offset(), below.page(page), kPageBytes) != 0) changed.push_back(page);
        }
    }
    return changed;
}

std::shared_ptr<const Layers> with_pages_of(const std::shared_ptr<const Layers>& below,
                                            std::span<const PageIndex> changed, const std::byte* data,
                                            std::uint64_t extent_bytes, Layers::DeltaMaker make) {
    if (changed.empty() && extent_bytes == below->extent_bytes()) return below;
    return below->with_changes(
        changed, [&](std::size_t i) { return data + changed[i].byte_offset(); }, make, extent_bytes);
}

std::shared_ptr<const Layers> capture_layers(const std::shared_ptr<const Layers>& below,
                                             const std::vector<PageRun>& runs, const std::byte* data,
                                             std::uint64_t extent_bytes, Layers::DeltaMaker make) {
    return with_pages_of(below, pages_that_differ(*below, runs, data), data, extent_bytes, make);
}

}  // namespace vmcow
