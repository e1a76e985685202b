#pragma once

#include <cstddef>
#include <string>

#include "vmcow/cli/report/chart.hpp"

namespace vmcow::cli {

struct TextStyle {
    std::size_t columns = 80;
    bool ascii = false;    ///< no character beyond ASCII
    bool colours = false;  ///< lines are told apart by colour, too
};

/// The style that suits standard output: the width of its terminal, or 80; ASCII if the locale has no UTF-8; colours on
/// a terminal, unless NO_COLOR is set.
[[nodiscard]] TextStyle style_of_stdout();

/// Draws `chart` with characters: as bars, or as lines of braille dots with a letter at the end of each.
[[nodiscard]] std::string text_chart(const Chart& chart, const TextStyle& style);

/// The table with aligned columns. Lines are cut at `style.columns`.
[[nodiscard]] std::string text_table(const Table& table, const TextStyle& style);

/// `text` broken between words into lines of at most `style.columns`.
[[nodiscard]] std::string text_paragraph(const std::string& text, const TextStyle& style);

/// `text` on one line, in ASCII if the style says so.
[[nodiscard]] std::string in_style(const std::string& text, const TextStyle& style);

}  // namespace vmcow::cli
