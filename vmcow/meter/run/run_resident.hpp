#pragma once

#include <cstdint>

#include "vmcow/image/resident_view.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/meter/run/written_image.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// One call on a view whose pages stay from call to call.
struct ResidentCall {
    Preparation preparation = Preparation::clean;
    PageCount copied;     ///< pages that the kernel copied in faults
    PageCount changed;    ///< pages that differ from the image at the end
    PageCount refreshed;  ///< changed pages that were copied from the image again afterwards
    std::uint64_t minor_faults = 0;
    double seconds = 0;          ///< time of the writes
    double restore_seconds = 0;  ///< time in which the view then restores the image
};

/// Two calls with the same writes. The first takes the faults; the second finds its pages in place, if that paid.
struct ResidentRun {
    ResidentCall first;
    ResidentCall again;
    PageCount resident;  ///< pages that are private to the view at the end

    /// Faults that the second call was spared.
    [[nodiscard]] std::uint64_t faults_saved() const noexcept {
        return first.minor_faults > again.minor_faults ? first.minor_faults - again.minor_faults : 0;
    }
};

/// Runs a workload twice on one view whose pages stay.
///
/// Pre:    the workload is valid for the image; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
[[nodiscard]] ResidentRun run_resident(const Workload& workload, const WrittenImage& image,
                                       sys::PageScanMethod page_scan);

}  // namespace vmcow::meter
