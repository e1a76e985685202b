#include "vmcow/cli/report/report_html.hpp"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "vmcow/cli/kit/html_document.hpp"
#include "vmcow/cli/report/report_script.hpp"

namespace vmcow::cli {
namespace {

using Json = ReportJson;

const char* name_of(Unit unit) {
    switch (unit) {
        case Unit::bytes:
            return "bytes";
        case Unit::seconds:
            return "seconds";
        case Unit::share:
            return "share";
        case Unit::times:
            return "times";
        case Unit::count:
            break;
    }
    return "count";
}

const char* name_of(SeriesStyle style) {
    switch (style) {
        case SeriesStyle::model:
            return "model";
        case SeriesStyle::limit:
            return "limit";
        case SeriesStyle::peer:
            return "peer";
        case SeriesStyle::line:
            break;
    }
    return "line";
}

Json json_of(const MaybeNumber& value) { return value && std::isfinite(*value) ? Json(*value) : Json(); }

Json json_of(const Axis& axis) {
    return {{"title", axis.title}, {"unit", name_of(axis.unit)}, {"log", axis.logarithmic}};
}

Json json_of(const Series& series) {
    Json points = Json::array();
    Json band = Json::array();
    for (const Point& point : series.points) {
        points.push_back(Json::array({point.x, json_of(point.y)}));
        if (point.low && point.high) band.push_back(Json::array({point.x, *point.low, *point.high}));
    }
    return {{"name", series.name},
            {"style", name_of(series.style)},
            {"shade", json_of(series.shade)},
            {"points", points},
            {"band", band}};
}

Json json_of(const Chart& chart) {
    Json series = Json::array();
    for (const Series& line : chart.series) series.push_back(json_of(line));
    return {{"title", chart.title},   {"x", json_of(chart.x)}, {"y", json_of(chart.y)},
            {"labels", chart.labels}, {"series", series},      {"marked", json_of(chart.marked_x)}};
}

Json json_of(const HeatChart& map) {
    Json rows = Json::array();
    for (const HeatChart::Row& row : map.rows) {
        Json shares = Json::array();
        // Colours do not show more than three digits.
        for (const MaybeNumber& share : row.share)
            shares.push_back(share ? Json(std::round(*share * 1e3) / 1e3) : Json());
        rows.push_back({{"label", row.label}, {"begins", row.begins_range}, {"shares", shares}});
    }
    return {{"title", map.title}, {"times", map.times}, {"rows", rows}};
}

/// The HTML and the data of one page while it is put together.
class Page {
public:
    void add_heading(const std::string& text) { body_ += fmt::format("<h2>{}</h2>\n", escape_html(text)); }
    void add_section(const Section& section);
    void add_charts(const std::vector<Chart>& charts, const std::vector<HeatChart>& heat);
    void add_table(const Table& table);

    [[nodiscard]] std::string finish(const std::string& title) {
        const std::string json =
            Json{{"charts", charts_}, {"heat", heat_}}.dump(-1, ' ', false, Json::error_handler_t::replace);
        const std::string body = fmt::format("<h1>{}</h1>\n{}", escape_html(title), body_);
        return html_document({.title = title, .body = body, .json = json, .script = report_script()});
    }

private:
    void add_card(const std::string& id, const std::string& title, const std::string& caption, bool wide,
                  const std::string& between = "");

    std::string body_;
    Json charts_ = Json::array();
    Json heat_ = Json::array();
};

void Page::add_card(const std::string& id, const std::string& title, const std::string& caption, bool wide,
                    const std::string& between) {
    body_ += fmt::format("<section class=\"card{}\"><h3>{}</h3>", wide ? " wide" : "", escape_html(title));
    if (!caption.empty()) body_ += fmt::format("<p class=\"soft\">{}</p>", escape_html(caption));
    body_ += fmt::format(
        "{}<div class=\"chart\"><canvas id=\"{}\" role=\"img\" aria-label=\"{}\"></canvas></div></section>\n", between,
        id, escape_html(title));
}

void Page::add_charts(const std::vector<Chart>& charts, const std::vector<HeatChart>& heat) {
    if (charts.empty() && heat.empty()) return;
    body_ += "<div class=\"cards\">\n";
    std::size_t beside = 0;
    for (const Chart& chart : charts) {
        if (!chart.wide) ++beside;
        const bool alone = &chart == &charts.back() && beside % 2 == 1;  // cards stand in pairs
        add_card(fmt::format("chart{}", charts_.size()), chart.title, chart.caption, chart.wide || alone);
        charts_.push_back(json_of(chart));
    }
    for (const HeatChart& map : heat) {
        add_card(fmt::format("heat{}", heat_.size()), map.title, map.caption, true,
                 "<p class=\"scale\">nothing copied <i class=\"heat\"></i> all copied</p>");
        heat_.push_back(json_of(map));
    }
    body_ += "</div>\n";
}

void Page::add_table(const Table& table) {
    body_ += fmt::format("<h3>{}</h3>\n", escape_html(table.title));
    if (!table.caption.empty()) body_ += fmt::format("<p class=\"soft\">{}</p>\n", escape_html(table.caption));
    body_ += "<div class=\"table\"><table><tr>";
    const auto text_class = [&](std::size_t column) { return table.columns[column].is_text ? " class=\"text\"" : ""; };
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        body_ += fmt::format("<th{}>{}</th>", text_class(i), escape_html(table.columns[i].name));
    }
    body_ += "</tr>\n";
    for (const std::vector<std::string>& row : table.rows) {
        body_ += "<tr>";
        for (std::size_t i = 0; i < row.size(); ++i) {
            body_ += fmt::format("<td{}>{}</td>", text_class(i), escape_html(row[i]));
        }
        body_ += "</tr>\n";
    }
    body_ += "</table></div>\n";
}

void Page::add_section(const Section& section) {
    if (!section.verdict.empty()) body_ += fmt::format("<p class=\"verdict\">{}</p>\n", escape_html(section.verdict));
    if (!section.figures.empty() && section.figures.size() <= 20) {  // more figures are in the tables anyway
        body_ += "<div class=\"facts\">";
        for (const Figure& figure : section.figures) {
            body_ += fmt::format("<div class=\"fact\"><b>{}</b><span>{}</span></div>\n",
                                 format_value(figure.value, figure.unit), escape_html(figure.name));
        }
        body_ += "</div>\n";
    }
    if (!section.notes.empty()) {
        body_ += "<ul class=\"notes\">";
        for (const std::string& note : section.notes) body_ += fmt::format("<li>{}</li>\n", escape_html(note));
        body_ += "</ul>\n";
    }
    add_charts(section.charts, section.heat);
    for (const Table& table : section.tables) add_table(table);
}

}  // namespace

std::vector<Section> sections_of(std::span<const ReportInput> inputs) {
    std::vector<Section> sections;
    for (const ReportInput& input : inputs) {
        if (kind_of(input.document) != kind_of(inputs.front().document)) {
            throw std::invalid_argument(
                fmt::format("a report is about documents of one kind: '{}' is of {}, '{}' of {}", inputs.front().name,
                            vmcow::cli::name_of(kind_of(inputs.front().document)), input.name,
                            vmcow::cli::name_of(kind_of(input.document))));
        }
        try {
            sections.push_back(section_of(input));
        } catch (const std::invalid_argument& error) {
            throw std::invalid_argument(fmt::format("'{}': {}", input.name, error.what()));
        }
    }
    return sections;
}

std::string heading_of(const ReportInput& input, const Section& section) {
    return title_of(input) == input.name ? input.name + ": " + section.title : section.title;
}

std::string report_html(std::span<const ReportInput> inputs, const std::string& title) {
    const std::vector<Section> sections = sections_of(inputs);
    Page page;
    if (sections.size() == 1) {
        page.add_section(sections.front());
        return page.finish(title.empty() ? sections.front().title : title);
    }
    page.add_table(comparison_of(inputs, sections));
    if (const std::optional<Table> own = own_figures_of(inputs, sections)) page.add_table(*own);
    page.add_charts(overlaid(inputs, sections), {});
    std::string names;
    for (std::size_t i = 0; i < sections.size(); ++i) {
        page.add_heading(heading_of(inputs[i], sections[i]));
        page.add_section(sections[i]);
        names += (i == 0 ? "" : ", ") + title_of(inputs[i]);
    }
    return page.finish(title.empty() ? names : title);
}

}  // namespace vmcow::cli
