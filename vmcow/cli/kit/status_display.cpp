#include "vmcow/cli/kit/status_display.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <system_error>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

namespace {

constexpr std::chrono::seconds kPace{2};
constexpr int kPartOfTimeSoFar = 10;
constexpr std::chrono::milliseconds kPause{20};  // a program that is printing prints again within it

}  // namespace

StatusDisplay::StatusDisplay(int fd, bool shared) : fd_(fd), is_on_terminal_(sys::terminal_device(fd).has_value()) {
    if (!is_on_terminal_) return;
    if (sys::WriteWatch writes(sys::terminal_files(fd)); writes.works()) writes_.emplace(std::move(writes));
    // Without inotify nothing tells whether others have moved the cursor since the last table.
    in_place_ = !shared && writes_;
    if (!in_place_) next_ += kPace;
}

bool StatusDisplay::would_disturb() const noexcept {
    return !sys::echoes_lines(fd_) || !sys::is_in_foreground(fd_) || !sys::takes_output(fd_);
}

void StatusDisplay::look_for_others() noexcept {
    if (writes_ && !writes_->written()) return;
    at_line_start_ = false;
    drawn_ = 0;
}

bool StatusDisplay::others_are_printing() noexcept {
    const bool printing = writes_ && writes_->written_within(kPause);
    if (printing) at_line_start_ = false;
    return printing;
}

void StatusDisplay::show(const Table& table, const Line& line) {
    if (!is_on_terminal_) return print(line() + "\n");
    if (would_disturb()) return;
    look_for_others();
    if (drawn_ == 0) {
        const Clock::time_point now = Clock::now();
        if (now < next_ || others_are_printing()) return;
        next_ = now + std::max<Clock::duration>(kPace, (now - began_) / kPartOfTimeSoFar);
    }
    const std::string begin = at_line_start_ ? "" : "\n";
    print(begin + (in_place_ ? drawing_of(table) : line() + "\n"));
}

std::string StatusDisplay::drawing_of(const Table& table) {
    const sys::TerminalSize size = sys::terminal_size(fd_);
    std::vector<std::string> lines = table(size);
    // One row is left for the cursor, and lines are cut so that the terminal breaks none: the cursor cannot go up over
    // more rows than the terminal has.
    lines.resize(std::min(lines.size(), size.rows - 1));
    std::string text = drawn_ > 0 ? fmt::format("\x1b[{}A", drawn_) : std::string();
    for (const std::string& line : lines) text += "\r" + fitted(line, size.columns - 1) + "\x1b[K\n";
    if (lines.size() < drawn_) text += "\x1b[J";
    drawn_ = lines.size();
    return text;
}

void StatusDisplay::clear() {
    if (drawn_ > 0) look_for_others();
    if (drawn_ > 0 && !would_disturb()) print(fmt::format("\x1b[{}A\r\x1b[J", drawn_));
    drawn_ = 0;
}

std::string StatusDisplay::line_break() noexcept {
    if (!is_on_terminal_) return {};
    look_for_others();
    return at_line_start_ ? "" : "\n";
}

/// Prints with one write(2), which the terminal does not split.
void StatusDisplay::print(const std::string& text) noexcept {
    try {
        sys::write_all(fd_, std::as_bytes(std::span(text)), "the progress");
    } catch (const std::system_error&) {
        // A display that nobody can read must not end the work.
    }
    if (!writes_) return;
    (void)writes_->written();  // takes our own write out of the watch
    at_line_start_ = true;
}

std::string fitted(std::string_view text, std::size_t columns) {
    std::string shown;
    for (const char c : one_line(text)) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte & 0xC0U) != 0x80U) shown += byte < 0x80U ? c : '?';
    }
    if (shown.size() > columns) shown.resize(columns);
    return shown;
}

}  // namespace vmcow::cli
