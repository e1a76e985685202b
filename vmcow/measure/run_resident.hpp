#pragma once

#include <cstdint>

#include "vmcow/measure/workload.hpp"
#include "vmcow/measure/written_image.hpp"
#include "vmcow/resident_view.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace vmcow::measure {

/// One call over a view whose pages stay from call to call.
struct ResidentCall {
    Preparation preparation = Preparation::clean;
    PageCount copied;     ///< by the kernel, in faults
    PageCount changed;    ///< differ from the image at the end
    PageCount refreshed;  ///< of these, copied from the image again afterwards
    std::uint64_t minor_faults = 0;
    double seconds = 0;          ///< of the writes
    double restore_seconds = 0;  ///< of what the view then does to hold the image again
};

/// The same writes twice: the first call takes the faults, the second one finds its pages there, if that paid.
struct ResidentRun {
    ResidentCall first;
    ResidentCall again;
    PageCount resident;  ///< the view has them to itself at the end

    /// Faults that the second call was spared.
    [[nodiscard]] std::uint64_t faults_saved() const noexcept {
        return first.minor_faults > again.minor_faults ? first.minor_faults - again.minor_faults : 0;
    }
};

/// Pre:    the workload is valid for the image; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
[[nodiscard]] ResidentRun run_resident(const Workload& workload, const WrittenImage& image,
                                       sys::PageScanMethod page_scan);

}  // namespace vmcow::measure
