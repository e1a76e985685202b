#include "tests/cli/on_terminal.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <span>
#include <utility>
#include <variant>

#include "procrun/process/poll_until.hpp"
#include "procrun/program.hpp"

namespace tests {

using procrun::Deadline;
using vmcow::sys::UniqueFd;

namespace {

constexpr std::chrono::seconds kLong{60};

}  // namespace

Terminal::Terminal(std::size_t rows, std::size_t columns)
    : keyboard_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), screen_(rows, columns) {
    std::array<char, 128> name{};
    if (!keyboard_ || grantpt(keyboard_.get()) != 0 || unlockpt(keyboard_.get()) != 0 ||
        ptsname_r(keyboard_.get(), name.data(), name.size()) != 0) {
        return;
    }
    resize(rows, columns);
    programs_end_ = vmcow::sys::open_file(name.data(), O_RDWR | O_NOCTTY);
}

void Terminal::type(std::string_view keys) const {
    vmcow::sys::write_all(keyboard_.get(), std::as_bytes(std::span(keys)), "keyboard");
}

void Terminal::resize(std::size_t rows, std::size_t columns) {
    winsize size{};
    size.ws_row = static_cast<unsigned short>(rows);
    size.ws_col = static_cast<unsigned short>(columns);
    (void)ioctl(keyboard_.get(), TIOCSWINSZ, &size);
    screen_.resize(rows, columns);
}

bool Terminal::show_more(Deadline deadline) {
    std::array<pollfd, 1> wanted{pollfd{keyboard_.get(), POLLIN, 0}};
    if (procrun::poll_until(wanted, deadline, "terminal") == 0) return false;
    std::array<char, 4096> bytes{};
    const ssize_t got = read(keyboard_.get(), bytes.data(), bytes.size());
    if (got <= 0) return false;
    const std::string_view more(bytes.data(), static_cast<std::size_t>(got));
    sent_ += more;
    screen_.write(more);
    return true;
}

OnTerminal::OnTerminal(std::vector<std::string> argv, std::size_t rows, std::size_t columns)
    : terminal_(rows, columns) {
    if (!terminal_) return;
    argv.insert(argv.begin(), {"setsid", "--ctty", "--wait"});
    auto started = procrun::Program(argv)
                       .descriptor(0, terminal_.fd())
                       .descriptor(1, terminal_.fd())
                       .descriptor(2, terminal_.fd())
                       .die_with_parent()
                       .start();
    process_ = std::get<procrun::Process>(std::move(started));
    // When the last program closes the terminal, its output ends.
    terminal_.close_fd();
}

bool OnTerminal::shows(std::string_view text) {
    const Deadline deadline = Deadline::in(kLong);
    while (shown().find(text) == std::string::npos) {
        if (!terminal_.show_more(deadline)) return false;
    }
    return true;
}

void OnTerminal::look_on(std::chrono::milliseconds time) {
    const Deadline deadline = Deadline::in(time);
    while (terminal_.show_more(deadline)) {
    }
}

std::string OnTerminal::end() {
    const Deadline deadline = Deadline::in(kLong);
    while (terminal_.show_more(deadline)) {
    }
    const auto record = process_.wait_until(deadline);
    return record ? record->outcome.describe() : "";
}

}  // namespace tests
