#include "vmcow/image/mapping_plan.hpp"

#include <cstring>

#include "vmcow/sys/mmap.hpp"

namespace vmcow {

MappingPlan::MappingPlan(const PageTree& tree) {
    tree.for_each([&](PageIndex page, const PageTree::Place& place) { add_page(page, place); });
    choose_mapped();
}

void MappingPlan::add_page(PageIndex page, const PageTree::Place& place) {
    const PageIndex stored{place.stored};
    if (!pieces_.empty()) {
        Piece& last = pieces_.back();
        if (last.block == place.block.get() && last.run.end() == page && last.stored + last.run.count == stored) {
            last.run.count += PageCount{1};
            return;
        }
    }
    pieces_.push_back({{page, {1}}, stored, place.block.get(), false});
}

void MappingPlan::choose_mapped() {
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

int MappingPlan::apply(std::byte* address) const noexcept {
    for (const Piece& piece : pieces_) {
        std::byte* const at = address + piece.run.first.byte_offset();
        if (!piece.mapped) {
            std::memcpy(at, piece.block->content(piece.stored), piece.run.count.bytes());
            continue;
        }
        const int error = sys::map_file_at(at, piece.run.count.bytes(), sys::MapMode::private_write, piece.block->fd(),
                                           piece.block->file_offset() + piece.stored.byte_offset());
        if (error != 0) return error;
    }
    return 0;
}

}  // namespace vmcow
