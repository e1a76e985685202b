#include "vmcow/file/image_content.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <system_error>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

std::vector<PageIndex> union_of(const std::vector<PageIndex>& a, const std::vector<PageIndex>& b) {
    std::vector<PageIndex> both;
    std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    return both;
}

bool is_same(const struct stat& status, const DiskCopy& copy) noexcept {
    return status.st_dev == copy.device && status.st_ino == copy.inode &&
           static_cast<std::uint64_t>(status.st_size) == copy.file_bytes;
}

/// The file that `copy` records, if it is still what it was. Its name may be gone if the base has it mapped.
std::optional<ImageFile> open_copy(const ReadOnlyImage& base, const DiskCopy& copy) {
    try {
        struct stat status {};
        const bool mapped =
            base.state() == FileState::on_disk && ::fstat(base.fd(), &status) == 0 && is_same(status, copy);
        ImageFile file = mapped ? ImageFile(copy.path, sys::duplicate(base.fd())) : ImageFile(copy.path);
        if (is_same(file.status(), copy) && file.header().id == copy.id) return file;
    } catch (const std::system_error&) {
        // The file was replaced, removed or damaged: nothing can be shared with it, and every page will be written.
    }
    return std::nullopt;
}

}  // namespace

std::optional<SavedBase> find_saved_base(const ReadOnlyImage& base) {
    for (const auto& copy : base.disk_copies()) {
        if (auto file = open_copy(base, *copy)) return SavedBase{std::move(*file), copy->differing};
    }
    return std::nullopt;
}

std::vector<PageIndex> differing_pages(const Layers& layers, const Layers& relative,
                                       const std::vector<PageIndex>& differing) {
    VMCOW_ASSERT(relative.extent_bytes() <= layers.extent_bytes() && "an image is not saved relative to a longer one");
    const std::vector<PageIndex> mine = layers.changed_pages();
    const std::vector<PageIndex> others = union_of(relative.changed_pages(), differing);
    std::vector<PageIndex> pages;
    for (const PageIndex page : union_of(mine, others)) {
        const bool lies_in_both = page.byte_offset() < relative.mapped_bytes();
        // A version may have undone what an earlier one did.
        if (lies_in_both && std::memcmp(layers.page(page), relative.page(page), kPageBytes) == 0) continue;
        pages.push_back(page);
    }
    return pages;
}

WholeContent::WholeContent(const Layers& layers, const SavedBase* cloned)
    : layers_(layers), cloned_(cloned), base_data_(layers.base().fd()) {
    if (cloned_ == nullptr) return;
    cloned_bytes_ = common_bytes(layers, *cloned_);
    differing_ = union_of(layers_.changed_pages(), cloned_->differing);
}

std::uint64_t WholeContent::common_bytes(const Layers& layers, const SavedBase& saved) noexcept {
    return std::min<std::uint64_t>(layers.mapped_bytes(), saved.file.header().stored_bytes);
}

bool WholeContent::differs(PageIndex page) const noexcept {
    return page.byte_offset() >= cloned_bytes_ || std::binary_search(differing_.begin(), differing_.end(), page);
}

const std::byte* WholeContent::bytes_of(PageIndex page) noexcept {
    const Layers::Source source = layers_.source(page);
    if (source.block != 0) return source.bytes;
    const bool behind_base = page.byte_offset() >= layers_.base().bytes();
    const bool hole = behind_base || base_data_.is_hole(layers_.base().file_offset() + page.byte_offset());
    return hole ? zero_page() : source.bytes;
}

StoredPage WholeContent::page(std::uint64_t index) {
    const PageIndex page{index};
    const std::byte* const bytes = bytes_of(page);
    if (!differs(page)) return {bytes, false};
    if (!is_zero_page(bytes)) return {bytes, true};
    // A page of zeros is left out only where nothing was cloned: a cloned page there holds other bytes.
    const bool leave_out = page.byte_offset() >= cloned_bytes_;
    if (leave_out) holes_ += PageCount{1};
    return {zero_page(), !leave_out};
}

std::optional<std::uint64_t> WholeContent::finished_block(std::uint64_t block) {
    if (cloned_ == nullptr) return std::nullopt;
    const PageIndex first = page_at(block * kImageBlockBytes);
    const std::uint64_t end_byte = std::min<std::uint64_t>((block + 1) * kImageBlockBytes, layers_.mapped_bytes());
    const std::uint64_t their_end_byte =
        std::min<std::uint64_t>((block + 1) * kImageBlockBytes, cloned_->file.header().stored_bytes);
    if (end_byte != their_end_byte) return std::nullopt;
    const auto changed = std::lower_bound(differing_.begin(), differing_.end(), first);
    if (changed != differing_.end() && changed->byte_offset() < end_byte) return std::nullopt;
    return cloned_->file.tables().checksums[block];
}

StoredPage DeltaContent::page(std::uint64_t index) {
    const std::byte* const bytes = layers_.page(pages_[index]);
    if (!is_zero_page(bytes)) return {bytes, true};
    holes_ += PageCount{1};
    return {zero_page(), false};
}

std::vector<PageRun> DeltaContent::runs() const {
    std::vector<PageRun> runs;
    for (const PageIndex page : pages_) {
        if (!runs.empty() && runs.back().end() == page) {
            runs.back().count += PageCount{1};
        } else {
            runs.push_back({page, {1}});
        }
    }
    return runs;
}

}  // namespace vmcow
