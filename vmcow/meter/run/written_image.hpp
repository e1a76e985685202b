#pragma once

#include <cstddef>
#include <cstdint>

#include "vmcow/arena.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/view.hpp"

namespace vmcow::meter {

/// An image of pseudo-random bytes for a workload to write to.
struct WrittenImage {
    Snapshot snapshot;
    ImagePages pages;
};

/// Makes an image of the workload's size.
/// Throws: std::system_error -- ENOMEM (address space), EMFILE; nothing is left behind.
[[nodiscard]] WrittenImage make_image(const Workload& workload, PagePolicy pages);

/// What the writes of a workload took.
struct TimedWrites {
    std::uint64_t minor_faults;
    double seconds;
};

/// Applies the writes to a private mapping of the image. Each byte becomes what the image held there at first, with the
/// bits of `mark` flipped; a write that stores the same flips none. So the bytes that differ at the end are the bytes
/// written, each counted once, and writes with another mark store other bytes.
/// Pre:    `mark` is not 0.
/// Throws: std::system_error -- the number of faults cannot be read.
TimedWrites apply(const Workload& workload, std::byte* image, std::uint8_t mark = 0xff);

/// The number of bytes that the writes go to, each counted once. Cost: a bit for each byte of the image, and one pass
/// over the writes.
[[nodiscard]] std::uint64_t count_distinct(const Workload& workload);

/// Applies the writes once to a view that is then dropped. This brings in the code and data that the writes need, so
/// that the next time they fault on the image alone. It also brings in memory for the copies: on a virtual machine,
/// memory that was never touched before costs three times as much. The view is a separate one, so that its page tables
/// are not among those that are counted.
void warm_up(const Workload& workload, View view);

}  // namespace vmcow::meter
