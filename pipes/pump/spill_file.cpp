#include "pipes/pump/spill_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/size_signal.hpp"
#include "vmcow/sys/unfinished_file.hpp"
#include "vmcow/units.hpp"

namespace pipes {

using vmcow::sys::retry_interrupted;

namespace {

/// Blocks are given back in pieces of this size: one call for each page would cost more than the reads.
constexpr std::uint64_t kGiveBackBytes = std::uint64_t{1} << 20;

}  // namespace

std::string default_spill_directory() {
    const char* const directory = std::getenv("TMPDIR");
    return directory != nullptr && *directory != '\0' ? directory : "/tmp";
}

SpillFile::SpillFile(const std::string& directory)
    : fd_(vmcow::sys::UnfinishedFile(directory, "open an unnamed file in '" + directory + "'", 0600).without_name()) {}

int SpillFile::push(std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        const auto write = [&] { return ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(end_)); };
        const ssize_t written = vmcow::sys::without_size_signal([&] { return retry_interrupted(write); });
        if (written < 0) return errno;
        if (written == 0) return EIO;  // a regular file never does that; trying again could go on for ever
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
    if (count == 0) return -EIO;  // somebody has truncated the file through /proc
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
