#include "pipes/pipe.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace pipes {

using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

namespace {

// F_SETPIPE_SZ takes an int and rounds up to a power of two.
constexpr std::size_t kLargestRequestBytes = std::size_t{1} << 30;

int granted_bytes(int pipe_fd) {
    const int bytes = fcntl(pipe_fd, F_GETPIPE_SZ);
    if (bytes == -1) throw_errno("fcntl F_GETPIPE_SZ");
    return bytes;
}

// Sizes are powers of two, so halving finds the largest one that the kernel grants. The kernel refuses a size with
// EPERM past pipe-max-size or pipe-user-pages-soft, and with ENOMEM.
void ask_for(int pipe_fd, std::size_t wanted_bytes) {
    const int default_bytes = granted_bytes(pipe_fd);
    int bytes = static_cast<int>(std::bit_ceil(std::min(wanted_bytes, kLargestRequestBytes)));
    while (fcntl(pipe_fd, F_SETPIPE_SZ, bytes) == -1 && bytes > default_bytes) bytes /= 2;
}

}  // namespace

Pipe::Pipe(UniqueFd read_end, UniqueFd write_end, std::size_t capacity_bytes) noexcept
    : read_end_(std::move(read_end)), write_end_(std::move(write_end)), capacity_bytes_(capacity_bytes) {}

Pipe Pipe::open(std::optional<std::size_t> wanted_bytes) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) == -1) throw_errno("pipe2");
    UniqueFd read_end{ends[0]};
    UniqueFd write_end{ends[1]};
    if (wanted_bytes) ask_for(write_end.get(), *wanted_bytes);
    const auto capacity_bytes = static_cast<std::size_t>(granted_bytes(write_end.get()));
    return Pipe{std::move(read_end), std::move(write_end), capacity_bytes};
}

std::size_t queued_bytes(int pipe_fd) {
    int bytes = 0;
    if (ioctl(pipe_fd, FIONREAD, &bytes) == -1) throw_errno(fmt::format("ioctl FIONREAD of descriptor {}", pipe_fd));
    return static_cast<std::size_t>(bytes);
}

}  // namespace pipes
