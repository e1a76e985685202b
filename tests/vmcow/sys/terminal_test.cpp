// Tests asking a terminal for its device, size, modes and foreground job.
#include "vmcow/sys/terminal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using namespace vmcow::sys;
using tests::closed_descriptor;
using tests::kChildExitedWell;

/// A pseudo terminal; this process plays the person in front of it.
class PseudoTerminal {
public:
    PseudoTerminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        std::array<char, 128> name{};
        if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0) return;
        if (::ptsname_r(master_.get(), name.data(), name.size()) != 0) return;
        path_ = name.data();
        slave_ = open_file(path_, O_RDWR | O_NOCTTY);
    }
    [[nodiscard]] bool is_there() const { return static_cast<bool>(slave_); }
    [[nodiscard]] int fd() const { return slave_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] dev_t device() const {
        struct stat status {};
        return ::fstat(slave_.get(), &status) == 0 ? status.st_rdev : 0;
    }

private:
    UniqueFd master_;
    UniqueFd slave_;
    std::string path_;
};

class TerminalTest : public testing::Test {
protected:
    void SetUp() override {
        if (!terminal_.is_there()) GTEST_SKIP() << "no pseudo terminals (/dev/ptmx)";
    }

    /// Runs `body` in a child that leads a session on this terminal.
    [[nodiscard]] tests::ChildEnd in_session(const std::function<int()>& body) const {
        return tests::in_child([&] {
            if (::setsid() < 0 || ::ioctl(terminal_.fd(), TIOCSCTTY, 0) != 0) return 100;
            tests::set_action(SIGHUP, SIG_IGN);
            return body();
        });
    }

    void set_flags(tcflag_t on, tcflag_t off) const {
        termios mode{};
        ASSERT_EQ(::tcgetattr(terminal_.fd(), &mode), 0);
        mode.c_lflag = (mode.c_lflag | on) & ~off;
        ASSERT_EQ(::tcsetattr(terminal_.fd(), TCSANOW, &mode), 0);
    }

    const PseudoTerminal terminal_;
    const UniqueFd none_ = open_file("/dev/null", O_RDWR);
};

TEST_F(TerminalTest, DeviceIsThatOfItsFile) {
    EXPECT_EQ(terminal_device(terminal_.fd()), terminal_.device());
    EXPECT_EQ(terminal_device(none_.get()), std::nullopt);
    EXPECT_EQ(terminal_device(closed_descriptor()), std::nullopt);
}

TEST_F(TerminalTest, OwnTerminalOfASessionLeadsToTheDevice) {
    EXPECT_EQ(in_session([&] {
                  const UniqueFd own = open_file("/dev/tty", O_RDWR);
                  if (terminal_device(own.get()) != terminal_.device()) return 1;
                  return terminal_files(own.get()) == std::vector<std::string>{terminal_.path(), "/dev/tty"} ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST_F(TerminalTest, FilesAreItsOwnAndEverybodys) {
    EXPECT_EQ(terminal_files(terminal_.fd()),
              (std::vector<std::string>{"/proc/self/fd/" + std::to_string(terminal_.fd()), "/dev/tty"}));
    EXPECT_EQ(terminal_files(none_.get()), std::vector<std::string>());
    EXPECT_EQ(terminal_files(-1), std::vector<std::string>());
}

TEST_F(TerminalTest, FileThatMayLeadThereIsTheTerminalOrAnAlias) {
    const PseudoTerminal other;
    const tests::TemporaryDirectory folder;
    EXPECT_TRUE(may_lead_to_terminal(terminal_.path(), terminal_.device()));
    EXPECT_TRUE(may_lead_to_terminal("/dev/tty", terminal_.device()));
    EXPECT_FALSE(may_lead_to_terminal(other.path(), terminal_.device()));
    EXPECT_FALSE(may_lead_to_terminal("/dev/null", terminal_.device()));
    EXPECT_FALSE(may_lead_to_terminal(folder.path().string(), terminal_.device()));
    EXPECT_FALSE(may_lead_to_terminal(folder / "none", terminal_.device()));
}

TEST_F(TerminalTest, SizeIsWhatTheTerminalHasOrTheUsualOne) {
    const auto is = [&](int fd, std::size_t rows, std::size_t columns) {
        const TerminalSize size = terminal_size(fd);
        return size.rows == rows && size.columns == columns;
    };
    EXPECT_TRUE(is(terminal_.fd(), 24, 80)) << "it does not know";
    winsize size{.ws_row = 50, .ws_col = 132, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::ioctl(terminal_.fd(), TIOCSWINSZ, &size), 0);
    EXPECT_TRUE(is(terminal_.fd(), 50, 132));
    size.ws_row = 0;
    ASSERT_EQ(::ioctl(terminal_.fd(), TIOCSWINSZ, &size), 0);
    EXPECT_TRUE(is(terminal_.fd(), 24, 80));
    EXPECT_TRUE(is(none_.get(), 24, 80));
}

TEST_F(TerminalTest, LinesAreEchoedUnlessAProgramReadsKeysOrAPassword) {
    set_flags(ICANON | ECHO, 0);
    EXPECT_TRUE(echoes_lines(terminal_.fd()));
    set_flags(ICANON, ECHO);
    EXPECT_FALSE(echoes_lines(terminal_.fd()));
    set_flags(ECHO, ICANON);
    EXPECT_FALSE(echoes_lines(terminal_.fd()));
    EXPECT_FALSE(echoes_lines(none_.get()));
}

TEST_F(TerminalTest, JobInTheBackgroundDoesNotHaveIt) {
    EXPECT_EQ(in_session([&] {
                  if (!is_in_foreground(terminal_.fd())) return 1;
                  return tests::in_child([&] {
                             if (::setpgid(0, 0) != 0) return 1;
                             return is_in_foreground(terminal_.fd()) ? 2 : 0;
                         }) == kChildExitedWell
                             ? 0
                             : 2;
              }),
              kChildExitedWell);
}

TEST_F(TerminalTest, ProcessWhoseChildHasItIsInTheForeground) {
    EXPECT_EQ(in_session([&] {
                  tests::set_action(SIGTTOU, SIG_IGN);
                  const pid_t child = ::fork();
                  while (child == 0) ::pause();
                  if (child < 0 || ::setpgid(child, child) != 0 || ::tcsetpgrp(terminal_.fd(), child) != 0) return 1;
                  const bool is_ours = is_in_foreground(terminal_.fd());
                  signal_process(child, SIGKILL);
                  return ::waitpid(child, nullptr, 0) == child && is_ours ? 0 : 2;
              }),
              kChildExitedWell);
}

TEST_F(TerminalTest, TerminalOfAnotherSessionSendsNobodyToTheBackground) {
    EXPECT_TRUE(is_in_foreground(terminal_.fd()));
    EXPECT_TRUE(is_in_foreground(none_.get()));
}

TEST_F(TerminalTest, StoppedOutputTakesNothing) {
    EXPECT_TRUE(takes_output(terminal_.fd()));
    ASSERT_EQ(::tcflow(terminal_.fd(), TCOOFF), 0);
    EXPECT_FALSE(takes_output(terminal_.fd()));
    ASSERT_EQ(::tcflow(terminal_.fd(), TCOON), 0);
    EXPECT_TRUE(takes_output(terminal_.fd()));
    EXPECT_FALSE(takes_output(closed_descriptor()));
}

}  // namespace
