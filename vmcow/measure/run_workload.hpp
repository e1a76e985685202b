#pragma once

#include <cstdint>

#include "vmcow/arena.hpp"
#include "vmcow/measure/meter.hpp"
#include "vmcow/measure/model.hpp"
#include "vmcow/measure/what_if.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::measure {

struct RunOptions {
    sys::PageScanMethod page_scan = sys::best_page_scan();
    PagePolicy pages = PagePolicy::automatic;
};

/// What a workload did to a private view, counted in four ways that must agree: the page scan (`meter.copied`), the
/// kernel's `Anonymous:` of the view, the faults while it ran, and, up to chance, the model.
struct WorkloadRun {
    Meter meter;
    Expectation expected;
    BlockCounts blocks;                 ///< that hold changed bytes, by their size
    std::uint64_t anonymous_bytes = 0;  ///< of the view, by /proc/self/smaps
    std::uint64_t minor_faults = 0;     ///< while the writes ran
    double seconds = 0;                 ///< of the writes alone
    sys::PageScanMethod page_scan = sys::PageScanMethod::pagemap_bits;
    ImagePages image;

    /// The residual of the pages copied against the model.
    [[nodiscard]] std::optional<double> residual() const noexcept {
        return residual_sigma(expected, meter.copied.value);
    }
};

/// Fills an image with pseudo-random bytes, freezes it, and applies the writes to a private view of it. A write stores
/// the complement of what the image holds there, so that the bytes that differ at the end are the bytes written, each
/// counted once, but for writes that store the same.
///
/// Pre:    the workload is valid; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- ENOMEM (address space), EMFILE; nothing is left behind.
/// Cost:   `memory_needed`; the writes are done twice, first to warm up.
[[nodiscard]] WorkloadRun run_workload(const Workload& workload, const RunOptions& options = {});

/// The most memory, in bytes, that `run_workload` takes: the image, the copies, page tables, and a bit for each byte of
/// the image, by which distinct bytes are counted.
[[nodiscard]] std::uint64_t memory_needed(const Workload& workload) noexcept;

}  // namespace vmcow::measure
