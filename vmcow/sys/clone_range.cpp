#include "vmcow/sys/clone_range.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>

namespace vmcow::sys {

int clone_range(int from, std::uint64_t from_offset, std::uint64_t bytes, int to, std::uint64_t to_offset) noexcept {
    file_clone_range range{};
    range.src_fd = from;
    range.src_offset = from_offset;
    range.src_length = bytes;
    range.dest_offset = to_offset;
    return ::ioctl(to, FICLONERANGE, &range) == 0 ? 0 : errno;
}

}  // namespace vmcow::sys
