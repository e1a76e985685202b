#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// Whether the file of an image can still change.
enum class FileState {
    immutable,  ///< it carries all of sys::immutable_seals (I1)
    borrowed,   ///< its owner can write to it: it is looked at only while the owner has promised to wait (I2)
    on_disk,    ///< a regular file, which must not be written to or truncated in place, only replaced by rename(2)
    stored,     ///< pages of the page store, which nobody writes to while somebody has them (I1)
};

/// The bytes of a file that are an image: `bytes` from `offset` on, both multiples of the page size. 0 bytes stand for
/// all up to the end of the file.
struct FilePart {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

/// The bytes of an image that this process may see. The rest of the first and of the last page reads as zeros. 0 to 0
/// stands for all.
struct ShownBytes {
    std::size_t from = 0;  ///< within the first page
    std::uint64_t to = 0;
};

/// A file on disk that holds the content of an image, apart from the pages in `differing`.
struct DiskCopy {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    std::uint64_t file_bytes = 0;
    std::array<std::uint8_t, 16> id{};  ///< the id that the file carries; no other file has the same
    std::vector<PageIndex> differing;   ///< ascending
};

/// An image that an arena has just sealed: a whole memfd with all of sys::immutable_seals, mapped read-only in its slot
/// and kept out of children.
struct SealedImage {
    sys::UniqueFd fd;
    Slot slot;
    std::size_t bytes = 0;
};

/// A read-only mapping of a file or of a part of one, or pages of the page store. The base of a snapshot is one, and so
/// is the file of a delta.
class ReadOnlyImage final : public MappedImage, public std::enable_shared_from_this<ReadOnlyImage> {
public:
    /// How many disk copies are remembered: the latest ones.
    static constexpr std::size_t kMaxDiskCopies = 8;

    /// Maps a file, or `part` of it, into `slot`.
    /// Pre:    the slot is at least as large, the file is in that state, and the part lies within it.
    /// Throws: std::system_error -- ENOMEM; EINVAL for an immutable image in a file that cannot carry seals. The
    ///         descriptor is closed.
    ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state = FileState::immutable,
                  FilePart part = {}, ShownBytes shown = {});
    /// Like the first constructor, for one of many parts of a file. The parts have one descriptor in common.
    ReadOnlyImage(std::shared_ptr<const sys::UniqueFd> fd, Slot slot, std::string name, FileState state, FilePart part,
                  ShownBytes shown = {});
    /// Takes over the image of an arena. The arena cannot be unsealed any more, so nothing is asked of the kernel that
    /// it could refuse.
    ReadOnlyImage(SealedImage&& image, std::string&& name);
    /// Takes over pages of the store that nobody writes to any more. The image is the first `count` of them. It has no
    /// descriptor and no mapping of its own.
    ReadOnlyImage(StoredPages&& pages, PageCount count, std::string name);
    ~ReadOnlyImage() override;

    [[nodiscard]] int fd() const noexcept { return stored_ ? stored_->fd() : fd_->get(); }
    /// The place in the page store; nullptr for an image that lies elsewhere.
    [[nodiscard]] const StoredPages* stored() const noexcept { return stored_ ? &*stored_ : nullptr; }
    /// Where in the file the image begins. `bytes()` from there on have to be mapped.
    [[nodiscard]] std::uint64_t file_offset() const noexcept { return offset_; }
    [[nodiscard]] FileState state() const noexcept { return state_; }
    /// Whether the file holds this image and nothing else, and nobody can change it. The descriptor of such a file can
    /// be given away.
    [[nodiscard]] bool is_sealed_file() const noexcept { return sealed_file_; }
    /// A number that no other image of this process has or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const std::byte* data() const noexcept { return stored_ ? stored_->data() : slot_.address(); }
    /// The size of the image, a multiple of the page size.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// The files from which this image was loaded or to which it was saved, the latest first. They may have been
    /// replaced since.
    /// Threads: any.
    [[nodiscard]] std::vector<std::shared_ptr<const DiskCopy>> disk_copies() const;
    /// Adds a disk copy, in place of the one with the same path.
    /// Threads: any.
    void remember(DiskCopy copy) const;

private:
    [[nodiscard]] int reserve_again() noexcept override;
    [[nodiscard]] int map_file_again() noexcept override;
    [[nodiscard]] std::span<const std::byte> mapped() const noexcept override { return {slot_.address(), bytes_}; }
    [[nodiscard]] std::shared_ptr<const Layers> layers_now() const override;
    /// Takes away the bytes of a page that this process must not see: the page becomes private memory of this process.
    /// Returns 0 or an errno (I7).
    [[nodiscard]] int hide_rest_of(PageIndex page) const noexcept;

    std::uint64_t id_;
    std::optional<StoredPages> stored_;
    std::shared_ptr<const sys::UniqueFd> fd_;
    Slot slot_;
    std::uint64_t offset_;
    std::size_t bytes_;
    std::string name_;
    FileState state_;
    ShownBytes shown_;
    bool sealed_file_;
    mutable std::vector<std::shared_ptr<const DiskCopy>> disk_copies_;  // under fork_lock
};

}  // namespace vmcow
