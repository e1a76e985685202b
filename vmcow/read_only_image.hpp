#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// Whether the file of an image can still change.
enum class FileState {
    immutable,  ///< it carries all of sys::immutable_seals (I1)
    lent,       ///< its owner can write: it is looked at only as long as the owner has promised to wait (I2)
    on_disk,    ///< a regular file: it must not be written to or truncated in place, only replaced by rename(2)
};

/// Which bytes of a file are an image: `bytes` from `offset` on, both on pages; 0 bytes are all that there are.
struct FilePart {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

/// A file on disk that holds the content of an image, apart from the pages in `differing`.
struct DiskCopy {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    std::uint64_t file_bytes = 0;
    std::array<std::uint8_t, 16> id{};  ///< what the file says of itself; no other file says the same
    std::vector<PageIndex> differing;   ///< ascending
};

/// A file, or a part of one, and its read-only mapping: what the base of a snapshot and a delta have in common.
class ReadOnlyImage final : public MappedImage {
public:
    /// So many disk copies are remembered, the latest ones.
    static constexpr std::size_t kMaxDiskCopies = 8;

    /// Maps a file, or `part` of it, into `slot`, which is at least as large.
    /// Pre: the file is in that state, and the part lies within it. Throws: std::system_error -- ENOMEM; the descriptor
    /// is closed.
    ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state = FileState::immutable,
                  FilePart part = {});
    ~ReadOnlyImage() override;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// Where in the file the image begins: what has to be mapped is `bytes()` from there on.
    [[nodiscard]] std::uint64_t file_offset() const noexcept { return offset_; }
    [[nodiscard]] FileState state() const noexcept { return state_; }
    /// Whether the file holds this image and nothing else, and nobody can change it: its descriptor can be given away.
    [[nodiscard]] bool is_sealed_file() const noexcept { return sealed_file_; }
    /// A number that no other image of this process has or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const std::byte* data() const noexcept { return slot_.address(); }
    /// Bytes of the image, a multiple of the page size.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// The files from which this image was loaded or to which it was saved, the latest first. They may have been
    /// replaced since. Threads: any.
    [[nodiscard]] std::vector<std::shared_ptr<const DiskCopy>> disk_copies() const;
    /// Adds one, in place of the one with the same path. Threads: any.
    void remember(DiskCopy copy) const;

private:
    int reserve_again() noexcept override;
    int map_file_again() noexcept override;

    std::uint64_t id_;
    sys::UniqueFd fd_;
    Slot slot_;
    std::uint64_t offset_;
    std::size_t bytes_;
    std::string name_;
    FileState state_;
    bool sealed_file_;
    mutable std::vector<std::shared_ptr<const DiskCopy>> disk_copies_;  // under fork_lock
};

}  // namespace vmcow
