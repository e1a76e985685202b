#pragma once

#include <cstdint>
#include <filesystem>

namespace vmcow {

/// A block of an image file whose bytes are not the bytes that were saved.
struct BadBlock {
    std::filesystem::path path;
    std::uint64_t file_offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t expected = 0;  ///< the checksum in the file's tables
    std::uint64_t found = 0;     ///< the checksum of the bytes
};

}  // namespace vmcow
