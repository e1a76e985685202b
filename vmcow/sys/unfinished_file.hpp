#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace vmcow::sys {

/// A new regular file in a folder. It has no name of its own until its writer gives it one.
///
///     best    open(2) O_TMPFILE: there is no name that a killed writer could leave behind. `take_name` links the file.
///             To replace another file, it links it as `.vmcow-N.tmp` first, which rename(2) then puts in place.
///     named   on a file system without O_TMPFILE: from the start under the first free name `.vmcow-N.tmp`.
///
/// The writer, and a child that was forked meanwhile, holds a lock on the file until it is closed. A file without a
/// name is locked before it gets one. So a file `.vmcow-N.tmp` that can be locked belongs to nobody: its writer was
/// killed. The next UnfinishedFile in that folder removes it. On a file system without locks nothing is removed.
///
/// Cost:    9 open(2) that find nothing, to look for what was left behind.
/// Threads: any number of files in a folder at a time; each file is for one thread.
/// Source:  open(2) O_TMPFILE, Linux 3.11; linkat(2); rename(2); flock(2).
class UnfinishedFile {
public:
    enum class Way { best, named };

    /// Errors begin with `message`.
    /// Throws: std::system_error -- open(2)'s errno: ENOENT, EACCES, EROFS, ENOSPC, EMFILE; EEXIST when 4096 names are
    ///         taken.
    UnfinishedFile(std::filesystem::path folder, std::string message, mode_t mode = 0666, Way way = Way::best);
    /// Removes the file, unless it has taken a name, or belongs to the process that this one was forked from.
    ~UnfinishedFile();
    UnfinishedFile(const UnfinishedFile&) = delete;
    UnfinishedFile& operator=(const UnfinishedFile&) = delete;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

    /// Puts the file at `path`, in the same folder, in place of what is there.
    /// Throws: std::system_error -- rename(2)'s or linkat(2)'s errno; what was there is as it was.
    void take_name(const std::filesystem::path& path);
    /// Gives the file to the caller, who alone can reach it now. The file is gone when its last descriptor is closed.
    [[nodiscard]] UniqueFd without_name() &&;

private:
    bool open_unnamed(mode_t mode);
    void open_named(mode_t mode);
    [[nodiscard]] int link_to(const std::string& path) const noexcept;
    void link_to_free_name();

    std::filesystem::path folder_;
    std::string message_;
    UniqueFd fd_;
    std::string name_;  ///< `.vmcow-N.tmp` with its folder; empty while the file has no name
    OwnerProcess owner_;
};

}  // namespace vmcow::sys
