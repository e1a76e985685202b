#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// The seals that make an image immutable (I1): nobody can write, grow, shrink or unseal it again.
[[nodiscard]] int immutable_seals() noexcept;

/// An anonymous file in memory, close-on-exec and sealable, shown in /proc/PID/maps as /memfd:vmcow:NAME.
/// Throws: std::system_error -- EMFILE, ENFILE, ENOMEM.
/// Source: memfd_create(2), Linux 3.17.
[[nodiscard]] UniqueFd create_memfd(const std::string& name);

/// Sets the size. New bytes are holes that read as zeros.
/// Throws: std::system_error -- EPERM (sealed), EINVAL (read-only descriptor), EFBIG (also past RLIMIT_FSIZE, without a
///         SIGXFSZ).
void resize_memfd(int fd, std::uint64_t bytes, const std::string& name);

/// Seals a memfd for good.
/// Throws: std::system_error -- EBUSY while anyone maps it shared and writable, EPERM on a read-only descriptor.
/// Source: fcntl(2) "File Sealing".
void seal_memfd(int fd, const std::string& name);

/// True for a memfd of ordinary memory that carries all of `immutable_seals`; false for any other file.
/// Throws: std::system_error -- the errno of the question, EBADF among others: the answer is unknown then.
[[nodiscard]] bool is_immutable(int fd);

/// Like is_immutable, but nullopt for a file that cannot carry seals at all.
[[nodiscard]] std::optional<bool> immutability(int fd);

/// True for a memfd of ordinary memory that can be written to, resized and sealed through this descriptor.
/// Throws: as `is_immutable`.
[[nodiscard]] bool is_fillable(int fd);

/// The size in bytes.
/// Throws: std::system_error -- EBADF.
[[nodiscard]] std::uint64_t file_bytes(int fd);

/// The inode number of an open file. The number and the file system together identify the file, and all memfds are on
/// one file system.
/// Throws: std::system_error -- EBADF.
[[nodiscard]] std::uint64_t inode_of(int fd);

}  // namespace vmcow::sys
