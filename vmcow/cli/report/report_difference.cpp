// What sets several documents apart: their figures side by side, their lines in one chart.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "vmcow/cli/report/report_html.hpp"

namespace vmcow::cli {
namespace {

/// The figures of all sections, each name once, in the order in which the names first occur.
std::vector<Figure> all_figures(std::span<const Section> sections) {
    std::vector<Figure> all;
    for (const Section& section : sections) {
        for (const Figure& figure : section.figures) {
            const bool there =
                std::any_of(all.begin(), all.end(), [&](const Figure& known) { return known.name == figure.name; });
            if (!there) all.push_back(figure);
        }
    }
    return all;
}

MaybeNumber value_of(const Section& section, const std::string& name) {
    const auto found = std::find_if(section.figures.begin(), section.figures.end(),
                                    [&](const Figure& figure) { return figure.name == name; });
    return found == section.figures.end() ? std::nullopt : found->value;
}

std::string difference(const MaybeNumber& a, const MaybeNumber& b, Unit unit) {
    if (!a || !b) return "?";
    if (*a == *b) return "none";
    return (*b > *a ? "+" : "") + format_value(*b - *a, unit);
}

std::string factor(const MaybeNumber& a, const MaybeNumber& b) {
    if (!a || !b || *a <= 0 || *b < 0) return "?";
    return format_value(*b / *a, Unit::times);
}

/// With more columns for documents, a table is too wide to be read.
constexpr std::size_t kMostColumns = 4;

bool are_summed_up(std::span<const Section> sections) {
    return sections.size() > kMostColumns && std::all_of(sections.begin(), sections.end(), [](const Section& section) {
               return !section.summary.empty();
           });
}

/// A table with a row for each section. Sections of one kind have the same figures in their summaries.
Table summary_of(std::span<const ReportInput> inputs, std::span<const Section> sections) {
    Table table{
        .title = "All at a glance",
        .caption = "Each at its moment with the most copies, summed over its processes; shared memory counts in each.",
        .columns = {{"", true}},
        .rows = {}};
    for (const Figure& figure : sections.front().summary) table.columns.push_back({figure.name});
    for (std::size_t i = 0; i < sections.size(); ++i) {
        std::vector<std::string> row = {title_of(inputs[i])};
        for (const Figure& figure : sections[i].summary) row.push_back(format_value(figure.value, figure.unit));
        table.rows.push_back(std::move(row));
    }
    return table;
}

/// The bytes in the summaries that writes cost, as bars.
Chart summary_chart(std::span<const ReportInput> inputs, std::span<const Section> sections) {
    Chart chart{.title = "What writes cost",
                .caption = "Each at its moment with the most copies.",
                .x = {"", Unit::count},
                .y = {"", Unit::bytes},
                .series = {}};
    chart.wide = true;
    for (const ReportInput& input : inputs) chart.labels.push_back(title_of(input));
    for (const char* name : {"copied", "changed", "new"}) {
        Series series{.name = name, .points = {}};
        for (const Section& section : sections) {
            const auto found = std::find_if(section.summary.begin(), section.summary.end(),
                                            [&](const Figure& figure) { return figure.name == name; });
            series.points.push_back({.x = static_cast<double>(series.points.size()),
                                     .y = found == section.summary.end() ? std::nullopt : found->value});
        }
        chart.series.push_back(std::move(series));
    }
    return chart;
}

void add_series(const Chart& from, const std::string& name, Chart& to) {
    for (Series series : from.series) {
        series.name = series.name.empty() ? name : name + ": " + series.name;
        to.series.push_back(std::move(series));
    }
}

}  // namespace

Table comparison_of(std::span<const ReportInput> inputs, std::span<const Section> sections) {
    if (are_summed_up(sections)) return summary_of(inputs, sections);
    Table table{.title = inputs.size() == 2 ? "The difference" : "Side by side",
                .caption = "",
                .columns = {{"", true}},
                .rows = {}};
    for (const ReportInput& input : inputs) table.columns.push_back({title_of(input)});
    if (inputs.size() == 2) {
        table.columns.push_back({"difference"});
        table.columns.push_back({"factor"});
    }
    for (const Figure& figure : all_figures(sections)) {
        std::vector<std::string> row = {figure.name};
        std::vector<MaybeNumber> values;
        for (const Section& section : sections) {
            values.push_back(value_of(section, figure.name));
            row.push_back(format_value(values.back(), figure.unit));
        }
        if (std::none_of(values.begin(), values.end(), [](const MaybeNumber& value) { return value; })) continue;
        if (values.size() == 2) {
            row.push_back(difference(values[0], values[1], figure.unit));
            row.push_back(factor(values[0], values[1]));
        }
        table.rows.push_back(std::move(row));
    }
    return table;
}

std::vector<Chart> overlaid(std::span<const ReportInput> inputs, std::span<const Section> sections) {
    std::vector<Chart> charts;
    if (are_summed_up(sections)) charts.push_back(summary_chart(inputs, sections));
    for (std::size_t i = 0; i < sections.size(); ++i) {
        for (const Chart& overlay : sections[i].overlays) {
            auto found = std::find_if(charts.begin(), charts.end(),
                                      [&](const Chart& chart) { return chart.title == overlay.title; });
            if (found == charts.end()) {
                charts.push_back(overlay);
                charts.back().series.clear();
                charts.back().marked_x.reset();  // each document has its own
                found = std::prev(charts.end());
                if (overlay.marked_x) found->caption.clear();
            }
            add_series(overlay, title_of(inputs[i]), *found);
        }
    }
    return charts;
}

}  // namespace vmcow::cli
