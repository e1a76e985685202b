#include "vmcow/sys/replaced_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kPermissionBits = 07777;

/// Follows the symbolic link that `path` is, also to a file that does not exist yet, where realpath(3) gives up.
fs::path follow_links(fs::path path, const std::string& message) {
    constexpr int kMostLinks = 40;  // as path_resolution(7)
    for (int links = 0; links < kMostLinks; ++links) {
        std::error_code no_link;
        const fs::path to = fs::read_symlink(path, no_link);
        if (no_link) return path;
        path = path.parent_path() / to;
    }
    throw_error(ELOOP, message);
}

/// The same file with a directory that has neither links nor dots in it.
fs::path resolved(const fs::path& path, const std::string& message) {
    const fs::path target = follow_links(path, message);
    std::error_code error;
    const fs::path folder = fs::canonical(target.has_parent_path() ? target.parent_path() : fs::path("."), error);
    if (error) throw_error(error.value(), message);
    return folder / target.filename();
}

}  // namespace

ReplacedFile::ReplacedFile(const fs::path& path, const std::string& unique)
    : message_("write '" + path.string() + "'") {
    if (!path.has_filename()) throw_error(path.empty() ? ENOENT : EISDIR, message_);
    target_ = resolved(path, message_);
    struct stat old {};
    const bool exists = ::stat(target_.c_str(), &old) == 0;
    if (!exists && errno != ENOENT) throw_errno(message_);
    if (exists) {
        if (S_ISDIR(old.st_mode)) throw_error(EISDIR, message_);
        if (!S_ISREG(old.st_mode)) throw_error(EINVAL, message_ + ": it is not a regular file");
        // rename(2) would replace it all the same, but who made it read-only did not mean that.
        if (::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) throw_errno(message_);
    }
    // Not made from the target's name, which may be as long as a name can be.
    temporary_ = (target_.parent_path() / (".vmcow-" + unique + ".tmp")).string();
    fd_ = UniqueFd(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!fd_) throw_errno(message_);
    if (exists && ::fchmod(fd_.get(), old.st_mode & kPermissionBits) != 0) {
        const int error = errno;
        (void)::unlink(temporary_.c_str());
        throw_error(error, message_);
    }
}

ReplacedFile::~ReplacedFile() {
    if (!renamed_) (void)::unlink(temporary_.c_str());
}

void ReplacedFile::rename(bool sync) {
    const std::string folder = target_.parent_path().string();
    // Opened before: without a descriptor for it nothing is replaced.
    const UniqueFd directory = sync ? open_file(folder, O_RDONLY | O_DIRECTORY) : UniqueFd();
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) throw_errno(message_);
    renamed_ = true;
    // EINVAL: a file system that has nothing to sync there.
    if (sync && ::fsync(directory.get()) != 0 && errno != EINVAL) throw_errno("sync directory '" + folder + "'");
}

}  // namespace vmcow::sys
