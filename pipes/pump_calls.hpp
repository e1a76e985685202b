#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

/// The calls that move bytes. None waits for another process, whether or not the descriptors are O_NONBLOCK, but where
/// it says so. Each returns bytes, 0 at the end of file, or a negative errno; -EAGAIN: nothing there, or no room.
namespace pipes::calls {

/// From a pipe to a pipe or a file, taking the bytes.
[[nodiscard]] ssize_t splice(int from, int to, std::size_t bytes) noexcept;
/// Out of a file into a pipe.
[[nodiscard]] ssize_t splice_at(int from, std::uint64_t offset, int to, std::size_t bytes) noexcept;
/// From a pipe to a pipe, leaving the bytes where they are.
[[nodiscard]] ssize_t tee(int from, int to, std::size_t bytes) noexcept;
/// Pre: there is something to read, or the descriptor is O_NONBLOCK; else it waits. (RWF_NOWAIT is refused for pipes.)
[[nodiscard]] ssize_t read(int from, std::span<std::byte> into) noexcept;
/// Pre: the descriptor is O_NONBLOCK, or a file; else it waits.
[[nodiscard]] ssize_t write(int to, std::span<const std::byte> bytes) noexcept;
/// To a socket.
[[nodiscard]] ssize_t send(int to, std::span<const std::byte> bytes) noexcept;

}  // namespace pipes::calls
