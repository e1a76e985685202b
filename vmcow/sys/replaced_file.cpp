#include "vmcow/sys/replaced_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kPermissionBits = 07777;

/// Follows the symbolic link at `path`, also to a file that does not exist yet, where realpath(3) fails.
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

}  // namespace

fs::path file_behind_links(const fs::path& path, const std::string& message) {
    const fs::path target = follow_links(path, message);
    std::error_code error;
    const fs::path folder = fs::canonical(target.has_parent_path() ? target.parent_path() : fs::path("."), error);
    if (error) throw_error(error.value(), message);
    return folder / target.filename();
}

ReplacedFile::ReplacedFile(const fs::path& path, UnfinishedFile::Way way) : message_("write '" + path.string() + "'") {
    if (!path.has_filename()) throw_error(path.empty() ? ENOENT : EISDIR, message_);
    target_ = file_behind_links(path, message_);
    struct stat old {};
    const bool exists = ::stat(target_.c_str(), &old) == 0;
    if (!exists && errno != ENOENT) throw_errno(message_);
    if (exists) {
        if (S_ISDIR(old.st_mode)) throw_error(EISDIR, message_);
        if (!S_ISREG(old.st_mode)) throw_error(EINVAL, message_ + ": it is not a regular file");
        // rename(2) would replace a read-only file too, but making it read-only did not mean that.
        if (::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) throw_errno(message_);
    }
    file_.emplace(target_.parent_path(), message_, 0666, way);
    if (exists && ::fchmod(file_->fd(), old.st_mode & kPermissionBits) != 0) throw_errno(message_);
}

void ReplacedFile::rename(bool sync) {
    const std::string folder = target_.parent_path().string();
    // Opened first: nothing is replaced when there is no descriptor for the directory.
    const UniqueFd directory = sync ? open_file(folder, O_RDONLY | O_DIRECTORY) : UniqueFd();
    file_->take_name(target_);
    // EINVAL: the file system has nothing to sync for a directory.
    if (sync && ::fsync(directory.get()) != 0 && errno != EINVAL) throw_errno("sync directory '" + folder + "'");
}

}  // namespace vmcow::sys
