#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/kit/budget.hpp"

namespace vmcow::cli {

/// A number that may be unknown. An unknown number is shown as "?" and leaves a gap in a line.
using MaybeNumber = std::optional<double>;

enum class Unit { count, bytes, seconds, share, times };

/// `value` for people: "1.5 MiB", "3.4 ms", "12 %", "64.0 ×", "65,530", or "?" if it is unknown.
[[nodiscard]] std::string format_value(const MaybeNumber& value, Unit unit);

struct Axis {
    std::string title;
    Unit unit = Unit::count;
    bool logarithmic = false;
};

/// `low` and `high` are the bounds between which a model expects `y`.
struct Point {
    double x = 0;
    MaybeNumber y;
    MaybeNumber low = std::nullopt;
    MaybeNumber high = std::nullopt;
};

enum class SeriesStyle { line, model, limit, peer };

struct Series {
    std::string name;
    std::vector<Point> points;  ///< ascending in x
    SeriesStyle style = SeriesStyle::line;
    std::optional<double> shade = std::nullopt;  ///< of a line in a family of one colour: light (0) to dark (1)
};

/// A chart, however it is drawn. Without labels it has lines over x. With labels it has bars, and the x of a bar is the
/// index of its label.
struct Chart {
    std::string title;
    std::string caption;
    Axis x;
    Axis y;
    std::vector<Series> series;
    std::vector<std::string> labels = {};
    bool wide = false;                              ///< takes a whole row of a page
    std::optional<double> marked_x = std::nullopt;  ///< points at this x stand out; the caption says why
};

/// Reduces a line to at most `most` points, and keeps the lowest and the highest point of each stretch.
/// Returns whether points were dropped.
bool thin_out(Series& series, std::size_t most);

/// How much of an address range is copied, over time.
struct HeatChart {
    struct Row {
        std::string label;               ///< the address where the row begins, and the mapping
        std::vector<MaybeNumber> share;  ///< one for each of `times`
        bool begins_range = false;
    };

    std::string title;
    std::string caption;
    std::vector<double> times;
    std::vector<Row> rows;  ///< ascending by address
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

/// One figure of a report. Reports are compared by figures of the same name.
struct Figure {
    std::string name;
    Unit unit = Unit::count;
    MaybeNumber value;
};

/// A figure that the measured program counts itself, beside what we have counted from outside.
struct OwnFigure {
    std::string name;
    MaybeNumber theirs;
    MaybeNumber ours;
    std::string note;  ///< why they differ
};

/// All that a page shows of one document.
struct Section {
    std::string title;
    std::string verdict;
    BudgetFigures spent;  ///< what a budget limits; unknown if the document is not about one run
    std::vector<Figure> figures;
    std::vector<Figure> summary;  ///< the row of this document in a table of many; may be empty
    std::vector<OwnFigure> own_figures;
    std::vector<Chart> charts;    ///< the first is the main one
    std::vector<Chart> overlays;  ///< charts that show several documents at once; matched by title
    std::vector<HeatChart> heat;
    std::vector<Table> tables;
    std::vector<std::string> notes;
};

}  // namespace vmcow::cli
