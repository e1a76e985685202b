#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmcow/meter/model/workload.hpp"
#include "vmcow/meter/run/run_view.hpp"
#include "vmcow/meter/run/written_image.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// What one level of nested calls copies. The argument of a level is what the view of its caller holds.
struct LevelRun {
    ViewRun run;
    PageCount placed;          ///< pages copied into the view when it was mapped, from short runs of earlier levels
    PageCount placed_written;  ///< placed pages that were then written to: they cost no fault

    /// The pages written to, each of them copied or placed. The model expects this number.
    [[nodiscard]] PageCount written() const noexcept { return run.figures.copied + placed_written; }
    [[nodiscard]] std::optional<double> residual() const noexcept {
        return residual_sigma(run.expected, written().value);
    }
};

/// Runs a workload on several levels. Each level works on a private view of a snapshot captured from the level before.
/// All views exist at the end, as they do while the innermost function runs:
///
///     image → view 1, written to → capture → view 2, written to → capture → view 3 …
///
/// Each level has another seed, and stores bytes that no earlier level has stored.
///
/// Pre:    the workload is valid for the image; 0 < levels <= kMaxLevels; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
[[nodiscard]] std::vector<LevelRun> run_levels(const Workload& workload, std::uint64_t levels,
                                               const WrittenImage& image, sys::PageScanMethod page_scan);

inline constexpr std::uint64_t kMaxLevels = 64;

/// The number of views to pass to `memory_needed`, so that `levels` levels never take more memory.
[[nodiscard]] constexpr std::uint64_t views_of_levels(std::uint64_t levels) {
    // A level holds its copies, a delta of them, and placed pages of each earlier level.
    return levels * (levels + 3) / 2;
}

}  // namespace vmcow::meter
