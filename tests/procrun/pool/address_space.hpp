#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

namespace tests {

/// The bytes of address space that this process has reserved with nothing behind them: mappings without any access.
/// Source: proc(5) /proc/PID/maps.
[[nodiscard]] inline std::uint64_t reserved_address_bytes() {
    std::ifstream maps("/proc/self/maps");
    std::uint64_t sum = 0;
    for (std::string line; std::getline(maps, line);) {
        unsigned long start = 0;
        unsigned long end = 0;
        std::array<char, 5> rights{};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, rights.data()) != 3) continue;
        if (std::string_view(rights.data()) == "---p") sum += end - start;
    }
    return sum;
}

/// The bytes of address space at which this process has mapped files without a name (memfds).
[[nodiscard]] inline std::uint64_t mapped_memfd_bytes() {
    std::ifstream maps("/proc/self/maps");
    std::uint64_t sum = 0;
    for (std::string line; std::getline(maps, line);) {
        unsigned long start = 0;
        unsigned long end = 0;
        const bool is_memfd = line.find("/memfd:") != std::string::npos;
        if (is_memfd && std::sscanf(line.c_str(), "%lx-%lx", &start, &end) == 2) sum += end - start;
    }
    return sum;
}

}  // namespace tests
