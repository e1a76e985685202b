#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace vmcow::sys {

/// Owns one descriptor and closes it once.
///
/// Threads: as for an int: two threads must not change one owner.
/// Source:  close(2): never retried, not even after EINTR, because the descriptor is gone by then.
class UniqueFd {
public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept;
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    /// The descriptor, or -1 when there is none.
    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    /// Hands the descriptor to the caller, who closes it.
    [[nodiscard]] int release() noexcept;
    /// Closes the descriptor, if there is one.
    void reset() noexcept;

private:
    int fd_ = -1;
};

/// Opens `path` with close-on-exec set at birth.
/// Throws: std::system_error -- open(2)'s errno, with the path.
[[nodiscard]] UniqueFd open_file(const std::string& path, int flags, unsigned mode = 0666);

/// A second descriptor of the same open file description, close-on-exec.
/// Throws: std::system_error -- EBADF, EMFILE.
[[nodiscard]] UniqueFd duplicate(int fd);

/// Writes all of `bytes`, with as many calls of write(2) as it takes.
/// Throws: std::system_error -- write(2)'s errno (ENOSPC, EPIPE, …) with `name`; part may have been written. EFBIG past
///         RLIMIT_FSIZE, without a SIGXFSZ.
void write_all(int fd, std::span<const std::byte> bytes, const std::string& name);

/// Reads until `bytes` is full or the file ends; returns the bytes read.
/// Throws: std::system_error -- read(2)'s errno with `name`.
std::size_t read_full(int fd, std::span<std::byte> bytes, const std::string& name);

/// Reads the whole of a small text file, such as those under /proc, whose size stat(2) does not tell.
/// Throws: std::system_error -- open(2)'s or read(2)'s errno with the path.
[[nodiscard]] std::string read_text_file(const std::string& path);

}  // namespace vmcow::sys
