#pragma once

#include <cstdint>

#include "vmcow/arena.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/meter/run/run_view.hpp"
#include "vmcow/meter/run/written_image.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow::meter {

struct RunOptions {
    sys::PageScanMethod page_scan = sys::best_page_scan();
    PagePolicy pages = PagePolicy::automatic;
};

/// What a workload did to a view, and how its pages were counted.
struct WorkloadRun : ViewRun {
    sys::PageScanMethod page_scan = sys::PageScanMethod::pagemap_bits;
    ImagePages image;
};

/// Fills an image with pseudo-random bytes, freezes it, and applies the writes to a private view of it. A write stores
/// the complement of what the image holds there. So the bytes that differ at the end are the bytes written, each
/// counted once, except for writes that store the same.
///
/// Pre:    the workload is valid; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- ENOMEM (address space), EMFILE; nothing is left behind.
/// Cost:   `memory_needed(workload)`; the writes run twice, the first time to warm up.
[[nodiscard]] WorkloadRun run_workload(const Workload& workload, const RunOptions& options = {});
/// Applies the writes to a private view of an existing image of the workload's size.
[[nodiscard]] WorkloadRun run_workload(const Workload& workload, const WrittenImage& image,
                                       sys::PageScanMethod page_scan);

/// The most memory, in bytes, that it takes to run a workload in `views` views that exist at the same time: the image,
/// the copies, page tables, and a bit for each byte of the image to count distinct bytes.
[[nodiscard]] std::uint64_t memory_needed(const Workload& workload, std::uint64_t views = 1) noexcept;

}  // namespace vmcow::meter
