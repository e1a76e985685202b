#include "vmcow/meter/run/run_workload.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "vmcow/units.hpp"
#include "vmcow/view.hpp"

namespace vmcow::meter {
namespace {

/// At least as many pages as the writes can touch, at most all pages of the image.
std::uint64_t most_copies(const Workload& workload, std::uint64_t pages) noexcept {
    if (workload.pattern == Pattern::trace) {
        return std::min(workload.logical_bytes() / kPageBytes + 2 * workload.writes, pages);
    }
    const std::uint64_t pages_a_write = (workload.write_bytes - 1) / kPageBytes + 2;
    return workload.writes < pages / pages_a_write ? workload.writes * pages_a_write : pages;
}

}  // namespace

WorkloadRun run_workload(const Workload& workload, const WrittenImage& image, sys::PageScanMethod page_scan) {
    View view = image.snapshot.map_private();
    const std::uint64_t distinct = count_distinct(workload);
    warm_up(workload, image.snapshot.map_private());
    WorkloadRun run{run_in_view(workload, view, page_scan), page_scan, image.pages};
    run.figures.distinct_bytes = distinct;
    run.expected = expect_copied(workload);
    return run;
}

WorkloadRun run_workload(const Workload& workload, const RunOptions& options) {
    return run_workload(workload, make_image(workload, options.pages), options.page_scan);
}

std::uint64_t memory_needed(const Workload& workload, std::uint64_t views) noexcept {
    const std::uint64_t pages = pages_of(workload.size_bytes).value;
    const std::uint64_t copies = most_copies(workload, pages);
    // Eight bytes a page: in the page tables of two mappings of the image and of each view, and in the model.
    constexpr std::uint64_t kEntryBytes = 8;
    const std::uint64_t image_bytes = round_up(workload.size_bytes, kHugeBytes);
    const std::uint64_t shared_bytes = image_bytes + workload.size_bytes / 8 + 3 * pages * kEntryBytes;
    const std::uint64_t view_bytes = copies * kPageBytes + pages * kEntryBytes;
    if (views > (std::numeric_limits<std::uint64_t>::max() - shared_bytes) / view_bytes) {
        return std::numeric_limits<std::uint64_t>::max();
    }
    return shared_bytes + views * view_bytes;
}

}  // namespace vmcow::meter
