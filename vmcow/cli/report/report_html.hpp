#pragma once

#include <optional>
#include <span>
#include <string>

#include "vmcow/cli/report/report_input.hpp"
#include "vmcow/cli/report/report_section.hpp"

namespace vmcow::cli {

/// A page that needs no other file, with figures, charts and tables of each document. Of several documents, which have
/// to be of one kind, the page first shows what sets them apart. An empty `title` becomes one from the documents.
/// Throws: std::invalid_argument that names the document -- the documents are of several kinds, or a member is not what
///         a document of its kind has.
[[nodiscard]] std::string report_html(std::span<const ReportInput> inputs, const std::string& title = "");

/// The heading above the section of one document among several.
[[nodiscard]] std::string heading_of(const ReportInput& input, const Section& section);

/// The section of each input, in order.
/// Throws: as `report_html`.
[[nodiscard]] std::vector<Section> sections_of(std::span<const ReportInput> inputs);

/// The figures of several sections side by side, with a column for each; of two sections also their difference. Many
/// sections with a summary have a row each instead.
[[nodiscard]] Table comparison_of(std::span<const ReportInput> inputs, std::span<const Section> sections);

/// The figures that the programs count themselves, of all sections; nullopt if there are none.
[[nodiscard]] std::optional<Table> own_figures_of(std::span<const ReportInput> inputs,
                                                  std::span<const Section> sections);

/// The overlays of several sections: a chart for each title, with the lines of all sections. Of many sections, a chart
/// of what each copied comes first.
[[nodiscard]] std::vector<Chart> overlaid(std::span<const ReportInput> inputs, std::span<const Section> sections);

}  // namespace vmcow::cli
