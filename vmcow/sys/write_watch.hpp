#pragma once

#include <chrono>
#include <span>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Tells whether any process, this one included, has written to one of some files. A terminal is such a file. The typed
/// characters that it shows are not writes, and a write to /dev/tty is not a write to the terminal's own file.
///
/// Source: inotify(7), IN_MODIFY.
class WriteWatch {
public:
    /// `works` is false when there are no files, or when inotify is refused for one of them (EACCES: it may not be
    /// read; EMFILE: too many watchers).
    explicit WriteWatch(std::span<const std::string> files) noexcept;

    [[nodiscard]] bool works() const noexcept { return static_cast<bool>(watch_); }
    /// Whether there was a write since this was asked last.
    /// Pre: works().
    [[nodiscard]] bool written() noexcept;
    /// Like written, but waits up to `patience` for a write.
    /// Pre: works().
    [[nodiscard]] bool written_within(std::chrono::milliseconds patience) noexcept;

private:
    UniqueFd watch_;
};

}  // namespace vmcow::sys
