#include "vmcow/meter/run/run_levels.hpp"

#include "vmcow/image/layers.hpp"
#include "vmcow/meter/model/index_set.hpp"
#include "vmcow/meter/run/run_children.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::meter {
namespace {

PageCount count_placed_written(const Workload& workload, const std::vector<PageRun>& placed) {
    if (placed.empty()) return {};
    IndexSet unplaced(pages_of(workload.size_bytes).value);
    unplaced.add(0, pages_of(workload.size_bytes).value);
    for (const PageRun& run : placed) unplaced.remove(run.first.value, run.count.value);
    PageCount written;
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        const PageIndex first = page_at(write.offset);
        // Adding the written pages makes them unplaced, so that each placed page counts once.
        written +=
            PageCount{unplaced.add(first.value, page_at(write.offset + write.bytes - 1).value - first.value + 1)};
    }
    return written;
}

}  // namespace

std::vector<LevelRun> run_levels(const Workload& workload, std::uint64_t levels, const WrittenImage& image,
                                 sys::PageScanMethod page_scan) {
    VMCOW_ASSERT(levels > 0 && levels <= kMaxLevels);
    std::vector<LevelRun> runs;
    std::vector<View> views;
    Snapshot argument = image.snapshot;
    const Expectation expected = expect_copied(workload);
    for (std::uint64_t level = 0; level < levels; ++level) {
        const Workload own = workload_of_child(workload, level);
        const std::vector<PageRun> placed = argument.layers()->placed();
        warm_up(own, argument.map_private());
        views.push_back(argument.map_private());
        LevelRun run{run_in_view(own, views.back(), page_scan, static_cast<std::uint8_t>(0xff - level)),
                     sys::total_pages(placed), count_placed_written(own, placed)};
        run.run.figures.distinct_bytes = count_distinct(own);
        run.run.expected = expected;
        runs.push_back(run);
        if (level + 1 < levels) argument = views.back().capture();
    }
    return runs;
}

}  // namespace vmcow::meter
