#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tests {

/// The open descriptors of this process, that of the look itself among them.
[[nodiscard]] inline std::size_t descriptors() {
    const std::filesystem::directory_iterator entries("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

/// The mappings of this process.
[[nodiscard]] inline std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);) ++count;
    return count;
}

/// By how many mappings the heap of a process may grow while a test makes thousands of objects. A sanitizer maps memory
/// of its own for what is allocated.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::size_t kHeapMappings = 100;
#else
inline constexpr std::size_t kHeapMappings = 20;
#endif

}  // namespace tests
