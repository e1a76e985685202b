#include "vmcow/cli/report/text_chart.hpp"

#include <fmt/format.h>
#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "vmcow/cli/kit/command_line.hpp"

namespace vmcow::cli {
namespace {

constexpr std::size_t kRows = 16;
constexpr std::size_t kLeastColumns = 40;
constexpr std::size_t kMostColumns = 200;

/// Whether a byte begins a character of UTF-8.
bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }

std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string clipped(const std::string& text, std::size_t width) {
    std::size_t at = 0;
    for (std::size_t seen = 0; at < text.size(); ++at) {
        if (begins_character(text[at]) && seen++ == width) break;
    }
    return text.substr(0, at);
}

std::string padded(const std::string& text, std::size_t width, bool to_the_right) {
    const std::string cut = clipped(text, width);
    const std::string spaces(width - width_of(cut), ' ');
    return to_the_right ? spaces + cut : cut + spaces;
}

struct Replacement {
    std::string_view character;
    std::string_view ascii;
};

constexpr std::array<Replacement, 6> kReplacements = {
    {{"×", "x"}, {"µ", "u"}, {"σ", "sigma"}, {"±", "+-"}, {"◆", "*"}, {"…", "..."}}};

std::string ascii_of(std::string_view text) {
    std::string ascii;
    while (!text.empty()) {
        std::size_t bytes = 1;
        while (bytes < text.size() && !begins_character(text[bytes])) ++bytes;
        const std::string_view character = text.substr(0, bytes);
        const auto known = std::find_if(kReplacements.begin(), kReplacements.end(),
                                        [&](const Replacement& r) { return r.character == character; });
        if (known != kReplacements.end()) {
            ascii += known->ascii;
        } else {
            ascii += static_cast<unsigned char>(character[0]) < 0x80 ? character.substr(0, 1) : "?";
        }
        text.remove_prefix(bytes);
    }
    return ascii;
}

std::string without_trailing_spaces(const std::string& line) { return line.substr(0, line.find_last_not_of(' ') + 1); }

/// The letter at the end of a series' line. In ASCII, the line consists of the letter, too.
std::string letter_of(std::size_t series) {
    return std::string(1, static_cast<char>('a' + static_cast<char>(series % 26)));
}

std::string painted(const std::string& text, std::size_t series, const TextStyle& style) {
    if (!style.colours) return text;
    constexpr std::array<int, 6> kColours = {34, 33, 32, 31, 35, 36};
    return fmt::format("\x1b[{}m{}\x1b[0m", kColours[series % kColours.size()], text);
}

/// Maps the values of an axis to places from 0 to 1.
class Scale {
public:
    Scale(const Axis& axis, const std::vector<double>& values) : axis_(axis) {
        bool any = false;
        for (const double value : values) {
            if (axis.logarithmic && value <= 0) continue;
            low_ = any ? std::min(low_, value) : value;
            high_ = any ? std::max(high_, value) : value;
            any = true;
        }
        if (!any) std::tie(low_, high_) = std::pair(1.0, 10.0);
        if (high_ <= low_) high_ = axis.logarithmic ? low_ * 10 : low_ + 1;
    }

    void begin_at_zero() {
        if (!axis_.logarithmic) low_ = std::min(low_, 0.0);
    }

    [[nodiscard]] MaybeNumber place(double value) const {
        if (axis_.logarithmic && value <= 0) return std::nullopt;
        return (at(value) - at(low_)) / (at(high_) - at(low_));
    }

    [[nodiscard]] std::string label(double place) const {
        const double value = at(low_) + place * (at(high_) - at(low_));
        double shown = axis_.logarithmic ? std::exp2(value) : value;
        // A place that is drawn with dots is not exact, so the fraction of a count means nothing.
        if (axis_.unit == Unit::count && shown >= 10) shown = std::round(shown);
        return format_value(shown, axis_.unit);
    }

private:
    [[nodiscard]] double at(double value) const { return axis_.logarithmic ? std::log2(value) : value; }

    Axis axis_;
    double low_ = 0;
    double high_ = 1;
};

/// A grid of dots. A braille character shows eight dots, an ASCII character one.
class Canvas {
public:
    Canvas(std::size_t columns, const TextStyle& style)
        : style_(style),
          columns_(columns),
          across_(style.ascii ? 1 : 2),
          down_(style.ascii ? 1 : 4),
          cells_(columns * kRows) {}

    /// Draws a line from one place to another. Coordinates go from 0 to 1.
    void draw_line(double x0, double y0, double x1, double y1, std::size_t series) {
        const double steps = std::ceil(std::max({std::abs(x1 - x0) * static_cast<double>(columns_ * across_),
                                                 std::abs(y1 - y0) * static_cast<double>(kRows * down_), 1.0}));
        for (double step = 0; step <= steps; ++step) {
            set(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps, series);
        }
    }

    [[nodiscard]] std::string row(std::size_t index) const {
        std::string text;
        for (std::size_t column = 0; column < columns_; ++column) {
            const Cell& cell = cells_[index * columns_ + column];
            if (cell.dots == 0) {
                text += ' ';
            } else {
                text += painted(style_.ascii ? letter_of(cell.series) : braille(cell.dots), cell.series, style_);
            }
        }
        return text;
    }

    [[nodiscard]] static std::size_t row_of(double y) { return kRows - 1 - index_of(y, kRows); }

private:
    struct Cell {
        std::uint8_t dots = 0;
        std::size_t series = 0;
    };

    static std::size_t index_of(double place, std::size_t count) {
        const double index = std::floor(std::clamp(place, 0.0, 1.0) * static_cast<double>(count));
        return std::min(static_cast<std::size_t>(index), count - 1);
    }

    void set(double x, double y, std::size_t series) {
        // The bits of the dots in a braille character, by column and row; U+2800 has no dot.
        constexpr std::array<std::array<std::uint8_t, 4>, 2> kDots = {
            {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}};
        const std::size_t column = index_of(x, columns_ * across_);
        const std::size_t row = kRows * down_ - 1 - index_of(y, kRows * down_);
        Cell& cell = cells_[row / down_ * columns_ + column / across_];
        cell.dots = static_cast<std::uint8_t>(cell.dots | kDots[column % across_][row % down_]);
        cell.series = series;
    }

    /// U+2800 and the bits of `dots`, in UTF-8.
    static std::string braille(std::uint8_t dots) {
        return {static_cast<char>(0xe2), static_cast<char>(0xa0 + (dots >> 6U)),
                static_cast<char>(0x80 + (dots & 0x3fU))};
    }

    TextStyle style_;
    std::size_t columns_;
    std::size_t across_;
    std::size_t down_;
    std::vector<Cell> cells_;
};

struct Plot {
    Canvas canvas;
    std::vector<std::string> ends;  ///< for each row, the letters of the lines that end there
};

void draw_series(const Series& series, std::size_t index, const Scale& x, const Scale& y, const TextStyle& style,
                 Plot& plot) {
    bool in_line = false;
    double x0 = 0;
    double y0 = 0;
    for (const Point& point : series.points) {
        const MaybeNumber right = x.place(point.x);
        const MaybeNumber up = point.y ? y.place(*point.y) : std::nullopt;
        if (!right || !up) {
            in_line = false;
            continue;
        }
        plot.canvas.draw_line(in_line ? x0 : *right, in_line ? y0 : *up, *right, *up, index);
        in_line = true;
        x0 = *right;
        y0 = *up;
    }
    if (in_line) plot.ends[Canvas::row_of(y0)] += painted(letter_of(index), index, style);
}

std::string legend_of(const Chart& chart, const TextStyle& style) {
    std::string text;
    for (std::size_t i = 0; i < chart.series.size(); ++i) {
        const Series& series = chart.series[i];
        MaybeNumber last;
        for (const Point& point : series.points) last = point.y ? point.y : last;
        const std::string name = series.name.empty() ? chart.y.title : series.name;
        text += fmt::format("  {} {}: {} at the end\n", painted(letter_of(i), i, style), in_style(name, style),
                            in_style(format_value(last, chart.y.unit), style));
    }
    return text;
}

/// The line below the x axis: the labels of both ends, and the title in the middle.
std::string x_labels(const Scale& x, const Axis& axis, std::size_t columns, const TextStyle& style) {
    const std::string left = in_style(x.label(0), style);
    const std::string right = in_style(x.label(1), style);
    const std::size_t between = columns - std::min(columns, width_of(left) + width_of(right));
    const std::string title = clipped(in_style(axis.title, style), between);
    const std::size_t before = (between - width_of(title)) / 2;
    return left + std::string(before, ' ') + title + std::string(between - width_of(title) - before, ' ') + right;
}

std::string lines_of(const Chart& chart, const TextStyle& style) {
    std::vector<double> xs;
    std::vector<double> ys;
    for (const Series& series : chart.series) {
        for (const Point& point : series.points) {
            xs.push_back(point.x);
            if (point.y) ys.push_back(*point.y);
        }
    }
    const Scale x(chart.x, xs);
    Scale y(chart.y, ys);
    y.begin_at_zero();
    constexpr std::size_t kLabel = 10;
    constexpr std::size_t kEnds = 4;
    const std::size_t columns = style.columns - kLabel - 2 - kEnds;
    Plot plot{Canvas(columns, style), std::vector<std::string>(kRows)};
    for (std::size_t i = 0; i < chart.series.size(); ++i) draw_series(chart.series[i], i, x, y, style, plot);
    std::string text;
    for (std::size_t row = 0; row < kRows; ++row) {
        const bool labelled = row % 5 == 0;
        const double place = 1 - static_cast<double>(row) / (kRows - 1);
        const std::string label = labelled ? in_style(y.label(place), style) : "";
        const std::string axis = style.ascii ? (labelled ? "+" : "|") : (labelled ? "┤" : "│");
        const std::string line = padded(label, kLabel, true) + axis + plot.canvas.row(row) + " " + plot.ends[row];
        text += without_trailing_spaces(line) + "\n";
    }
    std::string rule;
    for (std::size_t i = 0; i < columns; ++i) rule += style.ascii ? "-" : "─";
    text += std::string(kLabel, ' ') + (style.ascii ? "+" : "└") + rule + "\n";
    text += std::string(kLabel + 1, ' ') + x_labels(x, chart.x, columns, style) + "\n";
    return text + legend_of(chart, style);
}

/// A bar of `length` characters; in Unicode it is exact to an eighth of a character.
std::string bar_of(double length, const TextStyle& style) {
    constexpr std::array<const char*, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    std::string text;
    if (style.ascii) return std::string(static_cast<std::size_t>(std::lround(length)), '#');
    const auto eighths = static_cast<std::size_t>(std::lround(length * 8));
    for (std::size_t i = 0; i < eighths / 8; ++i) text += "█";
    return text + kEighths[eighths % 8];
}

std::string bars_of(const Chart& chart, const TextStyle& style) {
    std::vector<double> values;
    for (const Series& series : chart.series) {
        for (const Point& point : series.points) {
            // On a logarithmic axis, so that the shortest bar has a length.
            if (point.y) values.insert(values.end(), {*point.y, chart.y.logarithmic ? *point.y / 2 : 0});
        }
    }
    const Scale scale(chart.y, values);
    const std::size_t label = style.columns / 4;
    const std::size_t name = chart.series.size() > 1 ? style.columns / 6 : 0;
    const std::size_t room = style.columns - label - name - 14;
    std::string text;
    for (std::size_t at = 0; at < chart.labels.size(); ++at) {
        for (std::size_t i = 0; i < chart.series.size(); ++i) {
            const Series& series = chart.series[i];
            const MaybeNumber value = at < series.points.size() ? series.points[at].y : std::nullopt;
            const MaybeNumber place = value ? scale.place(*value) : std::nullopt;
            const std::string bar = bar_of(place.value_or(0) * static_cast<double>(room), style);
            text += padded(i == 0 ? in_style(chart.labels[at], style) : "", label, true) + " " +
                    (name > 0 ? padded(in_style(series.name, style), name, false) + " " : "") + painted(bar, i, style) +
                    " " + in_style(format_value(value, chart.y.unit), style) + "\n";
        }
    }
    return text;
}

/// Whether the environment's locale uses UTF-8.
bool locale_has_utf8() {
    const locale_t locale = ::newlocale(LC_CTYPE_MASK, "", nullptr);
    if (locale == nullptr) return false;
    const bool utf8 = std::string_view(::nl_langinfo_l(CODESET, locale)) == "UTF-8";
    ::freelocale(locale);
    return utf8;
}

}  // namespace

TextStyle style_of_stdout() {
    TextStyle style;
    winsize size{};
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        style.columns = std::clamp<std::size_t>(size.ws_col, kLeastColumns, kMostColumns);
    }
    const char* no_color = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): a command has one thread
    style.colours = terminal && (no_color == nullptr || *no_color == '\0');
    style.ascii = !locale_has_utf8();
    return style;
}

std::string in_style(const std::string& text, const TextStyle& style) {
    const std::string line = one_line(text);
    return style.ascii ? ascii_of(line) : line;
}

std::string text_paragraph(const std::string& text, const TextStyle& style) {
    std::string lines;
    std::size_t column = 0;
    const std::string whole = in_style(text, style);
    for (std::size_t at = 0; at < whole.size();) {
        const std::size_t end = std::min(whole.find(' ', at), whole.size());
        const std::string word = whole.substr(at, end - at);
        const std::size_t width = width_of(word);
        if (column > 0 && column + 1 + width > style.columns) {
            lines += '\n';
            column = 0;
        }
        lines += (column > 0 ? " " : "") + word;
        column += (column > 0 ? 1 : 0) + width;
        at = end + 1;
    }
    return lines + "\n";
}

std::string text_chart(const Chart& chart, const TextStyle& style) {
    std::string text = in_style(chart.title, style) + "\n";
    text += chart.labels.empty() ? lines_of(chart, style) : bars_of(chart, style);
    if (!chart.caption.empty()) text += text_paragraph(chart.caption, style);
    return text;
}

std::string text_table(const Table& table, const TextStyle& style) {
    std::vector<std::size_t> widths;
    for (const Column& column : table.columns) widths.push_back(width_of(in_style(column.name, style)));
    for (const auto& row : table.rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], width_of(in_style(row[i], style)));
        }
    }
    std::string text = in_style(table.title, style) + "\n";
    const auto add = [&](const auto& name_of_column) {
        std::string line;
        for (std::size_t i = 0; i < widths.size(); ++i) {
            line += "  " + padded(in_style(name_of_column(i), style), widths[i], !table.columns[i].is_text);
        }
        text += without_trailing_spaces(clipped(line, style.columns)) + "\n";
    };
    add([&](std::size_t i) { return table.columns[i].name; });
    for (const auto& row : table.rows) add([&](std::size_t i) { return row[i]; });
    return text;
}

}  // namespace vmcow::cli
