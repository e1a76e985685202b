#include "tests/cli/screen.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace tests {
namespace {

constexpr char kEscape = '\x1b';

/// The number at `index` of "3;4", or `missing`.
std::size_t number_at(std::string_view parameters, std::size_t index, std::size_t missing) {
    for (; index > 0; --index) {
        const std::size_t separator = parameters.find(';');
        if (separator == std::string_view::npos) return missing;
        parameters.remove_prefix(separator + 1);
    }
    const std::string digits(parameters.substr(0, parameters.find(';')));
    return digits.empty() ? missing : std::strtoul(digits.c_str(), nullptr, 10);
}

/// The number of bytes of the UTF-8 character that begins with `first`.
std::size_t length_of_character(char first) {
    const auto byte = static_cast<unsigned char>(first);
    if (byte >= 0xF0) return 4;
    if (byte >= 0xE0) return 3;
    return byte >= 0xC0 ? 2 : 1;
}

}  // namespace

Screen::Screen(std::size_t rows, std::size_t columns) : row_count_(rows), columns_(columns), bottom_(rows - 1) {
    main_rows_.assign(rows, empty_row());
    alternate_rows_.assign(rows, empty_row());
}

void Screen::write(std::string_view bytes) {
    for (const char c : bytes) take(c);
}

void Screen::take(char c) {
    if (!pending_.empty() && pending_.front() == kEscape) {
        pending_ += c;
        take_escape();
        return;
    }
    if (!pending_.empty()) {
        pending_ += c;
        if (pending_.size() == length_of_character(pending_.front())) put(std::exchange(pending_, {}));
        return;
    }
    switch (c) {
        case kEscape:
            pending_ = c;
            break;
        case '\r':
            move_to(cursor_.row, 0);
            break;
        case '\n':
            line_feed();
            break;
        case '\b':
            move_to(cursor_.row, cursor_.column > 0 ? cursor_.column - 1 : 0);
            break;
        case '\t':
            move_to(cursor_.row, cursor_.column / 8 * 8 + 8);
            break;
        case '\a':
            break;
        default:
            if (static_cast<unsigned char>(c) < 0x20) {
                unknown_ += c;
            } else if (length_of_character(c) > 1) {
                pending_ = c;
            } else {
                put(std::string(1, c));
            }
    }
}

void Screen::take_escape() {
    const char kind = pending_[1];
    const char last = pending_.back();
    if (kind == '[') {
        if (pending_.size() == 2 || last < '@' || last > '~') return;  // the sequence is not complete yet
        const std::string sequence = std::exchange(pending_, {});
        take_control(std::string_view(sequence).substr(2, sequence.size() - 3), last);
        return;
    }
    if (kind == '7') {
        saved_ = cursor_;
    } else if (kind == '8') {
        restore(saved_);
    } else if (kind == 'D') {
        line_feed();
    } else if (kind == 'M') {
        reverse_line_feed();
    } else if (kind != '=' && kind != '>') {  // what the keypad sends, which shows nothing
        unknown_ += pending_;
    }
    pending_.clear();
}

void Screen::take_control(std::string_view parameters, char command) {
    const std::size_t count = std::max<std::size_t>(number_at(parameters, 0, 1), 1);
    // The cursor does not leave a scroll region that it is in.
    const std::size_t top = cursor_.row >= top_ ? top_ : 0;
    const std::size_t bottom = cursor_.row <= bottom_ ? bottom_ : row_count_ - 1;
    switch (command) {
        case 'A':
            move_to(cursor_.row - std::min(count, cursor_.row - top), cursor_.column);
            break;
        case 'B':
            move_to(std::min(cursor_.row + count, bottom), cursor_.column);
            break;
        case 'C':
            move_to(cursor_.row, cursor_.column + count);
            break;
        case 'D':
            move_to(cursor_.row, cursor_.column - std::min(count, cursor_.column));
            break;
        case 'H':
            move_to(count - 1, std::max<std::size_t>(number_at(parameters, 1, 1), 1) - 1);
            break;
        case 'J':
            erase_below(number_at(parameters, 0, 0));
            break;
        case 'K':
            erase_in_line(number_at(parameters, 0, 0));
            break;
        case 'm':
            plain_ = number_at(parameters, 0, 0) == 0;
            break;
        case 'r':
            top_ = count - 1;
            bottom_ = std::min(number_at(parameters, 1, row_count_), row_count_) - 1;
            move_to(0, 0);
            break;
        case 'h':
        case 'l':
            set_mode(parameters, command == 'h');
            break;
        default:
            unknown_ += std::string(parameters) + command;
    }
}

void Screen::set_mode(std::string_view parameters, bool on) {
    if (parameters == "?7") {
        breaks_lines_ = on;
    } else if (parameters == "?25") {
        shows_cursor_ = on;
    } else if (parameters == "?1049") {
        if (on) saved_ = cursor_;
        if (on) alternate_rows_.assign(row_count_, empty_row());
        alternate_ = on;
        if (!on) restore(saved_);
    } else {
        unknown_ += std::string(parameters) + (on ? 'h' : 'l');
    }
}

void Screen::put(const std::string& character) {
    if (cursor_.at_end && breaks_lines_) {
        move_to(cursor_.row, 0);
        line_feed();
    }
    rows()[cursor_.row].at(cursor_.column) = character;
    if (cursor_.column + 1 < columns_) {
        ++cursor_.column;
    } else {
        cursor_.at_end = true;
    }
}

void Screen::line_feed() {
    if (cursor_.row == bottom_) {
        scroll_up();
    } else {
        move_to(cursor_.row + 1, cursor_.column);
    }
    cursor_.at_end = false;
}

void Screen::reverse_line_feed() {
    if (cursor_.row != top_) {
        move_to(cursor_.row - std::min<std::size_t>(cursor_.row, 1), cursor_.column);
        return;
    }
    const auto begin = rows().begin();
    rows().erase(begin + static_cast<std::ptrdiff_t>(bottom_));
    rows().insert(begin + static_cast<std::ptrdiff_t>(top_), empty_row());
}

void Screen::scroll_up() {
    if (top_ == 0 && !alternate_) scrolled_out_.push_back(rows().front());
    rows().erase(rows().begin() + static_cast<std::ptrdiff_t>(top_));
    rows().insert(rows().begin() + static_cast<std::ptrdiff_t>(bottom_), empty_row());
}

void Screen::erase_in_line(std::size_t what) {
    Row& row = rows()[cursor_.row];
    const auto cursor = row.begin() + static_cast<std::ptrdiff_t>(cursor_.column);
    std::fill(what == 0 ? cursor : row.begin(), what == 1 ? cursor + 1 : row.end(), " ");
}

void Screen::erase_below(std::size_t what) {
    if (what == 1) {
        unknown_ += "1J";
        return;
    }
    const std::size_t first = what == 0 ? cursor_.row + 1 : 0;
    if (what == 0) erase_in_line(0);
    for (std::size_t row = first; row < row_count_; ++row) rows()[row] = empty_row();
}

void Screen::move_to(std::size_t row, std::size_t column) {
    cursor_ = {std::min(row, row_count_ - 1), std::min(column, columns_ - 1), false};
}

void Screen::restore(const Cursor& saved) {
    move_to(saved.row, saved.column);
    cursor_.at_end = saved.at_end;
}

void Screen::resize(std::size_t rows, std::size_t columns) {
    for (std::vector<Row>* all : {&main_rows_, &alternate_rows_}) {
        const std::size_t above = cursor_.row >= rows ? cursor_.row - rows + 1 : 0;
        const auto end = all->begin() + static_cast<std::ptrdiff_t>(above);
        if (all == &main_rows_) scrolled_out_.insert(scrolled_out_.end(), all->begin(), end);
        all->erase(all->begin(), end);
        all->resize(rows, empty_row());
        for (Row& row : *all) row.resize(std::max(columns, row.size()), " ");
    }
    const std::size_t row = cursor_.row >= rows ? rows - 1 : cursor_.row;
    row_count_ = rows;
    columns_ = columns;
    top_ = 0;
    bottom_ = rows - 1;
    move_to(row, cursor_.column);
}

std::vector<std::string> Screen::lines() const {
    std::vector<std::string> lines;
    const auto add = [&](const Row& row) {
        std::string line;
        for (const std::string& character : row) line += character;
        line.erase(line.find_last_not_of(' ') + 1);
        lines.push_back(line);
    };
    std::for_each(scrolled_out_.begin(), scrolled_out_.end(), add);
    std::for_each(main_rows_.begin(), main_rows_.end(), add);
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
    return lines;
}

std::string Screen::text() const {
    std::string text;
    for (const std::string& line : lines()) text += line + "\n";
    return text;
}

bool Screen::is_as_at_first() const {
    return top_ == 0 && bottom_ == row_count_ - 1 && !alternate_ && breaks_lines_ && shows_cursor_ && plain_;
}

}  // namespace tests
