#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/cli/measure_options.hpp"
#include "vmcow/measure/run_levels.hpp"
#include "vmcow/measure/run_resident.hpp"
#include "vmcow/measure/view_run.hpp"
#include "vmcow/measure/what_if.hpp"

namespace vmcow::cli {

/// All that a measurement has found.
struct MeasureResult {
    measure::ViewRun total;  ///< of the view; of all children or levels together; of the last run of several
    std::optional<double> residual;
    std::vector<measure::ViewRun> children;  ///< of --children
    std::vector<measure::LevelRun> levels;   ///< of --levels
    std::vector<measure::ViewRun> sweep;     ///< of several --writes
    std::optional<measure::ResidentRun> resident;
    measure::WhatIf what_if;
    sys::PageScanMethod page_scan = sys::PageScanMethod::pagemap_bits;
    ImagePages image;
    std::vector<std::string> notes;  ///< each slower path that was taken, and why (I8)

    /// 2 MiB only if every 2 MiB of the image got such a page.
    [[nodiscard]] std::size_t image_page_bytes() const noexcept;
    /// The image, once, all copies and their page tables; unknown while those are.
    [[nodiscard]] std::optional<std::uint64_t> memory_bytes() const noexcept;
    /// The largest of each, if there are several runs.
    [[nodiscard]] std::vector<BudgetFigures> figures() const;
};

/// Measures. Pre: the options are complete.
/// Throws: Failure -- ExitCode::missing_facility without the page scan or the huge pages that were asked for;
///         ExitCode::failure when there is not enough memory, before anything is made.
[[nodiscard]] MeasureResult run_measure(const MeasureOptions& options);

/// What a preparation of a resident view means.
[[nodiscard]] const char* describe(Preparation preparation) noexcept;

}  // namespace vmcow::cli
