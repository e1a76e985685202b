#pragma once

#include <string>

#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// Where output goes for a path that the user has given.
struct OutputPlace {
    enum class Kind {
        standard_output,  ///< "-", or a file that standard output goes to anyway
        direct,           ///< a device, a pipe, or a descriptor as in /dev/stderr and /dev/fd/3: written directly
        file,             ///< a regular file, or no file yet
    };

    Kind kind = Kind::file;
    sys::UniqueFd direct{};
};

/// Throws: std::system_error with the path -- ENOENT for an empty path, EISDIR; open(2)'s errno for a device or a pipe.
[[nodiscard]] OutputPlace place_of(const std::string& path);

}  // namespace vmcow::cli
