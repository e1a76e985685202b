#pragma once

#include <cstdint>

#include "vmcow/arena.hpp"
#include "vmcow/measure/view_run.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/measure/written_image.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::measure {

struct RunOptions {
    sys::PageScanMethod page_scan = sys::best_page_scan();
    PagePolicy pages = PagePolicy::automatic;
};

/// What a workload did to a view, and how it was looked at.
struct WorkloadRun : ViewRun {
    sys::PageScanMethod page_scan = sys::PageScanMethod::pagemap_bits;
    ImagePages image;
};

/// Fills an image with pseudo-random bytes, freezes it, and applies the writes to a private view of it. A write stores
/// the complement of what the image holds there, so that the bytes that differ at the end are the bytes written, each
/// counted once, but for writes that store the same.
///
/// Pre:    the workload is valid; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- ENOMEM (address space), EMFILE; nothing is left behind.
/// Cost:   `memory_needed`; the writes are done twice, first to warm up.
[[nodiscard]] WorkloadRun run_workload(const Workload& workload, const RunOptions& options = {});
/// The same with an image that is there, of the workload's size.
[[nodiscard]] WorkloadRun run_workload(const Workload& workload, const WrittenImage& image,
                                       sys::PageScanMethod page_scan);

/// The most memory, in bytes, that it takes to run a workload in so many views that exist at the same time: the image,
/// the copies, page tables, and a bit for each byte of the image, by which distinct bytes are counted.
[[nodiscard]] std::uint64_t memory_needed(const Workload& workload, std::uint64_t views = 1) noexcept;

}  // namespace vmcow::measure
