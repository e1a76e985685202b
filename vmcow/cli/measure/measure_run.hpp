#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/cli/measure/measure_options.hpp"
#include "vmcow/meter/model/what_if.hpp"
#include "vmcow/meter/run/run_levels.hpp"
#include "vmcow/meter/run/run_resident.hpp"
#include "vmcow/meter/run/run_view.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow::cli {

/// The result of a measurement.
struct MeasureResult {
    meter::ViewRun total;  ///< the view; or all children or levels together; or the last of several runs
    std::optional<double> residual;
    std::vector<meter::ViewRun> children;  ///< of --children
    std::vector<meter::LevelRun> levels;   ///< of --levels
    std::vector<meter::ViewRun> sweep;     ///< of several --writes
    std::optional<meter::ResidentRun> resident;
    meter::WhatIf what_if;
    sys::PageScanMethod page_scan = sys::PageScanMethod::pagemap_bits;
    ImagePages image;
    std::vector<std::string> notes;  ///< each slower path that was taken, and why (I8)

    /// 2 MiB only if every 2 MiB of the image got such a page.
    [[nodiscard]] std::size_t image_page_bytes() const noexcept;
    /// The image, counted once, all copies and their page tables; nullopt if the page tables are unknown.
    [[nodiscard]] std::optional<std::uint64_t> memory_bytes() const noexcept;
    /// What a budget limits, of each run.
    [[nodiscard]] std::vector<BudgetFigures> figures() const;
};

/// Runs the measurement.
/// Pre:    `complete` was called on the options.
/// Throws: Failure -- ExitCode::missing_facility without the page scan or the huge pages that were asked for;
///         ExitCode::failure if there is too little memory, before the image is made.
[[nodiscard]] MeasureResult run_measure(const MeasureOptions& options);

/// A preparation of a resident view, in words.
[[nodiscard]] const char* describe(Preparation preparation) noexcept;

}  // namespace vmcow::cli
