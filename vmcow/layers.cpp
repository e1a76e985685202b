#include "vmcow/layers.hpp"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memory.hpp"

namespace vmcow {

Layers::Layers(std::shared_ptr<const ReadOnlyImage> base, std::uint64_t extent_bytes,
               std::vector<std::shared_ptr<const Delta>> deltas)
    : base_(std::move(base)), extent_bytes_(extent_bytes), deltas_(std::move(deltas)) {
    VMCOW_ASSERT(extent_bytes_ <= base_->bytes());
    struct Entry {
        PageIndex page;
        std::size_t depth;  // 0 is the newest
        PageIndex stored;
    };
    std::vector<Entry> entries;
    for (std::size_t depth = 0; depth < deltas_.size(); ++depth) {
        const auto pages = deltas_[deltas_.size() - 1 - depth]->pages();
        for (std::size_t i = 0; i < pages.size(); ++i) entries.push_back({pages[i], depth, {i}});
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return std::tie(a.page, a.depth) < std::tie(b.page, b.depth); });
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (i > 0 && entries[i].page == entries[i - 1].page) continue;  // a newer layer has it
        append_page(entries[i].page, entries[i].stored, deltas_[deltas_.size() - 1 - entries[i].depth].get());
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

const std::byte* Layers::page(PageIndex index) const noexcept {
    const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), index,
                                        [](PageIndex wanted, const Piece& piece) { return wanted < piece.run.first; });
    if (after != pieces_.begin()) {
        const Piece& piece = *std::prev(after);
        if (index < piece.run.end()) return piece.delta->content(piece.stored + (index - piece.run.first));
    }
    return base_->data() + index.byte_offset();
}

int Layers::map_at(std::byte* address) const noexcept {
    constexpr sys::MapMode kMode = sys::MapMode::private_write;
    if (const int error = sys::map_file_at(address, mapped_bytes(), kMode, base_->fd(), 0); error != 0) return error;
    for (const Piece& piece : pieces_) {
        std::byte* const at = address + piece.run.first.byte_offset();
        if (!piece.mapped) {
            std::memcpy(at, piece.delta->content(piece.stored), piece.run.count.bytes());
            continue;
        }
        const int error =
            sys::map_file_at(at, piece.run.count.bytes(), kMode, piece.delta->fd(), piece.stored.byte_offset());
        if (error != 0) return error;
    }
    return sys::keep_out_of_children(address, mapped_bytes());
}

std::vector<PageIndex> Layers::delta_pages() const {
    std::vector<PageIndex> pages;
    for (const Piece& piece : pieces_) {
        for (PageIndex page = piece.run.first; page < piece.run.end(); page = page + PageCount{1})
            pages.push_back(page);
    }
    return pages;
}

}  // namespace vmcow
