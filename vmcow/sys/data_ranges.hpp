#pragma once

#include <cstdint>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Tells the holes of a file from its data without reading either: reading a hole of a memfd would allocate a page.
///
/// Threads: one at a time.
/// Source:  lseek(2) SEEK_DATA, Linux 3.1. Without /proc everything counts as data.
class DataRanges {
public:
    /// The caller may close `fd` afterwards.
    explicit DataRanges(int fd) noexcept;

    /// Whether the file has a hole, which reads as zeros, from `offset` to the next page.
    /// Pre:  offsets are asked for in ascending order.
    /// Cost: a comparison; two lseek(2) where a hole or data begins.
    [[nodiscard]] bool is_hole(std::uint64_t offset) noexcept;

private:
    UniqueFd fd_;
    std::uint64_t hole_end_ = 0;
    std::uint64_t data_end_ = 0;
};

}  // namespace vmcow::sys
