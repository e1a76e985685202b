#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "vmcow/sys/fd.hpp"

namespace pipes {

/// A byte pipe: both ends, close-on-exec, and the capacity that the kernel granted.
///
/// Source: pipe2(2); fcntl(2) F_SETPIPE_SZ. Past /proc/sys/fs/pipe-user-pages-soft an unprivileged user's new pipes get
///         one or two pages, and the kernel refuses a larger size: `capacity_bytes` tells what was granted.
class Pipe {
public:
    /// Opens a pipe of the kernel's default capacity, or of a capacity as close to `wanted_bytes` as the kernel grants.
    /// Throws: std::system_error -- EMFILE, ENFILE. A refused size is no error.
    [[nodiscard]] static Pipe open(std::optional<std::size_t> wanted_bytes = std::nullopt);

    [[nodiscard]] const vmcow::sys::UniqueFd& read_end() const noexcept { return read_end_; }
    [[nodiscard]] const vmcow::sys::UniqueFd& write_end() const noexcept { return write_end_; }
    /// Gives the read end away; the pipe no longer has it.
    [[nodiscard]] vmcow::sys::UniqueFd take_read_end() noexcept { return std::move(read_end_); }
    /// Gives the write end away; the pipe no longer has it.
    [[nodiscard]] vmcow::sys::UniqueFd take_write_end() noexcept { return std::move(write_end_); }
    /// Bytes that fit in before a writer blocks, as granted when the pipe was opened.
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return capacity_bytes_; }

private:
    Pipe(vmcow::sys::UniqueFd read_end, vmcow::sys::UniqueFd write_end, std::size_t capacity_bytes) noexcept;

    vmcow::sys::UniqueFd read_end_;
    vmcow::sys::UniqueFd write_end_;
    std::size_t capacity_bytes_ = 0;
};

/// Bytes in a pipe that were written and have not been read yet.
/// Throws: std::system_error -- EBADF.
/// Source: ioctl FIONREAD, pipe(7).
[[nodiscard]] std::size_t queued_bytes(int pipe_fd);

}  // namespace pipes
