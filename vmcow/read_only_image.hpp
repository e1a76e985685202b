#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {

/// A sealed memfd and its read-only mapping: what the base of a snapshot and a delta have in common.
///
/// Invariant: I1: the file carries all of sys::immutable_seals.
class ReadOnlyImage final : public MappedImage {
public:
    /// Maps all of a sealed file into `slot`, which is at least as large.
    /// Pre: the file is immutable. Throws: std::system_error -- ENOMEM; the descriptor is closed.
    ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name);
    ~ReadOnlyImage() override;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] const std::byte* data() const noexcept { return slot_.address(); }
    /// Bytes of the file, a multiple of the page size.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    void reserve_again() noexcept override;
    int map_file_again() noexcept override;

    sys::UniqueFd fd_;
    Slot slot_;
    std::size_t bytes_;
    std::string name_;
};

}  // namespace vmcow
