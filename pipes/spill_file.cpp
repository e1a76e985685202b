#include "pipes/spill_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace pipes {

using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

namespace {

/// Blocks are given back so many bytes at a time: a call for each page would cost more than the reads.
constexpr std::uint64_t kGiveBackBytes = std::uint64_t{1} << 20;

UniqueFd open_unnamed(const std::string& directory) {
    UniqueFd fd{::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    // A kernel or a file system without O_TMPFILE says so in one of these ways.
    if (fd || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    std::string path = directory + "/vmcow-spill-XXXXXX";
    fd = UniqueFd{::mkostemp(path.data(), O_CLOEXEC)};
    if (fd) ::unlink(path.c_str());
    return fd;
}

}  // namespace

std::string default_spill_directory() {
    const char* const directory = std::getenv("TMPDIR");
    return directory != nullptr && *directory != '\0' ? directory : "/tmp";
}

SpillFile::SpillFile(const std::string& directory) : fd_(open_unnamed(directory)) {
    if (!fd_) throw_errno("open an unnamed file in '" + directory + "'");
}

int SpillFile::push(std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t written = retry_interrupted(
            [&] { return ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(end_)); });
        if (written < 0) return errno;
        if (written == 0) return EIO;  // no regular file takes nothing of something: do not ask for ever
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        end_ += static_cast<std::uint64_t>(written);
    }
    return 0;
}

std::ptrdiff_t SpillFile::pop(std::span<std::byte> into) noexcept {
    const std::size_t wanted = std::min<std::uint64_t>(into.size(), bytes());
    if (wanted == 0) return 0;
    const ssize_t count =
        retry_interrupted([&] { return ::pread(fd_.get(), into.data(), wanted, static_cast<off_t>(begin_)); });
    if (count < 0) return -errno;
    if (count == 0) return -EIO;  // someone has cut the file through /proc
    begin_ += static_cast<std::uint64_t>(count);
    give_back();
    return count;
}

void SpillFile::give_back() noexcept {
    if (begin_ == end_) {
        if (::ftruncate(fd_.get(), 0) == 0) begin_ = end_ = given_back_ = 0;
        return;
    }
    const std::uint64_t until = vmcow::round_down(begin_, kGiveBackBytes);
    if (until <= given_back_) return;
    // Best effort: where holes cannot be made, the file keeps its blocks until it is empty.
    static_cast<void>(::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                  static_cast<off_t>(given_back_), static_cast<off_t>(until - given_back_)));
    given_back_ = until;
}

}  // namespace pipes
