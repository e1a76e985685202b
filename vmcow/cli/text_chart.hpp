#pragma once

#include <cstddef>
#include <string>

#include "vmcow/cli/chart.hpp"

namespace vmcow::cli {

struct TextStyle {
    std::size_t columns = 80;
    bool ascii = false;    ///< no character beyond ASCII
    bool colours = false;  ///< lines are told apart by colour, too
};

/// What suits standard output: the width of its terminal, or 80; ASCII where the locale has no UTF-8; colours on a
/// terminal, unless NO_COLOR is set.
[[nodiscard]] TextStyle style_of_stdout();

/// Draws `chart` with characters: lines in dots of braille, each with a letter at its end, or bars.
[[nodiscard]] std::string text_chart(const Chart& chart, const TextStyle& style);

/// The table with its columns aligned, cut where it is wider than `style.columns`.
[[nodiscard]] std::string text_table(const Table& table, const TextStyle& style);

/// `text` in lines that end before `style.columns`, broken between words.
[[nodiscard]] std::string text_paragraph(const std::string& text, const TextStyle& style);

/// `text` on one line, in ASCII if the style says so.
[[nodiscard]] std::string in_style(const std::string& text, const TextStyle& style);

}  // namespace vmcow::cli
