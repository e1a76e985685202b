#include "vmcow/sys/unfinished_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

constexpr unsigned kMostNames = 4096;
/// Names are taken from the lowest number on, so files that were left behind have low numbers. Behind this many free
/// names in a row there is none.
constexpr unsigned kFreeInARow = 8;

std::string numbered(const std::filesystem::path& folder, unsigned number) {
    return (folder / (".vmcow-" + std::to_string(number) + ".tmp")).string();
}

/// Whether `path` is still the name of the open file `fd`.
bool is_at(int fd, const std::string& path) noexcept {
    struct stat opened {};
    struct stat named {};
    return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

bool lock(int fd, int wait) noexcept {
    return retry_interrupted([&]() noexcept { return ::flock(fd, LOCK_EX | wait); }) == 0;
}

/// Opens a file to lock it. Some file systems (NFS) lock only what is open for writing; on others a file that is
/// read-only now can be locked.
UniqueFd open_for_locking(const std::string& path) noexcept {
    constexpr int kFlags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    UniqueFd fd(::open(path.c_str(), O_RDWR | kFlags));
    if (!fd && errno == EACCES) fd = UniqueFd(::open(path.c_str(), O_RDONLY | kFlags));
    return fd;
}

/// Removes the file at `path` if no writer holds it. False when there is no file.
bool remove_if_left_behind(const std::string& path) noexcept {
    const UniqueFd fd = open_for_locking(path);
    if (!fd) return false;
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return true;
    // Since the file was opened here, its writer may have put it in place and ended.
    if (lock(fd.get(), LOCK_NB) && is_at(fd.get(), path)) (void)::unlink(path.c_str());
    return true;
}

void remove_left_behind(const std::filesystem::path& folder) {
    unsigned free_ones = 0;
    for (unsigned number = 0; number < kMostNames && free_ones <= kFreeInARow; ++number) {
        free_ones = remove_if_left_behind(numbered(folder, number)) ? 0 : free_ones + 1;
    }
}

/// Whether the errno is what a kernel or a file system without O_TMPFILE returns.
bool means_no_unnamed_files(int error) noexcept {
    return error == EOPNOTSUPP || error == EISDIR || error == EINVAL || error == ENOENT;
}

}  // namespace

UnfinishedFile::UnfinishedFile(std::filesystem::path folder, std::string message, mode_t mode, Way way)
    : folder_(std::move(folder)), message_(std::move(message)) {
    remove_left_behind(folder_);
    if (way == Way::named || !open_unnamed(mode)) open_named(mode);
}

UnfinishedFile::~UnfinishedFile() {
    if (!name_.empty() && owner_.is_this_process()) (void)::unlink(name_.c_str());
}

bool UnfinishedFile::open_unnamed(mode_t mode) {
    // take_name links a file without a name through this folder.
    if (::access("/proc/self/fd", F_OK) != 0) return false;
    fd_ = UniqueFd(retry_interrupted([&] { return ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode); }));
    if (!fd_ && !means_no_unnamed_files(errno)) throw_errno(message_);
    if (fd_) (void)lock(fd_.get(), LOCK_NB);  // refused where there are no locks; nothing is removed there
    return static_cast<bool>(fd_);
}

void UnfinishedFile::open_named(mode_t mode) {
    for (unsigned number = 0; number < kMostNames; ++number) {
        const std::string name = numbered(folder_, number);
        fd_ = UniqueFd(
            retry_interrupted([&] { return ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode); }));
        if (!fd_ && errno != EEXIST) throw_errno(message_);
        if (!fd_) continue;
        // Another process that found the file before it was locked may hold the lock for a moment, and remove the file.
        (void)lock(fd_.get(), 0);
        if (!is_at(fd_.get(), name)) continue;
        name_ = name;
        return;
    }
    throw_error(EEXIST, message_);
}

int UnfinishedFile::link_to(const std::string& path) const noexcept {
    std::array<char, 32> self{};
    (void)std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", fd_.get());
    return ::linkat(AT_FDCWD, self.data(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

void UnfinishedFile::link_to_free_name() {
    for (unsigned number = 0; number < kMostNames; ++number) {
        std::string name = numbered(folder_, number);
        const int error = link_to(name);
        if (error == EEXIST) continue;
        if (error != 0) throw_error(error, message_);
        name_ = std::move(name);
        return;
    }
    throw_error(EEXIST, message_);
}

void UnfinishedFile::take_name(const std::filesystem::path& path) {
    if (name_.empty()) {
        const int error = link_to(path.string());
        if (error == 0) return;
        if (error != EEXIST) throw_error(error, message_);
        link_to_free_name();
    }
    if (std::rename(name_.c_str(), path.c_str()) != 0) throw_errno(message_);
    name_.clear();
}

UniqueFd UnfinishedFile::without_name() && {
    if (!name_.empty()) (void)::unlink(std::exchange(name_, {}).c_str());
    return std::move(fd_);
}

}  // namespace vmcow::sys
