#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/report/report_section.hpp"

namespace vmcow::cli {
namespace {

struct Named {
    const char* key;
    const char* name;
};

constexpr double kPage = 4096;

std::string headline(const ReportJson& workload) {
    const MaybeNumber writes = number_of(workload, "writes");
    std::string line = fmt::format("{} write{} of {}", format_value(writes, Unit::count),
                                   writes && *writes == 1 ? "" : "s", cell_of(workload, "write_bytes", Unit::bytes));
    const std::string pattern = text_of(workload, "pattern");
    if (!pattern.empty()) line += ", " + pattern;
    return line + fmt::format(", into a private view of {}", cell_of(workload, "size_bytes", Unit::bytes));
}

MaybeNumber share_of(const MaybeNumber& part, const MaybeNumber& whole) {
    if (!part || !whole || *whole <= 0) return std::nullopt;
    return *part / *whole;
}

std::vector<Figure> figures(const ReportJson& document) {
    const ReportJson& expected = object_of(document, "expected");
    const MaybeNumber copied_pages = number_of(document, "copied_pages");
    std::vector<Figure> all = {
        {"written", Unit::bytes, number_of(document, "logical_bytes")},
        {"changed", Unit::bytes, number_of(document, "changed_bytes")},
        {"copied", Unit::bytes, number_of(document, "copied_bytes")},
        {"copied pages", Unit::count, copied_pages},
        {"the model expects", Unit::count, number_of(expected, "copied_pages")},
        {"σ of the model", Unit::count, number_of(expected, "sigma")},
        {"off the model, in σ", Unit::count, number_of(document, "residual_sigma")},
        {"identical of them", Unit::share, share_of(number_of(document, "identical_pages"), copied_pages)},
        {"amplification", Unit::times, number_of(document, "amplification")},
        {"page faults", Unit::count, number_of(document, "minor_faults")},
        {"page tables", Unit::bytes, number_of(document, "page_table_bytes")},
        {"resident", Unit::bytes, number_of(document, "resident_bytes")},
        {"time", Unit::seconds, number_of(document, "seconds")},
    };
    const MaybeNumber best = number_of(document, "best_block_bytes");
    if (best) all.push_back({"best block", Unit::bytes, best});
    return all;
}

Chart bars_of_bytes(const ReportJson& document) {
    Chart chart{.title = "What was written, and what it cost",
                .caption = "On a logarithmic axis.",
                .x = {},
                .y = {"bytes", Unit::bytes, true},
                .series = {Series{.name = "", .points = {}}}};
    for (const Named& bar : {Named{"logical_bytes", "written"}, Named{"distinct_bytes", "distinct"},
                             Named{"changed_bytes", "changed"}, Named{"copied_bytes", "copied"},
                             Named{"resident_bytes", "resident"}, Named{"page_table_bytes", "page tables"}}) {
        chart.series.front().points.push_back(
            {.x = static_cast<double>(chart.labels.size()), .y = number_of(document, bar.key)});
        chart.labels.emplace_back(bar.name);
    }
    return chart;
}

/// Adds a chart and a table of what each child, or each level, copied.
void add_bars(const std::vector<ReportJson>& entries, const std::string& title, const std::string& who,
              Section& section) {
    if (entries.empty()) return;
    constexpr std::size_t kMost = 64;
    Chart chart{.title = title, .caption = "", .x = {who, Unit::count}, .y = {"bytes", Unit::bytes}, .series = {}};
    if (entries.size() > kMost) {
        chart.caption = fmt::format("The first {} of {} are drawn; the table has all.", kMost, entries.size());
    }
    Table table{.title = title,
                .caption = "",
                .columns = {{who}, {"copied"}, {"pages"}, {"changed"}, {"identical pages"}, {"amplification"}},
                .rows = {}};
    Series copied{.name = "copied", .points = {}};
    Series changed{.name = "changed", .points = {}};
    for (const ReportJson& entry : entries) {
        const auto index = static_cast<double>(table.rows.size());
        const std::string label = fmt::format("{} {}", who, table.rows.size() + 1);
        if (table.rows.size() < kMost) {
            chart.labels.push_back(label);
            copied.points.push_back({.x = index, .y = number_of(entry, "copied_bytes")});
            changed.points.push_back({.x = index, .y = number_of(entry, "changed_bytes")});
        }
        table.rows.push_back({label, cell_of(entry, "copied_bytes", Unit::bytes),
                              cell_of(entry, "copied_pages", Unit::count), cell_of(entry, "changed_bytes", Unit::bytes),
                              cell_of(entry, "identical_pages", Unit::count),
                              cell_of(entry, "amplification", Unit::times)});
    }
    chart.series = {std::move(copied), std::move(changed)};
    section.charts.push_back(std::move(chart));
    section.tables.push_back(std::move(table));
}

double writes_of(const ReportJson& step) {
    const MaybeNumber writes = number_of(step, "writes");
    if (!writes || *writes <= 0) throw std::invalid_argument("'writes' is no count");
    return *writes;
}

Point model_point(const ReportJson& step) {
    const ReportJson& expected = object_of(step, "expected");
    const MaybeNumber pages = number_of(expected, "copied_pages");
    const MaybeNumber sigma = number_of(expected, "sigma");
    Point point{.x = writes_of(step), .y = pages ? MaybeNumber(*pages * kPage) : std::nullopt};
    if (pages && sigma) {
        point.low = std::max(*pages - *sigma, *pages / 1000) * kPage;
        point.high = (*pages + *sigma) * kPage;
    }
    return point;
}

void add_sweep(const ReportJson& document, Section& section) {
    std::vector<ReportJson> steps = objects_of(document, "sweep");
    if (steps.empty()) return;
    std::stable_sort(steps.begin(), steps.end(),
                     [](const ReportJson& a, const ReportJson& b) { return writes_of(a) < writes_of(b); });
    Chart bytes{.title = "Copied bytes against the number of writes",
                .caption = "",
                .x = {"writes", Unit::count, true},
                .y = {"bytes", Unit::bytes, true},
                .series = {}};
    Chart amplification{.title = "Amplification against the number of writes",
                        .caption = "",
                        .x = {"writes", Unit::count, true},
                        .y = {"bytes copied for each byte written", Unit::times, true},
                        .series = {}};
    Series copied{.name = "copied", .points = {}};
    Series changed{.name = "changed", .points = {}};
    Series model{.name = "model ± 1 σ", .points = {}, .style = SeriesStyle::model};
    Series factor{.name = "measured", .points = {}};
    for (const ReportJson& step : steps) {
        const double writes = writes_of(step);
        copied.points.push_back({.x = writes, .y = number_of(step, "copied_bytes")});
        changed.points.push_back({.x = writes, .y = number_of(step, "changed_bytes")});
        factor.points.push_back({.x = writes, .y = number_of(step, "amplification")});
        model.points.push_back(model_point(step));
    }
    bytes.series = {std::move(copied), std::move(changed), std::move(model)};
    amplification.series = {std::move(factor)};
    for (Chart* chart : {&bytes, &amplification}) {
        section.overlays.push_back(*chart);
        section.charts.push_back(std::move(*chart));
    }
}

}  // namespace

Section measure_section(const ReportJson& document) {
    Section section;
    const ReportJson& workload = object_of(document, "workload");
    section.title = headline(workload);
    section.figures = figures(document);
    section.spent = spent_of(number_of(document, "copied_bytes"), number_of(document, "amplification"),
                             share_of(number_of(document, "identical_pages"), number_of(document, "copied_pages")));
    section.verdict =
        fmt::format("{} copied for {} written: {} pages, where the model expects {} ± {}.",
                    cell_of(document, "copied_bytes", Unit::bytes), cell_of(document, "logical_bytes", Unit::bytes),
                    cell_of(document, "copied_pages", Unit::count),
                    cell_of(object_of(document, "expected"), "copied_pages", Unit::count),
                    cell_of(object_of(document, "expected"), "sigma", Unit::count));
    add_what_if(document, section);
    add_sweep(document, section);
    section.charts.push_back(bars_of_bytes(document));
    section.overlays.push_back(section.charts.back());
    add_bars(objects_of(document, "children"), "What each child copied", "child", section);
    add_bars(objects_of(document, "levels"), "What each level copied", "level", section);
    return section;
}

}  // namespace vmcow::cli
