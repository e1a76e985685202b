#pragma once

#include <string>
#include <string_view>

#include "vmcow/cli/kit/output_place.hpp"

namespace vmcow::cli {

/// A file that a command writes in one go: whole, or not at all.
///
/// Shape:  a new file is written beside a regular one, synced and put in its place, as sys::ReplacedFile says. "-", and
///         a file that standard output goes to anyway, is standard output. A device, a pipe or another descriptor is
///         written directly.
/// Throws: std::system_error with the path -- the old file is as it was, and the temporary file is gone.
/// Source: rename(2); fsync(2).
class OutputFile {
public:
    /// Checks before the work is done that the result can be written: that the directory takes a new file, and that we
    /// may write the old file.
    explicit OutputFile(std::string path);

    /// Makes `text` the whole content of the file.
    void write(std::string_view text);

private:
    std::string path_;  ///< as the user wrote it, for messages
    OutputPlace place_;
};

}  // namespace vmcow::cli
