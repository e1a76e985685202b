#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace pipes {

/// The directory for files without a name: $TMPDIR, or /tmp where that is not set.
[[nodiscard]] std::string default_spill_directory();

/// A first-in, first-out queue of bytes in a file without a name. Blocks that were read go back to the file system.
///
/// Threads: one at a time.
/// Source:  open(2) O_TMPFILE, Linux 3.11, or what vmcow::sys::UnfinishedFile does where the file system has none;
///          fallocate(2) FALLOC_FL_PUNCH_HOLE, without which the space comes back when the queue is empty.
class SpillFile {
public:
    /// Throws: std::system_error -- open(2)'s errno (ENOENT, EACCES, EMFILE, ENOSPC) with the directory.
    explicit SpillFile(const std::string& directory);

    /// Appends all of `bytes`. Returns 0 or an errno (ENOSPC, EDQUOT, EFBIG), after which the file cannot be used.
    [[nodiscard]] int push(std::span<const std::byte> bytes) noexcept;
    /// Takes up to `into.size()` bytes off the front. Returns how many; 0 when there are none, or a negative errno.
    [[nodiscard]] std::ptrdiff_t pop(std::span<std::byte> into) noexcept;
    /// Bytes that were pushed and not yet popped.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return end_ - begin_; }

private:
    void give_back() noexcept;

    vmcow::sys::UniqueFd fd_;
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
    std::uint64_t given_back_ = 0;  // the file has no blocks before this offset
};

}  // namespace pipes
