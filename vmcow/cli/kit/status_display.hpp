#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/sys/terminal.hpp"
#include "vmcow/sys/write_watch.hpp"

namespace vmcow::cli {

/// Shows the progress of a command, and removes nothing that somebody else has printed.
///
/// Into a file or a pipe, and on a terminal where programs print too, the display prints lines. On a terminal it waits
/// for a moment in which nobody prints. Lines come less often as time goes on: after two seconds, or after a tenth of
/// the time so far. Where no program prints, the display draws each table over the one before. If somebody prints there
/// all the same (a program that opens /dev/tty, the shell after Ctrl-Z), the old table stays, and the next one is drawn
/// below what was printed.
///
/// The display prints nothing while that would disturb: in the background, after Ctrl-S, and while the terminal does
/// not echo, because a program has the whole screen or asks for a password. The terminal keeps its modes, so nothing
/// has to be restored, however the command ends.
///
/// A table is drawn over the one before by moving the cursor up. That is right only if nobody has printed since, and a
/// program can print between the check and the drawing. So tables are drawn only where no program is known to print.
/// Lost: a scroll region that keeps the table below what programs print. It is gone after a change of the window's size
/// or a full-screen program, and then both write on the same lines; it spoils `less`, which counts the rows itself; and
/// it stays when the command is killed. Lost: a pseudo-terminal between the programs and the terminal. It would handle
/// each byte, and job control.
class StatusDisplay {
public:
    using Table = std::function<std::vector<std::string>(const sys::TerminalSize&)>;
    using Line = std::function<std::string()>;

    /// `fd`: where the display prints. `shared`: programs print there too, or may.
    StatusDisplay(int fd, bool shared);

    /// Calls `table` or `line` for the text, if it is time to show one. The end of a table that is too long for the
    /// terminal is left out.
    void show(const Table& table, const Line& line);
    /// Takes the table off the terminal, if nothing was printed after it.
    void clear();
    /// What to print before a text that is to begin a line: a newline if others have printed on the terminal since the
    /// display has, or may have, because the column of the cursor is then unknown; else nothing.
    [[nodiscard]] std::string line_break() noexcept;

    [[nodiscard]] bool is_on_terminal() const noexcept { return is_on_terminal_; }

private:
    using Clock = std::chrono::steady_clock;

    [[nodiscard]] bool would_disturb() const noexcept;
    void look_for_others() noexcept;
    [[nodiscard]] bool others_are_printing() noexcept;
    [[nodiscard]] std::string drawing_of(const Table& table);
    void print(const std::string& text) noexcept;

    int fd_;
    bool is_on_terminal_;
    bool in_place_ = false;
    std::optional<sys::WriteWatch> writes_;  ///< writes to the terminal; nullopt where inotify does not tell
    bool at_line_start_ = true;              ///< nobody has printed since the display has
    std::size_t drawn_ = 0;                  ///< lines above the cursor that the next table is drawn over
    Clock::time_point began_ = Clock::now();
    Clock::time_point next_ = began_;  ///< when the next lines are due
};

/// `text` in one line of at most `columns` columns. A character beyond ASCII becomes "?", so each takes one column.
[[nodiscard]] std::string fitted(std::string_view text, std::size_t columns);

}  // namespace vmcow::cli
