#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/report/report_section.hpp"

namespace vmcow::cli {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kNanosecond = 1e-9;

struct Quantity {
    const char* key;
    const char* name;
    Unit unit;
    double scale = 1;
};

constexpr std::array<Quantity, 8> kQuantities = {{{"build_seconds", "build", Unit::seconds},
                                                  {"read_ns", "a read", Unit::seconds, kNanosecond},
                                                  {"write_ns", "a write", Unit::seconds, kNanosecond},
                                                  {"hand_over_seconds", "hand over", Unit::seconds},
                                                  {"memory_before_bytes", "memory before", Unit::bytes},
                                                  {"memory_after_bytes", "memory after", Unit::bytes},
                                                  {"copied_bytes", "copied", Unit::bytes},
                                                  {"amplification", "amplification", Unit::times}}};

MaybeNumber scaled(const ReportJson& engine, const Quantity& quantity) {
    const MaybeNumber value = number_of(engine, quantity.key);
    return value ? MaybeNumber(*value * quantity.scale) : std::nullopt;
}

const Quantity& quantity_of(std::string_view key) {
    return *std::find_if(kQuantities.begin(), kQuantities.end(),
                         [&](const Quantity& quantity) { return quantity.key == key; });
}

std::string engine_name(const ReportJson& engine) {
    const std::string name = text_of(engine, "name");
    return name.empty() ? "?" : name;
}

/// Adds a chart with a group of bars for each engine, and in it a bar for each of `keys`. Adds none if all is unknown.
void add_bars(const std::vector<ReportJson>& engines, Chart chart, const std::vector<std::string_view>& keys,
              Section& section) {
    bool any = false;
    for (const std::string_view key : keys) {
        const Quantity& quantity = quantity_of(key);
        Series series{.name = quantity.name, .points = {}};
        for (const ReportJson& engine : engines) {
            series.points.push_back({.x = static_cast<double>(series.points.size()), .y = scaled(engine, quantity)});
            any = any || series.points.back().y;
        }
        chart.series.push_back(std::move(series));
    }
    if (!any) return;
    for (const ReportJson& engine : engines) chart.labels.push_back(engine_name(engine));
    section.charts.push_back(std::move(chart));
}

void add_table(const std::vector<ReportJson>& engines, Section& section) {
    Table table{.title = "Engines", .caption = "", .columns = {{"engine", true}}, .rows = {}};
    for (const Quantity& quantity : kQuantities) table.columns.push_back({quantity.name});
    for (const ReportJson& engine : engines) {
        std::vector<std::string> row = {engine_name(engine)};
        for (const Quantity& quantity : kQuantities)
            row.push_back(format_value(scaled(engine, quantity), quantity.unit));
        table.rows.push_back(std::move(row));
    }
    section.tables.push_back(std::move(table));
}

/// What each engine costs over the number of writes: lines cross where one engine overtakes another.
class Crossover {
public:
    Crossover(std::string title, std::string caption, Axis x, Axis y) {
        chart_.title = std::move(title);
        chart_.caption = std::move(caption);
        chart_.x = std::move(x);
        chart_.y = std::move(y);
    }

    void add(const ReportJson& engine_json, double x, const MaybeNumber& y) {
        const std::string engine = engine_name(engine_json);
        auto found = std::find_if(chart_.series.begin(), chart_.series.end(),
                                  [&](const Series& series) { return series.name == engine; });
        if (found == chart_.series.end()) {
            const auto peer = engine_json.find("peer");
            const bool is_peer = peer != engine_json.end() && *peer == true;
            chart_.series.push_back(
                {.name = engine, .points = {}, .style = is_peer ? SeriesStyle::peer : SeriesStyle::line});
            found = std::prev(chart_.series.end());
        }
        found->points.push_back({.x = x, .y = y});
    }

    [[nodiscard]] Chart take() && {
        std::string peers;
        for (const Series& series : chart_.series) {
            if (series.style == SeriesStyle::peer) peers += (peers.empty() ? "" : ", ") + series.name;
        }
        if (!peers.empty()) chart_.caption += " In other languages: " + peers + ".";
        for (Series& series : chart_.series) {
            std::stable_sort(series.points.begin(), series.points.end(),
                             [](const Point& a, const Point& b) { return a.x < b.x; });
        }
        shade_blocks();
        return std::move(chart_);
    }

private:
    /// Gives the lines of block trees shades of one colour: they are one kind of engine in many sizes.
    void shade_blocks() {
        std::vector<Series*> blocks;
        for (Series& series : chart_.series) {
            if (series.name.starts_with("block-")) blocks.push_back(&series);
        }
        if (blocks.size() < 3) return;
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            blocks[i]->shade = static_cast<double>(i) / static_cast<double>(blocks.size() - 1);
        }
    }

    Chart chart_;
};

void add_crossover(const ReportJson& document, Section& section) {
    const std::vector<ReportJson>& steps = objects_of(document, "crossover");
    if (steps.empty()) return;
    const MaybeNumber size = number_of(object_of(document, "workload"), "size_bytes");
    const double to_gib = size && *size > 0 ? kGiB / *size : 1;
    const std::string writes = size && *size > 0 ? "writes per GiB" : "writes";
    Crossover memory("Writes against memory in all", "Of the value and of all that the children have in the end.",
                     {writes, Unit::count, true}, {"memory", Unit::bytes, true});
    Crossover time("Writes against time in all", "Handing the value over and writing to it, for all children.",
                   {writes, Unit::count, true}, {"time", Unit::seconds, true});
    for (const ReportJson& step : steps) {
        const MaybeNumber count = number_of(step, "writes");
        if (!count || *count <= 0) throw std::invalid_argument("'writes' is no count");
        for (const ReportJson& engine : objects_of(step, "engines")) {
            memory.add(engine, *count * to_gib, number_of(engine, "total_memory_bytes"));
            time.add(engine, *count * to_gib, number_of(engine, "total_seconds"));
        }
    }
    for (Crossover* crossover : {&memory, &time}) {
        section.charts.push_back(std::move(*crossover).take());
        section.overlays.push_back(section.charts.back());
    }
}

std::string headline(const ReportJson& document, std::size_t engines) {
    const ReportJson& workload = object_of(document, "workload");
    std::string title = fmt::format("{} engines", engines);
    if (number_of(workload, "size_bytes")) title += " with " + cell_of(workload, "size_bytes", Unit::bytes);
    if (number_of(workload, "writes")) title += ", " + cell_of(workload, "writes", Unit::count) + " writes";
    if (number_of(workload, "write_bytes").value_or(0) > 0)
        title += " of " + cell_of(workload, "write_bytes", Unit::bytes);
    const std::string pattern = text_of(workload, "pattern");
    if (!pattern.empty()) title += ", " + pattern;
    if (number_of(workload, "children").value_or(1) > 1) {
        title += ", by " + cell_of(workload, "children", Unit::count) + " children";
    }
    return title;
}

}  // namespace

Section compare_section(const ReportJson& document) {
    const std::vector<ReportJson>& engines = objects_of(document, "engines");
    Section section;
    section.title = headline(document, engines.size());
    section.verdict = text_of(document, "advice");
    for (const ReportJson& engine : engines) {
        for (const Quantity& quantity : kQuantities) {
            section.figures.push_back(
                {fmt::format("{}: {}", engine_name(engine), quantity.name), quantity.unit, scaled(engine, quantity)});
        }
    }
    add_crossover(document, section);
    add_bars(engines,
             {.title = "Memory",
              .caption = "Before and after the writes.",
              .x = {},
              .y = {"bytes", Unit::bytes},
              .series = {}},
             {"memory_before_bytes", "memory_after_bytes"}, section);
    add_bars(engines,
             {.title = "Copied bytes", .caption = "", .x = {}, .y = {"bytes", Unit::bytes, true}, .series = {}},
             {"copied_bytes"}, section);
    add_bars(engines,
             {.title = "A read and a write", .caption = "", .x = {}, .y = {"time", Unit::seconds, true}, .series = {}},
             {"read_ns", "write_ns"}, section);
    add_bars(engines,
             {.title = "Building and handing over",
              .caption = "",
              .x = {},
              .y = {"time", Unit::seconds, true},
              .series = {}},
             {"build_seconds", "hand_over_seconds"}, section);
    add_table(engines, section);
    return section;
}

}  // namespace vmcow::cli
