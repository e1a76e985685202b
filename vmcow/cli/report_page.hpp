#pragma once

#include <span>
#include <string>

#include "vmcow/cli/report_input.hpp"
#include "vmcow/cli/report_section.hpp"

namespace vmcow::cli {

/// One page that needs nothing but itself: figures, charts and tables of each document; of several, which are of one
/// kind, first what sets them apart.
/// Throws: std::invalid_argument -- the documents are of several kinds, or one is not what its kind has; with its name.
[[nodiscard]] std::string report_page(std::span<const ReportInput> inputs);

/// The section of each input, in order.
/// Throws: as report_page.
[[nodiscard]] std::vector<Section> sections_of(std::span<const ReportInput> inputs);

/// The figures of several sections beside each other; of two, with their difference.
[[nodiscard]] Table comparison_of(std::span<const ReportInput> inputs, std::span<const Section> sections);

/// The charts that several sections have, each drawn once with the lines of all.
[[nodiscard]] std::vector<Chart> overlaid(std::span<const ReportInput> inputs, std::span<const Section> sections);

}  // namespace vmcow::cli
