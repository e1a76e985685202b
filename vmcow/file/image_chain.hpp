#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "vmcow/file/bad_block.hpp"
#include "vmcow/file/image_file_format.hpp"
#include "vmcow/image/layers.hpp"

namespace vmcow {

/// An image file with the files that it stands on, checked against each other.
///
///     delta file ── base_path, id, checksum ──> delta file ──> … ──> whole image
///     depth 2                                   depth 1              depth 0
class ImageChain {
public:
    /// Throws: std::system_error -- as ImageFile; EBADMSG or ENOENT, naming both files, where a file stands on another
    ///         one that is not the one it was saved relative to, or that is missing.
    explicit ImageChain(const std::filesystem::path& path);

    /// The newest file first, the whole image last.
    [[nodiscard]] const std::vector<ImageFile>& files() const noexcept { return files_; }
    [[nodiscard]] const ImageFile& newest() const noexcept { return files_.front(); }
    [[nodiscard]] const ImageFile& root() const noexcept { return files_.back(); }
    /// The sum over all files.
    [[nodiscard]] std::uint64_t stored_bytes() const noexcept;
    /// The first bad block of any file. See ImageFile::find_bad_block.
    [[nodiscard]] std::optional<BadBlock> find_bad_block() const;

    /// Maps all files; the mappings take over the descriptors. Throws: std::system_error -- EMFILE, ENOMEM.
    [[nodiscard]] std::shared_ptr<const Layers> map() &&;

private:
    void follow();
    [[nodiscard]] std::vector<bool> choose_mapped() const;

    std::vector<ImageFile> files_;
};

}  // namespace vmcow
