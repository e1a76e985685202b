#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/chart.hpp"
#include "vmcow/cli/report_input.hpp"

namespace vmcow::cli {

/// What a page shows of one document, by its kind.
/// Throws: std::invalid_argument -- a member of the document is not what it should be, with its name.
[[nodiscard]] Section section_of(const ReportInput& input);

[[nodiscard]] Section measure_section(const ReportJson& document);
[[nodiscard]] Section watch_section(const ReportJson& document);
[[nodiscard]] Section compare_section(const ReportJson& document);

/// Charts of "what_if": amplification against the block size beside the model, and what it costs in all.
void add_what_if(const ReportJson& document, Section& section);

/// What the program says of itself: "own_figures".
void add_own_figures(const ReportJson& document, Section& section);

/// Where copies lie in the addresses of a process, and when: from "heat", or from the mappings of the samples.
void add_heat(const ReportJson& document, Section& section);

/// Tables of the mappings and of the functions that copied, the largest first.
void add_mappings(const ReportJson& document, Section& section);
void add_functions(const ReportJson& document, Section& section);

/// "redis-server 4711": how a process is called in a legend.
[[nodiscard]] std::string process_name(const ReportJson& sample);

/// `text` with at most `most` characters, as they are counted on a screen of Latin letters; cut in the middle.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t most);

/// What is held against a budget.
[[nodiscard]] BudgetFigures spent_of(const Value& copied_bytes, const Value& amplification,
                                     const Value& identical_share);

/// A value of a document as a table has it.
[[nodiscard]] std::string cell_of(const ReportJson& object, const char* key, Unit unit);

}  // namespace vmcow::cli
