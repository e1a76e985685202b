#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace vmcow::sys {

/// Reads the whole of a file that a user names. It may be regular, or a pipe or a device, which may never end. nullopt
/// when the file has more than `most` bytes; at most one byte more than `most` is read.
/// Throws: std::system_error -- open(2)'s or read(2)'s errno with the path.
[[nodiscard]] std::optional<std::string> read_at_most(const std::string& path, std::size_t most);

}  // namespace vmcow::sys
