#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vmcow/file/image_file_format.hpp"
#include "vmcow/file/image_writer.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/data_ranges.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A whole image file that holds the base of some layers, except for the pages in `differing`.
struct SavedBase {
    ImageFile file;
    std::vector<PageIndex> differing;  ///< ascending
};

/// The latest disk copy of the base that is still what it was, for sharing its blocks; nullopt if there is none.
[[nodiscard]] std::optional<SavedBase> find_saved_base(const ReadOnlyImage& base);
/// The pages of `layers` that are not as in `relative`. `relative` stands on a disk copy of their base, which holds the
/// base except for the pages in `differing`.
/// Pre:  `relative` is not longer.
/// Cost: a comparison of each page that one of them does not have from the base.
[[nodiscard]] std::vector<PageIndex> differing_pages(const Layers& layers, const Layers& relative,
                                                     const std::vector<PageIndex>& differing);

/// All pages of some layers. Where the file already shares the pages of `cloned`, only what differs from them is
/// written.
class WholeContent final : public StoredContent {
public:
    /// `cloned` may be nullptr. Pre: the layers and `cloned` outlive this object.
    WholeContent(const Layers& layers, const SavedBase* cloned);

    [[nodiscard]] PageCount pages() const noexcept override { return pages_of(layers_.mapped_bytes()); }
    [[nodiscard]] StoredPage page(std::uint64_t index) override;
    [[nodiscard]] std::optional<std::uint64_t> finished_block(std::uint64_t block) override;

    /// Pages of zeros that were left out.
    [[nodiscard]] PageCount holes() const noexcept { return holes_; }
    /// How many bytes of the saved file can be shared: the length of the shorter image.
    [[nodiscard]] static std::uint64_t common_bytes(const Layers& layers, const SavedBase& saved) noexcept;

private:
    [[nodiscard]] bool differs(PageIndex page) const noexcept;
    [[nodiscard]] const std::byte* bytes_of(PageIndex page) noexcept;

    const Layers& layers_;
    const SavedBase* cloned_;
    std::uint64_t cloned_bytes_ = 0;
    std::vector<PageIndex> differing_;  // the pages that differ from what was cloned
    sys::DataRanges base_data_;
    PageCount holes_;
};

/// Some pages of some layers.
class DeltaContent final : public StoredContent {
public:
    /// Pre: `pages` ascend; the layers outlive this object.
    DeltaContent(const Layers& layers, std::vector<PageIndex> pages) : layers_(layers), pages_(std::move(pages)) {}

    [[nodiscard]] PageCount pages() const noexcept override { return {pages_.size()}; }
    [[nodiscard]] StoredPage page(std::uint64_t index) override;
    /// Pages of zeros that were left out.
    [[nodiscard]] PageCount holes() const noexcept { return holes_; }
    [[nodiscard]] std::vector<PageRun> runs() const;

private:
    const Layers& layers_;
    std::vector<PageIndex> pages_;
    PageCount holes_;
};

}  // namespace vmcow
