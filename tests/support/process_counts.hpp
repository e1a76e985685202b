#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tests {

/// The open descriptors of a process. Those of this one are counted with that of the look itself.
[[nodiscard]] inline std::size_t descriptors(pid_t pid = ::getpid()) {
    const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

/// The mappings of a process.
[[nodiscard]] inline std::size_t mappings(pid_t pid = ::getpid()) {
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
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
