// What a terminal shows during --progress or a watch while programs print there, too.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/cli/on_terminal.hpp"
#include "tests/support/support.hpp"
#include "vmcow/cli/kit/status_display.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using std::chrono::milliseconds;
using tests::OnTerminal;
using tests::Screen;
using Lines = std::vector<std::string>;

struct Size {
    std::size_t rows;
    std::size_t columns;
};
constexpr Size kUsual{24, 80};
constexpr Size kTiny{6, 20};

OnTerminal progress(const std::string& pipeline, Size size = kUsual, const Lines& flags = {}) {
    Lines argv{PROCRUN_COMMAND, "run", "--progress", "--quiet"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    argv.insert(argv.end(), {"--", pipeline});
    return OnTerminal(argv, size.rows, size.columns);
}

/// The lines that begin with `word`, as the programs of the tests print them.
Lines those_with(const Screen& screen, std::string_view word) {
    Lines found;
    for (const std::string& line : screen.lines()) {
        if (line.starts_with(word)) found.push_back(line);
    }
    return found;
}

Lines numbered(const std::string& word, int count) {
    Lines lines;
    for (int i = 1; i <= count; ++i) lines.push_back(word + std::to_string(i));
    return lines;
}

/// A program that prints on both of its outputs for three seconds.
const std::string kPrinting = "for i in 1 2 3 4 5 6; do echo out $i; echo err $i >&2; sleep 0.5; done";

bool goes_up(const std::string& shown) { return shown.find("A\r") != std::string::npos; }

void expect_whole(const Screen& screen) {
    EXPECT_TRUE(screen.is_as_at_first());
    EXPECT_EQ(screen.unknown(), "");
}

class TerminalDisplayTest : public testing::TestWithParam<Size> {
protected:
    void SetUp() override {
        if (!tests::Terminal(kUsual.rows, kUsual.columns)) GTEST_SKIP() << "pseudo-terminals are missing";
    }
};

void PrintTo(const Size& size, std::ostream* out) { *out << size.rows << " x " << size.columns; }

INSTANTIATE_TEST_SUITE_P(Sizes, TerminalDisplayTest, testing::Values(kUsual, kTiny),
                         [](const auto& size) { return size.param.rows == kTiny.rows ? "Tiny" : "Usual"; });

// ---- where programs print

TEST_P(TerminalDisplayTest, EveryLineOfTheStagesIsThereOnceAndInOrder) {
    OnTerminal command = progress("sh -c '" + kPrinting + "' | cat", GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(those_with(command.screen(), "out"), numbered("out ", 6)) << command.screen().text();
    EXPECT_EQ(those_with(command.screen(), "err"), numbered("err ", 6)) << command.screen().text();
    EXPECT_FALSE(those_with(command.screen(), "procrun run:").empty()) << command.screen().text();
    expect_whole(command.screen());
}

TEST_P(TerminalDisplayTest, WhatTheLastStagePrintsAtTheEndStays) {
    OnTerminal command = progress("sh -c 'seq 30; sleep 1' | sort -rn | tail -n 3", GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(command.screen().lines(), (Lines{"3", "2", "1"}));
}

TEST_P(TerminalDisplayTest, WhatAStagePrintsOnStandardErrorAloneStays) {
    OnTerminal command = progress("sh -c '" + kPrinting + "' > /dev/null", GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(those_with(command.screen(), "err"), numbered("err ", 6)) << command.screen().text();
}

TEST_P(TerminalDisplayTest, WhatIsRedirectedToTheTerminalStays) {
    OnTerminal command = progress("sh -c '" + kPrinting + "' > /dev/tty 2> /dev/null", GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(those_with(command.screen(), "out"), numbered("out ", 6)) << command.screen().text();
    EXPECT_FALSE(goes_up(command.shown()));
}

TEST_P(TerminalDisplayTest, ALineWithoutItsEndStaysAndTheProgressBeginsBelow) {
    OnTerminal command = progress("sh -c 'printf Name:; sleep 3; echo \" end\"'", GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    const Lines lines = command.screen().lines();
    ASSERT_GE(lines.size(), 3U);
    EXPECT_EQ(lines[0], "Name:");
    EXPECT_TRUE(lines[1].starts_with("procrun run:")) << command.screen().text();
    EXPECT_EQ(lines.back(), " end");
}

TEST_P(TerminalDisplayTest, TheTableAtTheEndBeginsOnALineOfItsOwn) {
    const auto lines_of = [](const std::string& pipeline) {
        OnTerminal command({PROCRUN_COMMAND, "run", "--progress", "--", pipeline}, GetParam().rows, GetParam().columns);
        EXPECT_EQ(command.end(), "exit 0");
        return command.screen().lines();
    };
    const Lines below = lines_of("printf unfinished");
    ASSERT_GE(below.size(), 2U);
    EXPECT_EQ(below[0], "unfinished");
    EXPECT_TRUE(below[1].starts_with("stage")) << below[1];
    const Lines alone = lines_of("true");
    ASSERT_FALSE(alone.empty());
    EXPECT_TRUE(alone[0].starts_with("stage")) << alone[0];
}

TEST_F(TerminalDisplayTest, LinesOfSamplesOnTheSameTerminalStay) {
    OnTerminal command = progress("sleep 1 > /dev/null 2>&1", kUsual, {"--ndjson", "-"});
    EXPECT_EQ(command.end(), "exit 0");
    std::size_t begun = 0;
    for (std::size_t at = 0; (at = command.shown().find("{\"seconds\"", at)) != std::string::npos; ++at) ++begun;
    const std::string text = command.screen().text();
    for (std::size_t at = 0; (at = text.find("{\"seconds\"", at)) != std::string::npos; ++at) --begun;
    EXPECT_EQ(begun, 0U) << "lines that were taken away";
}

// A program that uses the whole screen draws anywhere on it, and must not find other text there.
TEST_P(TerminalDisplayTest, AProgramThatHasTheWholeScreenKeepsItToItself) {
    OnTerminal command = progress(
        "sh -c 'stty -icanon -echo; printf \"\\033[?1049h\\033[H\\033[2Jfull\"; sleep 3; printf "
        "\"screen-\\033[?1049l\"; "
        "stty icanon echo; echo left'",
        GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_NE(command.shown().find("fullscreen-"), std::string::npos) << command.shown();
    EXPECT_EQ(command.screen().lines(), (Lines{"left"}));
    expect_whole(command.screen());
}

// ---- where no program prints

TEST_P(TerminalDisplayTest, WhereNoStagePrintsATableIsDrawnInPlaceAndTakenAway) {
    OnTerminal command = progress("sleep 1 2> /dev/null | cat > /dev/null 2>&1", GetParam());
    ASSERT_TRUE(command.shows("sleep 1"));
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_TRUE(goes_up(command.shown())) << command.shown();
    EXPECT_EQ(command.screen().lines(), Lines{});
    expect_whole(command.screen());
}

TEST_F(TerminalDisplayTest, ATableIsNoLongerThanTheTerminal) {
    std::string pipeline = "sleep 1 2> /dev/null";
    for (int i = 0; i < 8; ++i) pipeline += " | cat 2> /dev/null";
    OnTerminal command = progress(pipeline + " > /dev/null", kTiny);
    ASSERT_TRUE(command.shows("and 7 more")) << command.shown();
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_TRUE(goes_up(command.shown()));
    EXPECT_EQ(command.screen().lines(), Lines{}) << "rows that have scrolled out";
}

TEST_P(TerminalDisplayTest, WhatAProgramPrintsThatOpensTheTerminalItselfStays) {
    OnTerminal command =
        progress("sh -c 'sleep 0.5; for i in 1 2 3 4 5; do echo tty $i > /dev/tty; sleep 0.3; done' > /dev/null 2>&1",
                 GetParam());
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_TRUE(goes_up(command.shown())) << "before it prints";
    EXPECT_EQ(those_with(command.screen(), "tty"), numbered("tty ", 5)) << command.screen().text();
}

// The table must not draw over what the shell prints meanwhile.
TEST_F(TerminalDisplayTest, WhatTheShellPrintsAfterCtrlZStays) {
    const std::string script = std::string(PROCRUN_COMMAND) +
                               " run --progress --quiet -- 'sleep 2 > /dev/null 2>&1'; echo; for i in 1 2 3 4; do echo "
                               "stopped $i; done; fg > /dev/null; echo ended $?";
    OnTerminal shell({"sh", "-m", "-c", script});
    ASSERT_TRUE(shell.shows("sleep 2"));
    shell.type("\x1a");
    ASSERT_TRUE(shell.shows("stopped 4")) << shell.shown();
    EXPECT_EQ(shell.end(), "exit 0");
    EXPECT_EQ(those_with(shell.screen(), "stopped"), numbered("stopped ", 4)) << shell.screen().text();
    EXPECT_EQ(those_with(shell.screen(), "ended"), (Lines{"ended 0"})) << shell.screen().text();
    expect_whole(shell.screen());
}

TEST_F(TerminalDisplayTest, InTheBackgroundNothingIsShown) {
    const std::string script = std::string(PROCRUN_COMMAND) +
                               " run --progress --quiet -- 'sleep 1 > /dev/null 2>&1' & echo begun; wait; echo ended";
    OnTerminal shell({"sh", "-m", "-c", script});
    EXPECT_EQ(shell.end(), "exit 0");
    EXPECT_EQ(shell.screen().lines(), (Lines{"begun", "ended"}));
}

TEST_F(TerminalDisplayTest, AChangeOfTheSizeTakesNothingAway) {
    const std::string script = "for i in 1 2 3; do echo before $i; done; exec " + std::string(PROCRUN_COMMAND) +
                               " run --progress --quiet -- 'sleep 2 2> /dev/null | cat > /dev/null 2>&1'";
    OnTerminal command({"sh", "-c", script}, 24, 80);
    for (const Size size : {Size{10, 40}, Size{3, 12}, Size{30, 100}, Size{1, 1}, Size{24, 80}}) {
        command.look_on(milliseconds{300});
        command.resize(size.rows, size.columns);
    }
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(those_with(command.screen(), "before"), numbered("before ", 3)) << command.screen().text();
    expect_whole(command.screen());
}

// ---- however it ends

TEST_P(TerminalDisplayTest, HoweverItEndsTheTerminalIsWholeAndWhatWasPrintedIsThere) {
    for (const int number : {SIGTERM, SIGINT, SIGKILL, SIGHUP}) {
        for (const char* const stage : {"sh -c 'echo printed; sleep 1000'", "sleep 1000 > /dev/null 2>&1"}) {
            const std::string script =
                "echo before; exec " + std::string(PROCRUN_COMMAND) + " run --progress --quiet -- \"" + stage + "\"";
            OnTerminal command({"sh", "-c", script}, GetParam().rows, GetParam().columns);
            command.look_on(milliseconds{600});
            ASSERT_TRUE(command.process().signal(number));
            EXPECT_NE(command.end(), "");
            EXPECT_EQ(command.screen().lines().at(0), "before") << command.screen().text();
            const bool prints = std::string_view(stage).find("printed") != std::string_view::npos;
            EXPECT_EQ(those_with(command.screen(), "printed").size(), prints ? 1U : 0U) << command.screen().text();
            expect_whole(command.screen());
        }
    }
}

// Ctrl-S stops the terminal's output; a write that waits for Ctrl-Q would keep the command from everything else.
TEST_F(TerminalDisplayTest, AStoppedTerminalDoesNotKeepTheDeadline) {
    OnTerminal command = progress("sleep 1000 > /dev/null 2>&1", kUsual, {"--timeout", "2s"});
    ASSERT_TRUE(command.shows("sleep 1000"));
    command.type("\x13");
    const auto record = command.process().wait_until(procrun::Deadline::in(std::chrono::seconds{30}));
    ASSERT_TRUE(record);
    EXPECT_EQ(record->outcome.describe(), "exit 124");
}

// ---- a watch

TEST_P(TerminalDisplayTest, EveryLineOfAWatchedProgramIsThereOnceAndInOrder) {
    OnTerminal command({VMCOW_COMMAND, "watch", "--interval", "100ms", "--", "sh", "-c", kPrinting}, GetParam().rows,
                       GetParam().columns);
    EXPECT_EQ(command.end(), "exit 0");
    EXPECT_EQ(those_with(command.screen(), "out"), numbered("out ", 6)) << command.screen().text();
    EXPECT_EQ(those_with(command.screen(), "err"), numbered("err ", 6)) << command.screen().text();
    EXPECT_FALSE(those_with(command.screen(), "vmcow watch:").empty()) << command.screen().text();
    expect_whole(command.screen());
}

TEST_P(TerminalDisplayTest, TheSummaryOfAWatchBeginsOnALineOfItsOwn) {
    const auto lines_of = [](const std::string& program) {
        OnTerminal command({VMCOW_COMMAND, "watch", "--", "sh", "-c", program}, GetParam().rows, GetParam().columns);
        EXPECT_EQ(command.end(), "exit 0");
        return command.screen().lines();
    };
    const Lines below = lines_of("printf unfinished; sleep 0.5");
    ASSERT_GE(below.size(), 2U);
    EXPECT_EQ(below[0], "unfinished");
    EXPECT_TRUE(below[1].starts_with("     pid")) << below[1];
    const Lines alone = lines_of("sleep 0.5");
    ASSERT_FALSE(alone.empty());
    EXPECT_TRUE(alone[0].starts_with("     pid")) << alone[0];
}

TEST_P(TerminalDisplayTest, EveryLineOfAProcessOfTheSameTerminalThatIsWatchedIsThere) {
    const std::string script =
        "(sleep 0.5; " + kPrinting + ") & " + VMCOW_COMMAND + " watch --interval 100ms $! > /dev/tty; wait";
    OnTerminal shell({"sh", "-c", script}, GetParam().rows, GetParam().columns);
    EXPECT_EQ(shell.end(), "exit 0");
    EXPECT_EQ(those_with(shell.screen(), "out"), numbered("out ", 6)) << shell.screen().text();
    EXPECT_EQ(those_with(shell.screen(), "err"), numbered("err ", 6)) << shell.screen().text();
}

TEST_P(TerminalDisplayTest, AWatchOfAProcessThatPrintsElsewhereIsDrawnInPlace) {
    // The shell's child has the terminal open until it executes `sleep`.
    const std::string script =
        "sleep 1.3 > /dev/null 2>&1 & sleep 0.3; exec " + std::string(VMCOW_COMMAND) + " watch --interval 100ms $!";
    OnTerminal shell({"sh", "-c", script}, GetParam().rows, GetParam().columns);
    EXPECT_EQ(shell.end(), "exit 0");
    EXPECT_TRUE(goes_up(shell.shown())) << shell.shown();
    EXPECT_EQ(those_with(shell.screen(), "     pid").size(), 1U) << shell.screen().text();
    expect_whole(shell.screen());
}

// ---- the display itself

/// What is on the screen after `body` has used a display.
class StatusDisplayTest : public testing::Test {
protected:
    void SetUp() override {
        if (!terminal_) GTEST_SKIP() << "pseudo-terminals are missing";
    }
    void show(vmcow::cli::StatusDisplay& display, const std::string& text) {
        display.show(
            [&](const vmcow::sys::TerminalSize&) {
                return Lines{"table of " + text, "second line"};
            },
            [&] { return "line of " + text; });
        while (terminal_.show_more(procrun::Deadline::in({}))) {
        }
    }

    tests::Terminal terminal_{kUsual.rows, kUsual.columns};
};

TEST_F(StatusDisplayTest, ATableIsDrawnOverTheOneBefore) {
    vmcow::cli::StatusDisplay display(terminal_.fd(), false);
    show(display, "one");
    show(display, "two");
    EXPECT_EQ(terminal_.screen().lines(), (Lines{"table of two", "second line"}));
}

TEST_F(StatusDisplayTest, WhatSomebodyElseHasPrintedStaysAndSoDoesTheTableAboveIt) {
    vmcow::cli::StatusDisplay display(terminal_.fd(), false);
    show(display, "one");
    ASSERT_EQ(write(terminal_.fd(), "other\n", 6), 6);
    show(display, "two");
    display.clear();
    show(display, "three");
    EXPECT_EQ(terminal_.screen().lines(), (Lines{"table of one", "second line", "other"}));
}

// Without inotify, the writes of other programs stay unseen, and a table that is redrawn could erase them.
TEST_F(StatusDisplayTest, WhereWritesOfOthersCannotBeSeenThereAreLinesAndNoTable) {
    EXPECT_EQ(tests::in_child([&] {
                  const tests::ScopedLimit limit(RLIMIT_NOFILE, 3);
                  vmcow::cli::StatusDisplay display(terminal_.fd(), false);
                  ::usleep(2'100'000);
                  for (int i = 0; i < 2; ++i) {
                      display.show([](const vmcow::sys::TerminalSize&) { return Lines{"table"}; },
                                   [] { return "line"; });
                  }
                  return 0;
              }),
              tests::kChildExitedWell);
    while (terminal_.show_more(procrun::Deadline::in({}))) {
    }
    EXPECT_EQ(terminal_.screen().lines(), (Lines{"", "line"}));
}

TEST_F(StatusDisplayTest, ATextBeginsALineWhereverOthersHaveLeftTheCursor) {
    vmcow::cli::StatusDisplay display(terminal_.fd(), true);
    EXPECT_EQ(display.line_break(), "");
    ASSERT_EQ(write(terminal_.fd(), "other", 5), 5);
    EXPECT_EQ(display.line_break(), "\n");
    EXPECT_EQ(display.line_break(), "\n") << "nothing was printed meanwhile";
}

TEST_F(StatusDisplayTest, WhatIsNoTerminalGetsALineEachTime) {
    const tests::TemporaryDirectory folder;
    const auto file = vmcow::sys::open_file(folder / "lines", O_WRONLY | O_CREAT);
    vmcow::cli::StatusDisplay display(file.get(), false);
    show(display, "one");
    show(display, "two");
    display.clear();
    EXPECT_EQ(display.line_break(), "");
    EXPECT_EQ(vmcow::sys::read_text_file(folder / "lines"), "line of one\nline of two\n");
}

}  // namespace
