#pragma once

#include <string>
#include <string_view>

#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// A file that a command writes once, at its end: whole, or not at all.
///
/// Shape:  a regular file is written beside itself under a temporary name, synced and renamed over the old one, whose
///         permission bits the new one gets; a symbolic link stays, and what it points to is replaced. "-", and a file
///         that standard output goes to anyway, is standard output. A device or a pipe is written directly.
/// Throws: std::system_error with the path -- the old file is as it was, and the temporary one is gone.
/// Source: rename(2); fsync(2).
class OutputFile {
public:
    /// Finds out now, before the work is done, whether the result can be written: the directory takes a new file, and
    /// the old file is one that we may write.
    explicit OutputFile(std::string path);

    /// Makes `text` the whole of the file.
    void write(std::string_view text);

private:
    void resolve();
    void replace(std::string_view text) const;

    enum class Kind { standard_output, direct, replaced };

    std::string path_;    ///< as the user wrote it, for messages
    std::string target_;  ///< what is replaced: path_ with symbolic links followed
    Kind kind_ = Kind::replaced;
    sys::UniqueFd direct_;
};

}  // namespace vmcow::cli
