#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "tests/support/process_counts.hpp"
#include "vmcow/sys/fd.hpp"

namespace tests {

/// What a process holds, as the kernel counts it.
struct Held {
    std::size_t descriptors = 0;
    std::size_t mappings = 0;
    std::uint64_t anonymous_kib = 0;
    std::uint64_t addresses_kib = 0;
};

[[nodiscard]] inline Held held_by(pid_t pid) {
    const std::string folder = "/proc/" + std::to_string(pid);
    Held held{.descriptors = descriptors(pid), .mappings = mappings(pid)};
    std::istringstream rollup(vmcow::sys::read_text_file(folder + "/smaps_rollup"));
    for (std::string line; std::getline(rollup, line);) {
        if (line.starts_with("Anonymous:")) held.anonymous_kib = std::stoull(line.substr(10));
    }
    std::istringstream status(vmcow::sys::read_text_file(folder + "/status"));
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmSize:")) held.addresses_kib = std::stoull(line.substr(7));
    }
    return held;
}

}  // namespace tests
