#include "vmcow/meter/run/run_resident.hpp"

#include <chrono>
#include <utility>

#include "vmcow/image/copy_costs.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::meter {
namespace {

ResidentCall call(const Workload& workload, ResidentView& view, const Snapshot& image,
                  const sys::PageScanner& scanner) {
    ResidentCall call;
    call.preparation = view.prepare(image, false);
    const TimedWrites timed = apply(workload, view.bytes().data());
    call.minor_faults = timed.minor_faults;
    call.seconds = timed.seconds;
    view.find_changes(scanner, timed.minor_faults > 0);
    call.copied = view.copied();
    call.changed = PageCount{view.changed().size()};
    static_cast<void>(view.take_refreshed());  // leaves out the pages that `prepare` refreshed
    const auto start = std::chrono::steady_clock::now();
    view.restore();
    call.restore_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    call.refreshed = view.take_refreshed();
    return call;
}

}  // namespace

ResidentRun run_resident(const Workload& workload, const WrittenImage& image, sys::PageScanMethod page_scan) {
    const Snapshot& snapshot = image.snapshot;
    warm_up(workload, snapshot.map_private());
    const sys::PageScanner scanner(page_scan);
    // The budget is the whole image, so that the view decides by cost alone.
    ResidentView view(snapshot, Slot::reserve(snapshot.layers()->mapped_bytes()), CopyCosts::measure(),
                      snapshot.page_count());
    ResidentRun run;
    run.first = call(workload, view, snapshot, scanner);
    run.again = call(workload, view, snapshot, scanner);
    run.resident = view.resident();
    return run;
}

}  // namespace vmcow::meter
