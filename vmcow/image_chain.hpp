#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "vmcow/image_file_format.hpp"
#include "vmcow/layers.hpp"

namespace vmcow {

/// An image file with those that it stands on, checked against each other.
///
///     delta file ── base_path, id, checksum ──> delta file ──> … ──> whole image
///     depth 2                                   depth 1              depth 0
class ImageChain {
public:
    /// Throws: std::system_error -- as ImageFile; EBADMSG or ENOENT, naming both files, where one stands on another
    /// that
    ///         is not the one it was saved relative to, or that is missing.
    explicit ImageChain(const std::filesystem::path& path);

    /// The newest first, the whole image last.
    [[nodiscard]] const std::vector<ImageFile>& files() const noexcept { return files_; }
    [[nodiscard]] const ImageFile& newest() const noexcept { return files_.front(); }
    [[nodiscard]] const ImageFile& root() const noexcept { return files_.back(); }
    /// Of all files.
    [[nodiscard]] std::uint64_t stored_bytes() const noexcept;
    [[nodiscard]] std::optional<BadBlock> find_bad_block() const;

    /// Maps everything; the files are given to the mappings. Throws: std::system_error -- EMFILE, ENOMEM.
    [[nodiscard]] std::shared_ptr<const Layers> map() &&;

private:
    void follow();

    std::vector<ImageFile> files_;
};

}  // namespace vmcow
