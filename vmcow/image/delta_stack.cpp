#include "vmcow/image/delta_stack.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace vmcow {
namespace {

/// What one tree has elsewhere than another.
struct Difference {
    std::vector<PageIndex> pages;
    std::shared_ptr<const Delta> block;  // that has exactly these pages, or nullptr
};

Difference difference(const PageTree& from, const PageTree& to) {
    Difference found;
    bool one_block = true;
    PageTree::for_each_difference(from, to, [&](PageIndex page, const PageTree::Place*, const PageTree::Place* place) {
        found.pages.push_back(page);
        if (found.block == nullptr && place != nullptr) found.block = place->block;
        one_block = one_block && place != nullptr && place->block == found.block;
    });
    if (!one_block || (found.block && found.block->pages().size() != found.pages.size())) found.block.reset();
    return found;
}

std::shared_ptr<const Delta> copy_of(std::span<const PageIndex> pages, const DeltaStack::Content& content) {
    return Delta::stored_copy_of(pages, [&](std::size_t i) { return content(pages[i]); });
}

}  // namespace

DeltaStack::DeltaStack(std::vector<std::shared_ptr<const Delta>> deltas, PageTree tree)
    : deltas_(std::move(deltas)), tree_(std::move(tree)) {}

/// The blocks of the tree in the order in which they were made, if they are few and, one over the other, show what the
/// tree has. Nothing otherwise.
std::vector<std::shared_ptr<const Delta>> DeltaStack::few_blocks_of(const PageTree& wanted) {
    std::vector<std::shared_ptr<const Delta>> blocks;
    const Delta* last = nullptr;
    wanted.for_each([&](PageIndex, const PageTree::Place& place) {
        if (place.block.get() == last || blocks.size() > kMaxDeltas) return;
        last = place.block.get();
        if (std::find(blocks.begin(), blocks.end(), place.block) == blocks.end()) blocks.push_back(place.block);
    });
    if (blocks.size() > kMaxDeltas) return {};
    std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a->id() < b->id(); });
    PageTree shown;
    for (const auto& block : blocks) shown = shown.with(block);
    bool same = true;
    PageTree::for_each_difference(shown, wanted, [&](PageIndex, const auto*, const auto*) { same = false; });
    return same ? blocks : std::vector<std::shared_ptr<const Delta>>{};
}

/// How many of the oldest deltas stay as they are when `pages` more pages come and there are too many deltas. A delta
/// stays when it is much larger than all that lies above it. So in a long chain a page is copied a few times, and not
/// at each merge.
std::size_t DeltaStack::kept_below(std::size_t pages) const noexcept {
    constexpr std::size_t kMuchLarger = 2;
    std::size_t kept = deltas_.size() - 1;
    std::size_t merged = pages + deltas_[kept]->pages().size();
    while (kept > 0 && deltas_[kept - 1]->pages().size() <= kMuchLarger * merged) {
        merged += deltas_[--kept]->pages().size();
    }
    return kept;
}

DeltaStack DeltaStack::leading_to(const PageTree& wanted, const Content& content) const {
    if (auto blocks = few_blocks_of(wanted); !blocks.empty()) return {std::move(blocks), wanted};
    Difference news = difference(tree_, wanted);
    if (news.pages.empty()) return *this;
    auto deltas = deltas_;
    if (deltas.size() < kMaxDeltas) {
        deltas.push_back(news.block ? std::move(news.block) : copy_of(news.pages, content));
        return {std::move(deltas), wanted};
    }
    const auto kept = static_cast<std::ptrdiff_t>(kept_below(news.pages.size()));
    for (const auto& merged : std::span(deltas).subspan(static_cast<std::size_t>(kept))) {
        news.pages.insert(news.pages.end(), merged->pages().begin(), merged->pages().end());
    }
    std::sort(news.pages.begin(), news.pages.end());
    news.pages.erase(std::unique(news.pages.begin(), news.pages.end()), news.pages.end());
    deltas.erase(deltas.begin() + kept, deltas.end());
    deltas.push_back(copy_of(news.pages, content));
    return {std::move(deltas), wanted};
}

std::shared_ptr<const Delta> delta_between(const PageTree& from, const PageTree& to,
                                           const DeltaStack::Content& content) {
    Difference news = difference(from, to);
    if (news.pages.empty()) return nullptr;
    return news.block ? std::move(news.block) : copy_of(news.pages, content);
}

}  // namespace vmcow
