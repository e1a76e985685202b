#include "vmcow/meter/run/run_view.hpp"

#include <algorithm>
#include <cmath>

#include "vmcow/meter/run/written_image.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {
namespace {

std::optional<std::uint64_t> page_table_bytes() { return sys::read_proc_bytes("/proc/self/status", "VmPTE"); }

BlockCounts changed_blocks(const View& view, sys::PageScanMethod page_scan) {
    ChangedBlocks blocks;
    const Snapshot before = view.snapshot();
    for (const PageRun& run : view.copied_runs(page_scan)) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            blocks.add_page(page.byte_offset(), view.bytes().data() + page.byte_offset(), before.page(page));
        }
    }
    return blocks.counts();
}

template <class Count>
void add(std::optional<Count>& sum, const std::optional<Count>& other) noexcept {
    sum = sum && other ? std::optional(*sum + *other) : std::nullopt;
}

}  // namespace

ViewRun& ViewRun::operator+=(const ViewRun& other) noexcept {
    add(figures.logical_bytes, other.figures.logical_bytes);
    add(figures.distinct_bytes, other.figures.distinct_bytes);
    add(figures.changed_bytes, other.figures.changed_bytes);
    figures.copied += other.figures.copied;
    add(figures.identical, other.figures.identical);
    add(figures.page_table_bytes, other.figures.page_table_bytes);
    add(figures.resident_bytes, other.figures.resident_bytes);
    expected.blocks += other.expected.blocks;
    expected.sigma = expected.sigma && other.expected.sigma
                         ? std::optional(std::hypot(*expected.sigma, *other.expected.sigma))
                         : std::nullopt;
    blocks += other.blocks;
    anonymous_bytes += other.anonymous_bytes;
    minor_faults += other.minor_faults;
    seconds = std::max(seconds, other.seconds);
    return *this;
}

ViewRun run_in_view(const Workload& workload, View& view, sys::PageScanMethod page_scan, std::uint8_t mark) {
    VMCOW_ASSERT(workload.size_bytes <= view.bytes().size() && "writes past the end of the image");
    ViewRun run;
    const std::optional<std::uint64_t> tables_before = page_table_bytes();
    const TimedWrites timed = apply(workload, view.bytes().data(), mark);
    const std::optional<std::uint64_t> tables_after = page_table_bytes();
    run.minor_faults = timed.minor_faults;
    run.seconds = timed.seconds;

    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes().data());
    const sys::SmapsTotals smaps = sys::read_smaps(address, round_up(view.bytes().size(), kPageBytes));
    run.anonymous_bytes = smaps.anonymous_bytes;
    run.figures.resident_bytes = smaps.resident_bytes;
    if (tables_before && tables_after && *tables_after >= *tables_before) {
        run.figures.page_table_bytes = *tables_after - *tables_before;
    }
    const PageChanges changes = view.changes(page_scan);
    VMCOW_ASSERT(changes.identical <= changes.copied && "I6: an identical page that was not copied");
    run.figures.logical_bytes = workload.logical_bytes();
    run.figures.changed_bytes = changes.changed_bytes;
    run.figures.copied = changes.copied;
    run.figures.identical = changes.identical;
    run.blocks = changed_blocks(view, page_scan);
    return run;
}

}  // namespace vmcow::meter
