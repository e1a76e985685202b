#pragma once

#include <optional>
#include <span>
#include <string>

#include "vmcow/cli/report_input.hpp"
#include "vmcow/cli/report_section.hpp"

namespace vmcow::cli {

/// One page that needs nothing but itself: figures, charts and tables of each document; of several, which are of one
/// kind, first what sets them apart. `title` is the page's; where it is empty, what the documents are called.
/// Throws: std::invalid_argument -- the documents are of several kinds, or one is not what its kind has; with its name.
[[nodiscard]] std::string report_page(std::span<const ReportInput> inputs, const std::string& title = "");

/// What stands above the section of one of several documents.
[[nodiscard]] std::string heading_of(const ReportInput& input, const Section& section);

/// The section of each input, in order.
/// Throws: as report_page.
[[nodiscard]] std::vector<Section> sections_of(std::span<const ReportInput> inputs);

/// The figures of several sections beside each other: a column for each; of two, with their difference; of many that
/// have a summary, a row for each.
[[nodiscard]] Table comparison_of(std::span<const ReportInput> inputs, std::span<const Section> sections);

/// What the programs say of themselves, of all sections; nothing where none does.
[[nodiscard]] std::optional<Table> own_figures_of(std::span<const ReportInput> inputs,
                                                  std::span<const Section> sections);

/// The charts that several sections have, each drawn once with the lines of all; of many, first what each copied.
[[nodiscard]] std::vector<Chart> overlaid(std::span<const ReportInput> inputs, std::span<const Section> sections);

}  // namespace vmcow::cli
