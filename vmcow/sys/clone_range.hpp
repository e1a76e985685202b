#pragma once

#include <cstdint>

namespace vmcow::sys {

/// Makes a range of one file share its blocks with a range of another file, without copying, until one of them is
/// written to. Returns 0 or the errno: EOPNOTSUPP when the file system cannot share blocks, EXDEV for files on two file
/// systems, EINVAL for offsets that are not multiples of the file system's blocks.
/// Pre:    `to` is writable, `bytes` is not 0.
/// Source: ioctl_ficlonerange(2), Linux 4.5; btrfs, xfs, overlayfs over these, nfs.
[[nodiscard]] int clone_range(int from, std::uint64_t from_offset, std::uint64_t bytes, int to,
                              std::uint64_t to_offset) noexcept;

}  // namespace vmcow::sys
