#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmcow/measure/view_run.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/measure/written_image.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace vmcow::measure {

/// What a call within a call copies: its argument is what the caller's view holds.
struct LevelRun {
    ViewRun run;
    PageCount placed;          ///< copied into the view when it was mapped, from short runs of the levels before
    PageCount placed_written;  ///< of these, pages that were then written to: they cost no fault

    /// The pages written to, which is what the model expects, each of them copied or placed.
    [[nodiscard]] PageCount written() const noexcept { return run.meter.copied + placed_written; }
    [[nodiscard]] std::optional<double> residual() const noexcept {
        return residual_sigma(run.expected, written().value);
    }
};

/// Each level works on a private view of what the level before holds, captured, and all views are there at the end, as
/// they are while the innermost function runs:
///
///     image → view 1, written to → capture → view 2, written to → capture → view 3 …
///
/// Each level has another seed, and writes bytes that no level before it has written.
///
/// Pre:    the workload is valid for the image; 0 < levels <= kMaxLevels; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
[[nodiscard]] std::vector<LevelRun> run_levels(const Workload& workload, std::uint64_t levels,
                                               const WrittenImage& image, sys::PageScanMethod page_scan);

inline constexpr std::uint64_t kMaxLevels = 64;

/// So many views' worth of memory, as `memory_needed` takes it, is never exceeded.
[[nodiscard]] constexpr std::uint64_t views_of_levels(std::uint64_t levels) {
    // A level has what it copies, a delta of that, and placed pages of each level before.
    return levels * (levels + 3) / 2;
}

}  // namespace vmcow::measure
