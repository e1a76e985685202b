// What a program counts itself, beside what was counted from outside.
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "vmcow/cli/report/report_html.hpp"

namespace vmcow::cli {
namespace {

/// How far our figure is from the program's, in percent of the program's.
std::string deviation(const OwnFigure& figure) {
    if (!figure.theirs || !figure.ours || *figure.theirs <= 0) return "?";
    return fmt::format("{:+.1f} %", 100 * (*figure.ours - *figure.theirs) / *figure.theirs);
}

std::vector<std::string> cells_of(const OwnFigure& figure) {
    return {figure.name, format_value(figure.theirs, Unit::bytes), format_value(figure.ours, Unit::bytes),
            deviation(figure)};
}

}  // namespace

void add_own_figures(const ReportJson& document, Section& section) {
    for (const ReportJson& entry : objects_of(document, "own_figures")) {
        section.own_figures.push_back({.name = text_of(entry, "name"),
                                       .theirs = number_of(entry, "theirs_bytes"),
                                       .ours = number_of(entry, "ours_bytes"),
                                       .note = text_of(entry, "note")});
        if (section.own_figures.back().name.empty()) {
            throw std::invalid_argument("'own_figures' has one without a 'name'");
        }
    }
    if (section.own_figures.empty()) return;
    Table table{.title = "What the program counts itself",
                .caption = "Beside what was counted of it from outside.",
                .columns = {{"figure", true}, {"the program's"}, {"counted here"}, {"difference"}, {"why", true}},
                .rows = {}};
    for (const OwnFigure& figure : section.own_figures) {
        table.rows.push_back(cells_of(figure));
        table.rows.back().push_back(figure.note);
    }
    section.tables.insert(section.tables.begin(), std::move(table));
}

std::optional<Table> own_figures_of(std::span<const ReportInput> inputs, std::span<const Section> sections) {
    Table table{.title = "What the programs count themselves",
                .caption = "Beside what was counted of them from outside; why they differ stands with each.",
                .columns = {{"", true}, {"figure", true}, {"the program's"}, {"counted here"}, {"difference"}},
                .rows = {}};
    for (std::size_t i = 0; i < sections.size(); ++i) {
        for (const OwnFigure& figure : sections[i].own_figures) {
            table.rows.push_back(cells_of(figure));
            table.rows.back().insert(table.rows.back().begin(), title_of(inputs[i]));
        }
    }
    return table.rows.empty() ? std::nullopt : std::optional(std::move(table));
}

}  // namespace vmcow::cli
