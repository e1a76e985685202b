#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/report/chart.hpp"
#include "vmcow/cli/report/report_input.hpp"

namespace vmcow::cli {

/// What a page shows of one document, by the document's kind.
/// Throws: std::invalid_argument that names the member -- a member of the document is not what it should be.
[[nodiscard]] Section section_of(const ReportInput& input);

[[nodiscard]] Section measure_section(const ReportJson& document);
[[nodiscard]] Section watch_section(const ReportJson& document);
[[nodiscard]] Section compare_section(const ReportJson& document);

/// Adds charts of "what_if": the amplification over the block size beside the model, and the bytes that a block size
/// costs in all.
void add_what_if(const ReportJson& document, Section& section);

/// Adds a table of "own_figures": what the program counts itself.
void add_own_figures(const ReportJson& document, Section& section);

/// Adds heat maps of where in its addresses a process has copies, and when: from "heat", or else from the mappings of
/// the samples.
void add_heat(const ReportJson& document, Section& section);

/// Adds a table of the mappings, those with the most copies first.
void add_mappings(const ReportJson& document, Section& section);

/// Adds a chart and a table of the functions that made copies, those with the most first.
void add_functions(const ReportJson& document, Section& section);

/// The name of a process in a legend: "redis-server 4711".
[[nodiscard]] std::string process_name(const ReportJson& sample);

/// `text` cut in the middle to about `most` bytes, which are columns if its letters are Latin. No character is split.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t most);

/// The figures of a document that a budget can limit.
[[nodiscard]] BudgetFigures spent_of(const MaybeNumber& copied_bytes, const MaybeNumber& amplification,
                                     const MaybeNumber& identical_share);

/// The number `key` of `object` as the cell of a table.
[[nodiscard]] std::string cell_of(const ReportJson& object, const char* key, Unit unit);

}  // namespace vmcow::cli
