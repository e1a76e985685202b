#pragma once

#include <cstdint>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// The seals that make an image immutable (I1): nobody can write, grow, shrink or unseal it again.
[[nodiscard]] int immutable_seals() noexcept;

/// An anonymous file in memory, named in /proc/PID/maps as /memfd:vmcow:NAME, close-on-exec, sealable.
/// Throws: std::system_error -- EMFILE, ENFILE, ENOMEM. Source: memfd_create(2), Linux 3.17.
[[nodiscard]] UniqueFd create_memfd(const std::string& name);

/// Sets the size; new bytes are holes that read as zeros.
/// Throws: std::system_error -- EPERM (sealed), EINVAL (read-only descriptor), EFBIG.
void resize_memfd(int fd, std::uint64_t bytes, const std::string& name);

/// Seals a memfd for good.
/// Throws: std::system_error -- EBUSY while anyone maps it shared and writable, EPERM on a read-only descriptor.
/// Source: fcntl(2) "File Sealing".
void seal_memfd(int fd, const std::string& name);

/// True for a memfd of ordinary memory that carries all of `immutable_seals`; false for any other descriptor.
[[nodiscard]] bool is_immutable(int fd) noexcept;

/// True for a memfd of ordinary memory that can be written to, resized and sealed through this descriptor.
[[nodiscard]] bool is_fillable(int fd) noexcept;

/// The size in bytes. Throws: std::system_error -- EBADF.
[[nodiscard]] std::uint64_t file_bytes(int fd);

}  // namespace vmcow::sys
