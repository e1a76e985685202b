#include "vmcow/sys/memfd.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/size_signal.hpp"

namespace vmcow::sys {
namespace {

/// False for hugetlb pages: such a memfd carries seals too, but reading it is SIGBUS when the pool of huge pages is
/// empty.
bool is_ordinary_memory(int fd) {
    struct statfs filesystem {};
    if (::fstatfs(fd, &filesystem) != 0) throw_errno("fstatfs of descriptor " + std::to_string(fd));
    return filesystem.f_type == TMPFS_MAGIC;
}

/// The seals of a file. nullopt for a file that cannot carry any, which the kernel says by EINVAL; any other error says
/// nothing about the file and is thrown.
std::optional<int> seals_of(int fd) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals >= 0) return seals;
    if (errno != EINVAL) throw_errno("fcntl F_GET_SEALS of descriptor " + std::to_string(fd));
    return std::nullopt;
}

struct stat status_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw_errno("stat descriptor " + std::to_string(fd));
    return status;
}

}  // namespace

int immutable_seals() noexcept { return F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL; }

UniqueFd create_memfd(const std::string& name) {
    // The kernel takes 249 bytes of name. A longer name would be EINVAL, and the name is only for people.
    constexpr std::size_t kNameBytes = 200;
    UniqueFd fd(::memfd_create(("vmcow:" + name.substr(0, kNameBytes)).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd) throw_errno("create image '" + name + "' (memfd_create)");
    return fd;
}

void resize_memfd(int fd, std::uint64_t bytes, const std::string& name) {
    if (without_size_signal([&] { return ::ftruncate(fd, static_cast<off_t>(bytes)); }) != 0) {
        throw_errno("resize image '" + name + "' to " + std::to_string(bytes) + " bytes");
    }
}

void seal_memfd(int fd, const std::string& name) {
    if (::fcntl(fd, F_ADD_SEALS, immutable_seals()) != 0) throw_errno("seal image '" + name + "'");
}

std::optional<bool> immutability(int fd) {
    const std::optional<int> seals = seals_of(fd);
    if (!seals) return std::nullopt;
    return (*seals & immutable_seals()) == immutable_seals() && is_ordinary_memory(fd);
}

bool is_immutable(int fd) { return immutability(fd).value_or(false); }

bool is_fillable(int fd) {
    constexpr int kForbidding = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    const std::optional<int> seals = seals_of(fd);
    if (!seals || (*seals & kForbidding) != 0) return false;
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) throw_errno("fcntl F_GETFL of descriptor " + std::to_string(fd));
    return (flags & O_ACCMODE) == O_RDWR && is_ordinary_memory(fd);
}

std::uint64_t file_bytes(int fd) { return static_cast<std::uint64_t>(status_of(fd).st_size); }

std::uint64_t inode_of(int fd) { return status_of(fd).st_ino; }

}  // namespace vmcow::sys
