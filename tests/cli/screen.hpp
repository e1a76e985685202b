#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace tests {

/// What a person sees on a terminal that was sent some bytes: rows of characters, the lines that have scrolled out at
/// the top, and a cursor. It knows the sequences that our commands and the programs of the tests send. Anything else is
/// kept in `unknown`; when a test finds something there, the class has to learn that sequence.
///
/// Shape: as in xterm. A character in the last column leaves the cursor there until the next one. Lines that leave a
///        scroll region at the top of the screen can be scrolled back to, but not on the alternate screen.
class Screen {
public:
    Screen(std::size_t rows, std::size_t columns);

    void write(std::string_view bytes);
    /// Resizes as xterm does: no line is wrapped anew, the cursor stays on its line, and the scroll region is gone.
    void resize(std::size_t rows, std::size_t columns);

    /// The lines that can be scrolled back to, then the rows, without blanks at line ends and without empty lines at
    /// the end.
    [[nodiscard]] std::vector<std::string> lines() const;
    /// `lines` in one text, for messages.
    [[nodiscard]] std::string text() const;
    /// Whether there is no scroll region and no alternate screen, lines wrap, the cursor shows, and characters are
    /// plain.
    [[nodiscard]] bool is_as_at_first() const;
    [[nodiscard]] std::size_t cursor_row() const noexcept { return cursor_.row; }
    [[nodiscard]] std::size_t cursor_column() const noexcept { return cursor_.column; }
    [[nodiscard]] const std::string& unknown() const noexcept { return unknown_; }

private:
    struct Cursor {
        std::size_t row = 0;
        std::size_t column = 0;
        bool at_end = false;  ///< the last column is taken, and the next character goes to the next row
    };
    using Row = std::vector<std::string>;  ///< one character each

    void take(char c);
    void take_escape();
    void take_control(std::string_view parameters, char command);
    void set_mode(std::string_view parameters, bool on);
    void put(const std::string& character);
    void line_feed();
    void reverse_line_feed();
    void scroll_up();
    void erase_in_line(std::size_t what);
    void erase_below(std::size_t what);
    void move_to(std::size_t row, std::size_t column);
    [[nodiscard]] Row empty_row() const { return Row(columns_, " "); }
    [[nodiscard]] std::vector<Row>& rows() { return alternate_ ? alternate_rows_ : main_rows_; }
    void restore(const Cursor& saved);

    std::size_t row_count_;
    std::size_t columns_;
    std::vector<Row> main_rows_;
    std::vector<Row> alternate_rows_;
    std::deque<Row> scrolled_out_;
    Cursor cursor_;
    Cursor saved_;
    std::size_t top_ = 0;
    std::size_t bottom_;
    bool alternate_ = false;
    bool breaks_lines_ = true;
    bool shows_cursor_ = true;
    bool plain_ = true;
    std::string pending_;  ///< the beginning of an escape sequence or of a UTF-8 character
    std::string unknown_;
};

}  // namespace tests
