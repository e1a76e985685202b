#pragma once

#include <cstdint>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Tells the holes of a file from its data without reading either: a read of a memfd's hole would make a page of it.
///
/// Threads: one at a time.
/// Source:  lseek(2) SEEK_DATA, Linux 3.1; without /proc everything is taken for data.
class DataRanges {
public:
    /// The descriptor may be closed afterwards.
    explicit DataRanges(int fd) noexcept;

    /// Whether nothing but zeros is from `offset` to the next page. Pre: offsets are asked for in ascending order.
    /// Cost: a comparison; two lseek(2) where a hole or data begins.
    [[nodiscard]] bool is_hole(std::uint64_t offset) noexcept;

private:
    UniqueFd fd_;
    std::uint64_t hole_end_ = 0;
    std::uint64_t data_end_ = 0;
};

}  // namespace vmcow::sys
