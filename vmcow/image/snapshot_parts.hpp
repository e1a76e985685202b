#pragma once

#include <cstdint>
#include <vector>

#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The parts of a snapshot that goes from one process to another: descriptors and numbers.
struct SnapshotParts {
    struct DeltaPart {
        sys::UniqueFd fd;
        PageCount pages;
    };

    sys::UniqueFd base;
    std::uint64_t extent_bytes = 0;
    /// Where the maker had the base mapped. The receiver maps it there too if the range is free.
    std::uintptr_t slot_address = 0;
    std::vector<DeltaPart> deltas;
};

}  // namespace vmcow
