#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "procrun/process.hpp"
#include "tests/cli/screen.hpp"
#include "vmcow/sys/fd.hpp"

namespace tests {

/// A pseudo-terminal whose keyboard and screen are the test. False when none could be opened.
class Terminal {
public:
    Terminal(std::size_t rows, std::size_t columns);

    explicit operator bool() const { return static_cast<bool>(programs_end_); }
    /// The terminal that programs are given.
    [[nodiscard]] int fd() const noexcept { return programs_end_.get(); }
    void close_fd() noexcept { programs_end_.reset(); }

    void type(std::string_view keys) const;
    void resize(std::size_t rows, std::size_t columns);
    /// Shows what is written before `deadline`. Returns false when nothing came, or when no program has the terminal
    /// open.
    bool show_more(procrun::Deadline deadline);

    [[nodiscard]] const Screen& screen() const noexcept { return screen_; }
    /// Every byte that was sent.
    [[nodiscard]] const std::string& sent() const noexcept { return sent_; }

private:
    vmcow::sys::UniqueFd keyboard_;
    vmcow::sys::UniqueFd programs_end_;
    Screen screen_;
    std::string sent_;
};

/// A command in a session with a terminal of its own, and what it shows there.
class OnTerminal {
public:
    explicit OnTerminal(std::vector<std::string> argv, std::size_t rows = 24, std::size_t columns = 80);

    explicit operator bool() const { return static_cast<bool>(process_); }
    void type(std::string_view keys) const { terminal_.type(keys); }
    void resize(std::size_t rows, std::size_t columns) { terminal_.resize(rows, columns); }
    [[nodiscard]] procrun::Process& process() noexcept { return process_; }

    /// Waits until `text` has been sent. Returns false when that takes too long, or when the command has ended.
    [[nodiscard]] bool shows(std::string_view text);
    /// Shows what comes during `time`.
    void look_on(std::chrono::milliseconds time);
    /// Shows all that comes until the command has ended, and returns how it ended; an empty text when that takes too
    /// long.
    [[nodiscard]] std::string end();

    [[nodiscard]] const std::string& shown() const noexcept { return terminal_.sent(); }
    [[nodiscard]] const Screen& screen() const noexcept { return terminal_.screen(); }

private:
    Terminal terminal_;
    procrun::Process process_;
};

}  // namespace tests
