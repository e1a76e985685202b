#include "vmcow/sys/mappings.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <string>
#include <system_error>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

std::uint64_t inode_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw_errno("stat descriptor " + std::to_string(fd));
    return status.st_ino;
}

bool maps_writable(pid_t pid, std::span<const std::uint64_t> inodes) {
    if (inodes.empty()) return false;
    std::istringstream lines;
    try {
        lines.str(read_text_file("/proc/" + std::to_string(pid) + "/maps"));
    } catch (const std::system_error& error) {
        return error.code().value() != ENOENT && error.code().value() != ESRCH;
    }
    std::string range;
    std::string permissions;
    std::string offset;
    std::string device;
    std::uint64_t inode = 0;
    std::string rest;
    while (lines >> range >> permissions >> offset >> device >> inode && std::getline(lines, rest)) {
        const bool writable = permissions.size() == 4 && permissions[1] == 'w' && permissions[3] == 's';
        if (writable && std::find(inodes.begin(), inodes.end(), inode) != inodes.end()) return true;
    }
    return false;
}

}  // namespace vmcow::sys
