#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Small files of /proc, read without exceptions: a process may end while it is looked at, and that is no error then.

/// Room for what the kernel says about one process or thread: it writes at most a page at once.
using ProcText = std::array<char, 4096>;

/// Opens a file of /proc for reading, close-on-exec. Empty, with errno, when it cannot be opened: ENOENT (no such
/// process), EACCES (not ours), EMFILE.
[[nodiscard]] UniqueFd try_open_proc(const std::string& path) noexcept;

/// The text of an open file of /proc as it is now, as much of it as `room` holds: one pread(2) from the start. nullopt,
/// with errno, when it cannot be read: ESRCH (the process has been reaped), EACCES, EBADF.
[[nodiscard]] std::optional<std::string_view> read_proc(int fd, std::span<char> room) noexcept;

/// Opens a file of /proc and reads it. nullopt, with errno, when one of the two fails.
[[nodiscard]] std::optional<std::string_view> try_read_proc(const std::string& path, std::span<char> room) noexcept;

}  // namespace vmcow::sys
