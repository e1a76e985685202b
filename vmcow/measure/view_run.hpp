#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/measure/meter.hpp"
#include "vmcow/measure/model.hpp"
#include "vmcow/measure/what_if.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/view.hpp"

namespace vmcow::measure {

/// What a workload did to one private view, counted in four ways that must agree: the page scan (`meter.copied`), the
/// kernel's `Anonymous:` of the view, the faults while it ran, and, up to chance, the model.
struct ViewRun {
    Meter meter;
    Expectation expected;
    BlockCounts blocks;                 ///< that hold changed bytes, by their size
    std::uint64_t anonymous_bytes = 0;  ///< of the view, by /proc/self/smaps
    std::uint64_t minor_faults = 0;     ///< while the writes ran
    double seconds = 0;                 ///< of the writes alone

    /// The residual of the pages copied against the model.
    [[nodiscard]] std::optional<double> residual() const noexcept {
        return residual_sigma(expected, meter.copied.value);
    }
    /// Adds another view's run: what is unknown in one of them is unknown in both. Their writes are taken to be
    /// independent of each other, and to run at the same time.
    ViewRun& operator+=(const ViewRun& other) noexcept;
};

/// Applies the writes to a fresh view and counts what that did. Without the distinct bytes and the model, which can be
/// had without running anything.
///
/// Pre:    the workload is valid for the image; it was warmed up; no other thread takes page faults meanwhile.
/// Throws: std::system_error -- EMFILE.
[[nodiscard]] ViewRun run_in_view(const Workload& workload, View& view, sys::PageScanMethod page_scan,
                                  std::uint8_t mark = 0xff);

}  // namespace vmcow::measure
