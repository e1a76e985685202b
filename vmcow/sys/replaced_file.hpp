#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "vmcow/sys/unfinished_file.hpp"

namespace vmcow::sys {

/// Where a file at `path` is or would be: an absolute path of which no part, the file included, is a symbolic link.
/// Throws: std::system_error that begins with `message` -- ENOENT when the folder is not there, ELOOP, EACCES.
[[nodiscard]] std::filesystem::path file_behind_links(const std::filesystem::path& path, const std::string& message);

/// A new regular file that is to replace the file at a path, or to be the first there. It is filled beside that path,
/// as UnfinishedFile says, and put in place when it is complete. Until then, and if it is never completed, what is at
/// the path stays as it was.
///
/// Shape:  the file gets the permission bits of the file that it replaces, else those that the umask leaves. A symbolic
///         link stays, and the file that it points to is replaced. Of two writers, the file of the later one to end is
///         there.
/// Source: rename(2); fsync(2).
class ReplacedFile {
public:
    /// Throws: std::system_error with `path` -- ENOENT, EACCES, EROFS, ENOSPC; EISDIR; EINVAL for any other file that
    ///         is not regular; EACCES also for a file that may be replaced but not written.
    explicit ReplacedFile(const std::filesystem::path& path, UnfinishedFile::Way way = UnfinishedFile::Way::best);

    [[nodiscard]] int fd() const noexcept { return file_->fd(); }
    /// The path that is replaced: absolute, with links followed.
    [[nodiscard]] const std::filesystem::path& target() const noexcept { return target_; }

    /// Puts the file in its place. With `sync` it returns when the rename has reached the disk; the content must have
    /// reached it before.
    /// Throws: std::system_error -- the old file is as it was, unless the text says that the directory could not be
    ///         synced (EIO).
    void rename(bool sync);

private:
    std::string message_;
    std::filesystem::path target_;
    std::optional<UnfinishedFile> file_;
};

}  // namespace vmcow::sys
