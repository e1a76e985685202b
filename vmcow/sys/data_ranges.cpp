#include "vmcow/sys/data_ranges.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>

namespace vmcow::sys {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

/// Opens the file again: lseek(2) on `fd` would move the position of everybody who shares its open file description.
UniqueFd reopen(int fd) noexcept {
    std::array<char, 32> path{};
    (void)std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
    return UniqueFd(::open(path.data(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

DataRanges::DataRanges(int fd) noexcept : fd_(reopen(fd)) {
    if (!fd_) data_end_ = kNever;
}

bool DataRanges::is_hole(std::uint64_t offset) noexcept {
    if (offset < hole_end_) return true;
    if (offset < data_end_) return false;
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0) {
        // ENXIO: there is only a hole up to the end of the file.
        (errno == ENXIO ? hole_end_ : data_end_) = kNever;
        return errno == ENXIO;
    }
    hole_end_ = static_cast<std::uint64_t>(data);
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    data_end_ = hole < 0 ? kNever : static_cast<std::uint64_t>(hole);
    return offset < hole_end_;
}

}  // namespace vmcow::sys
