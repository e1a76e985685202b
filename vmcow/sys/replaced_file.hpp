#pragma once

#include <filesystem>
#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// A new regular file on its way to replace the one at a path, or to be the first there: it is filled under a temporary
/// name in the same directory and renamed when it is complete. Until then, and if it never is, what is at the path
/// stays as it was.
///
/// Shape:  the file gets the permission bits of the one that it replaces, else those that the umask leaves. A symbolic
///         link stays, and what it points to is replaced.
/// Source: rename(2); fsync(2).
class ReplacedFile {
public:
    /// `unique` is a word that no other temporary file in the directory has.
    /// Throws: std::system_error with `path` -- ENOENT, EACCES, EROFS, ENOSPC; EISDIR; EINVAL for another file that is
    ///         not regular; EACCES also for a file that may be replaced but not written.
    ReplacedFile(const std::filesystem::path& path, const std::string& unique);
    /// Removes the temporary file, unless it was renamed.
    ~ReplacedFile();
    ReplacedFile(const ReplacedFile&) = delete;
    ReplacedFile& operator=(const ReplacedFile&) = delete;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// What is replaced: an absolute path, with links followed.
    [[nodiscard]] const std::filesystem::path& target() const noexcept { return target_; }

    /// Puts the file in its place; `sync`: returns when that has reached the disk, as the content must have before.
    /// Throws: std::system_error -- the old file is as it was, unless the text says that the directory could not be
    ///         synced (EIO).
    void rename(bool sync);

private:
    std::string message_;
    std::filesystem::path target_;
    std::string temporary_;
    UniqueFd fd_;
    bool renamed_ = false;
};

}  // namespace vmcow::sys
