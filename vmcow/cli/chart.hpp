#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/budget.hpp"

namespace vmcow::cli {

/// A number that may be unknown; it is shown as "?" then, and leaves a gap in a line.
using Value = std::optional<double>;

enum class Unit { count, bytes, seconds, share, times };

/// "1.5 MiB", "3.4 ms", "12 %", "64.0 ×", "65,530"; "?" for what is unknown.
[[nodiscard]] std::string format_value(const Value& value, Unit unit);

struct Axis {
    std::string title;
    Unit unit = Unit::count;
    bool logarithmic = false;
};

/// `low` and `high` bound where a model expects `y`.
struct Point {
    double x = 0;
    Value y;
    Value low = std::nullopt;
    Value high = std::nullopt;
};

enum class SeriesStyle { line, model, limit, peer };

struct Series {
    std::string name;
    std::vector<Point> points;  ///< in the order of x
    SeriesStyle style = SeriesStyle::line;
    std::optional<double> shade = std::nullopt;  ///< one of a family, in one colour from light (0) to dark (1)
};

/// What is drawn, whatever draws it. Without labels it is lines over x; with labels bars, whose x is the label's index.
struct Chart {
    std::string title;
    std::string caption;
    Axis x;
    Axis y;
    std::vector<Series> series;
    std::vector<std::string> labels = {};
    bool wide = false;                              ///< has a row of a page for itself
    std::optional<double> marked_x = std::nullopt;  ///< the points there stand out; the caption says why
};

/// Leaves at most `most` points of a line, the lowest and the highest of each stretch among them.
/// Returns whether any went.
bool thin_out(Series& series, std::size_t most);

/// How much of an address range is copied, over time.
struct HeatMap {
    struct Row {
        std::string label;         ///< where it begins, and what is mapped there
        std::vector<Value> share;  ///< one for each time
        bool begins_range = false;
    };

    std::string title;
    std::string caption;
    std::vector<double> times;
    std::vector<Row> rows;  ///< from low addresses to high ones
};

struct Column {
    std::string name;
    bool is_text = false;
};

struct Table {
    std::string title;
    std::string caption;
    std::vector<Column> columns;
    std::vector<std::vector<std::string>> rows;
};

/// One figure that a report has, by which reports can be compared.
struct Figure {
    std::string name;
    Unit unit = Unit::count;
    Value value;
};

/// What the program that a document is about says of itself, beside what was counted of it.
struct OwnFigure {
    std::string name;
    Value theirs;
    Value ours;
    std::string note;  ///< why they differ
};

/// All that a page shows of one document.
struct Section {
    std::string title;
    std::string verdict;
    BudgetFigures spent;  ///< unknown where the document is about no one run
    std::vector<Figure> figures;
    std::vector<Figure>
        summary;  ///< the few of which many documents have a row each; none where there is no such choice
    std::vector<OwnFigure> own_figures;
    std::vector<Chart> charts;    ///< the first is the main one
    std::vector<Chart> overlays;  ///< those that several documents are drawn in at once, by their titles
    std::vector<HeatMap> heat;
    std::vector<Table> tables;
    std::vector<std::string> notes;
};

}  // namespace vmcow::cli
