#include "vmcow/image/layers.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

/// How many of the oldest deltas stay as they are when `pages` more pages come and there are too many deltas. A delta
/// stays when it is much larger than all that lies above it. So in a long chain a page is copied a few times, and not
/// at each merge.
std::size_t kept_deltas(const std::vector<std::shared_ptr<const Delta>>& deltas, std::size_t pages) {
    constexpr std::size_t kMuchLarger = 2;
    std::size_t kept = deltas.size() - 1;
    std::size_t merged = pages + deltas[kept]->pages().size();
    while (kept > 0 && deltas[kept - 1]->pages().size() <= kMuchLarger * merged) {
        merged += deltas[--kept]->pages().size();
    }
    return kept;
}

/// Every page that one of the deltas holds, ascending.
std::vector<PageIndex> pages_in(std::span<const std::shared_ptr<const Delta>> deltas) {
    std::vector<PageIndex> pages;
    for (const auto& delta : deltas) pages.insert(pages.end(), delta->pages().begin(), delta->pages().end());
    std::sort(pages.begin(), pages.end());
    pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
    return pages;
}

}  // namespace

Layers::Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes,
               std::vector<std::shared_ptr<const Delta>> deltas)
    : id_(next_id()),
      base_(std::move(base)),
      extent_bytes_(extent_bytes),
      mapped_bytes_(std::max(base_->bytes(), round_up(extent_bytes, kPageBytes))),
      deltas_(std::move(deltas)) {
    struct Entry {
        PageIndex page;
        PageIndex stored;
        const Delta* delta;
    };
    const auto comes_before = [](const Entry& a, const Entry& b) { return a.page < b.page; };
    std::vector<Entry> entries;
    for (auto delta = deltas_.rbegin(); delta != deltas_.rend(); ++delta) {
        const auto pages = (*delta)->pages();
        const bool within = !pages.empty() && pages.back().byte_offset() < mapped_bytes_;
        VMCOW_ASSERT(within && "I3: a page of a delta lies outside of the image");
        const auto newer = static_cast<std::ptrdiff_t>(entries.size());
        for (std::size_t i = 0; i < pages.size(); ++i) entries.push_back({pages[i], {i}, delta->get()});
        // The merge is stable: of two deltas that have a page, the newer one stays in front.
        std::inplace_merge(entries.begin(), entries.begin() + newer, entries.end(), comes_before);
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (i > 0 && entries[i].page == entries[i - 1].page) continue;  // a newer layer has it
        append_page(entries[i].page, entries[i].stored, entries[i].delta);
    }
    choose_mapped();
}

void Layers::append_page(PageIndex page, PageIndex stored, const Delta* delta) {
    if (!pieces_.empty()) {
        Piece& last = pieces_.back();
        if (last.delta == delta && last.run.end() == page && last.stored + last.run.count == stored) {
            last.run.count += PageCount{1};
            return;
        }
    }
    pieces_.push_back({{page, {1}}, stored, delta, false});
}

void Layers::choose_mapped() {
    std::size_t mapped = 0;
    for (Piece& piece : pieces_) {
        piece.mapped = piece.run.count >= kMappedRun && mapped < kMaxMappedRuns;
        if (piece.mapped) {
            ++mapped;
        } else if (!placed_.empty() && placed_.back().end() == piece.run.first) {
            placed_.back().count += piece.run.count;
        } else {
            placed_.push_back(piece.run);
        }
    }
}

Layers::Source Layers::source(PageIndex index) const noexcept {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), index,
                                        [](PageIndex wanted, const Piece& piece) { return wanted < piece.run.first; });
    if (after != pieces_.begin()) {
        const Piece& piece = *std::prev(after);
        if (index < piece.run.end()) {
            return {piece.delta->id(), piece.delta->content(piece.stored + (index - piece.run.first))};
        }
    }
    return {0, base_page(index)};
}

const std::byte* Layers::base_page(PageIndex index) const noexcept {
    alignas(64) static constexpr std::array<std::byte, kPageBytes> kZeros{};
    return index.byte_offset() < base_->bytes() ? base_->data() + index.byte_offset() : kZeros.data();
}

int Layers::map_at(std::byte* address) const noexcept {
    constexpr sys::MapMode kMode = sys::MapMode::private_write;
    const std::size_t base_bytes = base_->bytes();
    if (const int error = sys::map_file_at(address, base_bytes, kMode, base_->fd(), base_->file_offset()); error != 0) {
        return error;
    }
    if (mapped_bytes_ > base_bytes) {
        if (const int error = sys::map_memory_at(address + base_bytes, mapped_bytes_ - base_bytes); error != 0) {
            return error;
        }
    }
    for (const Piece& piece : pieces_) {
        std::byte* const at = address + piece.run.first.byte_offset();
        if (!piece.mapped) {
            std::memcpy(at, piece.delta->content(piece.stored), piece.run.count.bytes());
            continue;
        }
        const int error = sys::map_file_at(at, piece.run.count.bytes(), kMode, piece.delta->fd(),
                                           piece.delta->file_offset() + piece.stored.byte_offset());
        if (error != 0) return error;
    }
    return sys::keep_out_of_children(address, mapped_bytes_);
}

std::vector<PageIndex> Layers::delta_pages() const {
    std::vector<PageIndex> pages;
    for (const Piece& piece : pieces_) {
        for (PageIndex page = piece.run.first; page < piece.run.end(); page = page + PageCount{1})
            pages.push_back(page);
    }
    return pages;
}

std::shared_ptr<const Layers> Layers::with_changes(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content,
                                                   DeltaMaker make, std::uint64_t extent_bytes) const {
    VMCOW_ASSERT(may_ascend(pages) && "the pages are merged in ascending order");
    const std::uint64_t extent = std::max(extent_bytes, extent_bytes_);
    if (pages.empty()) return std::make_shared<const Layers>(base_, extent, deltas_);
    if (deltas_.size() < kMaxDeltas) {
        auto deltas = deltas_;
        deltas.push_back(make(pages, content));
        return std::make_shared<const Layers>(base_, extent, std::move(deltas));
    }
    const std::size_t kept = kept_deltas(deltas_, pages.size());
    std::vector<std::shared_ptr<const Delta>> deltas(deltas_.begin(),
                                                     deltas_.begin() + static_cast<std::ptrdiff_t>(kept));
    const Layers lower(base_, extent, deltas);
    std::vector<PageIndex> all;
    std::vector<const std::byte*> sources;
    const auto add = [&](PageIndex at, const std::byte* source) {
        // A page that is again as it was below is left out (I6).
        if (std::memcmp(source, lower.page(at), kPageBytes) == 0) return;
        all.push_back(at);
        sources.push_back(source);
    };
    std::size_t next = 0;
    for (const PageIndex below : pages_in(std::span(deltas_).subspan(kept))) {
        for (; next < pages.size() && pages[next] < below; ++next) add(pages[next], content(next));
        const bool changed = next < pages.size() && pages[next] == below;
        add(below, changed ? content(next) : page(below));
        next += changed ? 1U : 0U;
    }
    for (; next < pages.size(); ++next) add(pages[next], content(next));
    if (!all.empty()) deltas.push_back(make(all, [&](std::size_t i) { return sources[i]; }));
    return std::make_shared<const Layers>(base_, extent, std::move(deltas));
}

std::shared_ptr<const Layers> Layers::with_delta(const std::shared_ptr<const Delta>& delta,
                                                 std::uint64_t extent_bytes) const {
    if (deltas_.size() >= kMaxDeltas) {
        return with_changes(
            delta->pages(), [&](std::size_t i) { return delta->content({i}); }, Delta::copy_of, extent_bytes);
    }
    auto deltas = deltas_;
    deltas.push_back(delta);
    return std::make_shared<const Layers>(base_, std::max(extent_bytes, extent_bytes_), std::move(deltas));
}

std::shared_ptr<const Layers> capture_layers(const std::shared_ptr<const Layers>& below,
                                             const std::vector<PageRun>& runs, const std::byte* data,
                                             std::uint64_t extent_bytes, Layers::DeltaMaker make) {
    std::vector<PageIndex> changed;
    for (const PageRun& run : runs) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            if (std::memcmp(data + page.byte_offset(), below->page(page), kPageBytes) != 0) changed.push_back(page);
        }
    }
    if (changed.empty() && extent_bytes == below->extent_bytes()) return below;
    return below->with_changes(
        changed, [&](std::size_t i) { return data + changed[i].byte_offset(); }, make, extent_bytes);
}

}  // namespace vmcow
