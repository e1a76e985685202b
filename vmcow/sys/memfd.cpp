#include "vmcow/sys/memfd.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

/// A memfd of hugetlb pages carries seals too; reading it is SIGBUS when their pool is empty.
bool is_ordinary_memory(int fd) noexcept {
    struct statfs filesystem {};
    return ::fstatfs(fd, &filesystem) == 0 && filesystem.f_type == TMPFS_MAGIC;
}

}  // namespace

int immutable_seals() noexcept { return F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL; }

UniqueFd create_memfd(const std::string& name) {
    // The kernel takes 249 bytes of name; a longer one would be EINVAL, and the name is only for people.
    constexpr std::size_t kNameBytes = 200;
    UniqueFd fd(::memfd_create(("vmcow:" + name.substr(0, kNameBytes)).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) throw_errno("create image '" + name + "' (memfd_create)");
    return fd;
}

void resize_memfd(int fd, std::uint64_t bytes, const std::string& name) {
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
        throw_errno("resize image '" + name + "' to " + std::to_string(bytes) + " bytes");
    }
}

void seal_memfd(int fd, const std::string& name) {
    if (::fcntl(fd, F_ADD_SEALS, immutable_seals()) != 0) throw_errno("seal image '" + name + "'");
}

bool is_immutable(int fd) noexcept {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & immutable_seals()) == immutable_seals() && is_ordinary_memory(fd);
}

bool is_fillable(int fd) noexcept {
    constexpr int kForbidding = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & kForbidding) != 0) return false;
    return (::fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR && is_ordinary_memory(fd);
}

std::uint64_t file_bytes(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw_errno("stat descriptor " + std::to_string(fd));
    return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace vmcow::sys
