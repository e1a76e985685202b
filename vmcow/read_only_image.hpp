#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {

/// Whether the file of an image can still change.
enum class FileState {
    immutable,  ///< it carries all of sys::immutable_seals (I1)
    lent,       ///< its owner can write: it is looked at only as long as the owner has promised to wait (I2)
};

/// A memfd and its read-only mapping: what the base of a snapshot and a delta have in common.
class ReadOnlyImage final : public MappedImage {
public:
    /// Maps all of a file into `slot`, which is at least as large.
    /// Pre: the file is in that state. Throws: std::system_error -- ENOMEM; the descriptor is closed.
    ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state = FileState::immutable);
    ~ReadOnlyImage() override;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// A number that no other image of this process has or will have.
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const std::byte* data() const noexcept { return slot_.address(); }
    /// Bytes of the file, a multiple of the page size.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    int reserve_again() noexcept override;
    int map_file_again() noexcept override;

    std::uint64_t id_;
    sys::UniqueFd fd_;
    Slot slot_;
    std::size_t bytes_;
    std::string name_;
};

}  // namespace vmcow
