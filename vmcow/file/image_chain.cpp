#include "vmcow/file/image_chain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

std::shared_ptr<const ReadOnlyImage> map_stored(ImageFile& file) {
    const ImageFileHeader& header = file.header();
    Slot slot = Slot::reserve(header.stored_bytes);
    return std::make_shared<const ReadOnlyImage>(file.take_fd(), std::move(slot), file.tables().name,
                                                 FileState::on_disk,
                                                 FilePart{header.stored_offset, header.stored_bytes});
}

ImageFile open_base(const ImageFile& file) {
    const std::filesystem::path path = file.base_path();
    try {
        return ImageFile(path);
    } catch (const std::system_error& error) {
        if (error.code().value() == EBADMSG) {
            file.refuse("the file that it stands on is not whole: " + std::string(error.what()));
        }
        sys::throw_error(error.code().value(), "image file '" + file.path().string() +
                                                   "': open the file that it stands on, '" + path.string() + "'");
    }
}

}  // namespace

ImageChain::ImageChain(const std::filesystem::path& path) {
    files_.emplace_back(path);
    while (files_.back().header().depth > 0) follow();
}

void ImageChain::follow() {
    const ImageFile& file = files_.back();
    ImageFile base = open_base(file);
    const auto refuse = [&](const char* what) {
        file.refuse(fmt::format("it stands on '{}', {}", base.path().string(), what));
    };
    const bool same =
        base.header().id == file.header().base_id && base.checksum() == file.header().base_header_checksum;
    if (!same) refuse("which is not the file that it was saved relative to");
    // The depth falls by one from file to file, so that a circle of files is found as soon as it closes.
    if (base.header().depth + 1 != file.header().depth) refuse("which is not below it");
    if (base.header().extent_bytes > file.header().extent_bytes) refuse("whose image is longer");
    files_.push_back(std::move(base));
}

std::uint64_t ImageChain::stored_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const ImageFile& file : files_) sum += file.header().stored_bytes;
    return sum;
}

std::optional<BadBlock> ImageChain::find_bad_block() const {
    for (const ImageFile& file : files_) {
        if (auto bad = file.find_bad_block()) return bad;
    }
    return std::nullopt;
}

/// Which files of delta pages are mapped: those with the most pages, as many as there are deltas at the most. The pages
/// of others are copied, so that a long chain takes no more descriptors and mappings than a short one.
std::vector<bool> ImageChain::choose_mapped() const {
    std::vector<std::size_t> order(files_.size() - 1);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return files_[a].header().stored_bytes > files_[b].header().stored_bytes;
    });
    std::vector<bool> mapped(files_.size());
    for (const std::size_t file : std::span(order).first(std::min(order.size(), Layers::kMaxDeltas)))
        mapped[file] = true;
    return mapped;
}

std::shared_ptr<const Layers> ImageChain::map() && {
    ImageFile& whole = files_.back();
    DiskCopy copy{.path = std::filesystem::canonical(whole.path()).string(),
                  .device = whole.status().st_dev,
                  .inode = whole.status().st_ino,
                  .file_bytes = static_cast<std::uint64_t>(whole.status().st_size),
                  .id = whole.header().id,
                  .differing = {}};
    auto base = map_stored(whole);
    base->remember(std::move(copy));
    auto layers = std::make_shared<const Layers>(base, whole.header().extent_bytes);
    const std::vector<bool> mapped = choose_mapped();
    for (std::size_t i = files_.size() - 1; i-- > 0;) {
        ImageFile& file = files_[i];
        const std::uint64_t extent = file.header().extent_bytes;
        std::vector<PageIndex> pages = file.delta_pages();
        if (pages.empty()) {
            layers = layers->with_extent(extent);
            continue;
        }
        const auto stored = Delta::filling(map_stored(file), std::move(pages));
        layers = mapped[i] ? layers->with_delta(stored, extent)
                           : layers->with_changes(
                                 stored->pages(), [&](std::size_t at) { return stored->content({at}); },
                                 Delta::stored_copy_of, extent);
    }
    return layers;
}

}  // namespace vmcow
