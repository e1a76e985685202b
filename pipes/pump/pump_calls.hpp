#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

/// The calls that move bytes. Unless its comment says so, none waits for another process, whether or not the
/// descriptors are O_NONBLOCK. Each returns the bytes it moved, 0 at the end of file, or a negative errno: -EAGAIN when
/// there is nothing to read, or no room to write.
namespace pipes::calls {

/// Moves bytes from a pipe to a pipe or a file.
[[nodiscard]] ssize_t splice(int from, int to, std::size_t bytes) noexcept;
/// Moves bytes from a file into a pipe.
[[nodiscard]] ssize_t splice_at(int from, std::uint64_t offset, int to, std::size_t bytes) noexcept;
/// Duplicates bytes from a pipe to a pipe; the first pipe keeps them.
[[nodiscard]] ssize_t tee(int from, int to, std::size_t bytes) noexcept;
/// Pre: there is something to read, or the descriptor is O_NONBLOCK; otherwise the call waits. (The kernel refuses
///      RWF_NOWAIT for pipes.)
[[nodiscard]] ssize_t read(int from, std::span<std::byte> into) noexcept;
/// Pre: the descriptor is O_NONBLOCK, or a file; otherwise the call waits.
[[nodiscard]] ssize_t write(int to, std::span<const std::byte> bytes) noexcept;
/// Writes to a socket.
[[nodiscard]] ssize_t send(int to, std::span<const std::byte> bytes) noexcept;

}  // namespace pipes::calls
