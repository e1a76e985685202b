#include "vmcow/sys/clone_range.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/size_signal.hpp"

namespace vmcow::sys {

int clone_range(int from, std::uint64_t from_offset, std::uint64_t bytes, int to, std::uint64_t to_offset) noexcept {
    VMCOW_ASSERT(bytes != 0 && "a length of 0 would clone up to the end of the file");
    file_clone_range range{};
    range.src_fd = from;
    range.src_offset = from_offset;
    range.src_length = bytes;
    range.dest_offset = to_offset;
    return without_size_signal([&] { return ::ioctl(to, FICLONERANGE, &range); }) == 0 ? 0 : errno;
}

}  // namespace vmcow::sys
