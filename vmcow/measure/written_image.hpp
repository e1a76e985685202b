#pragma once

#include <cstddef>
#include <cstdint>

#include "vmcow/arena.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/view.hpp"

namespace vmcow::measure {

/// An image of pseudo-random bytes for a workload to write to.
struct WrittenImage {
    Snapshot snapshot;
    ImagePages pages;
};

/// Throws: std::system_error -- ENOMEM (address space), EMFILE; nothing is left behind.
[[nodiscard]] WrittenImage make_image(const Workload& workload, PagePolicy pages);

/// What the writes of a workload have taken.
struct TimedWrites {
    std::uint64_t minor_faults;
    double seconds;
};

/// Writes to a private mapping of the image: each byte becomes what the image held there to begin with, with the bits
/// of `mark` flipped; of a write that stores the same, with none flipped. So what differs at the end are the bytes
/// written, each counted once, and what is written with another mark differs from that. Pre: `mark` is not 0.
TimedWrites apply(const Workload& workload, std::byte* image, std::uint8_t mark = 0xff) noexcept;

/// The addresses that the writes go to, each counted once. Cost: a bit for each byte of the image, and one pass.
[[nodiscard]] std::uint64_t count_distinct(const Workload& workload);

/// The writes once for nothing: that brings in the code and the data which they need, so that the next time they fault
/// on the image alone, and the memory for the copies, which a virtual machine that never touched it before pays three
/// times as much for. In a view of its own, so that the page tables it makes are not those that are counted.
void warm_up(const Workload& workload, View view);

}  // namespace vmcow::measure
