#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/meter/model/copy_figures.hpp"
#include "vmcow/meter/model/expectation.hpp"
#include "vmcow/meter/model/model.hpp"
#include "vmcow/meter/model/what_if.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/view.hpp"

namespace vmcow::meter {

/// What a workload did to one private view, counted in four ways that must agree: the page scan (`figures.copied`), the
/// kernel's `Anonymous:` of the view, the faults while it ran, and, up to chance, the model.
struct ViewRun {
    CopyFigures figures;
    Expectation expected;
    BlockCounts blocks;                 ///< blocks that hold changed bytes, by size
    std::uint64_t anonymous_bytes = 0;  ///< of the view, by /proc/self/smaps
    std::uint64_t minor_faults = 0;     ///< while the writes ran
    double seconds = 0;                 ///< of the writes alone

    /// The residual of the pages copied against the model.
    [[nodiscard]] std::optional<double> residual() const noexcept {
        return residual_sigma(expected, figures.copied.value);
    }
    /// Adds another view's run. A figure that is unknown in one of the two is unknown in the sum. The writes of the two
    /// are taken to be independent of each other, and to run at the same time.
    ViewRun& operator+=(const ViewRun& other) noexcept;
};

/// Applies the writes to a fresh view and counts what they did. The distinct bytes and the model's expectation are
/// left out: they can be computed without a run.
///
/// Pre:    the workload is valid for the image; `warm_up` was called; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE.
[[nodiscard]] ViewRun run_in_view(const Workload& workload, View& view, sys::PageScanMethod page_scan,
                                  std::uint8_t mark = 0xff);

}  // namespace vmcow::meter
