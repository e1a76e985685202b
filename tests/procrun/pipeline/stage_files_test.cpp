// The files and named pipes that stages are redirected to, waiting for their other side, and the search of PATH.
#include "procrun/pipeline/stage_files.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/program/program_path.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::Deadline;
using procrun::FileRefusal;
using procrun::StageFiles;
using procrun::WaitLimits;
using tests::TemporaryDirectory;
using vmcow::sys::UniqueFd;

auto open_files(const std::string& text, const WaitLimits& limits = {}) {
    return procrun::open_stage_files(procrun::parse_pipeline(text), limits);
}

/// The errno with which opening was refused, or 0 when every file was opened.
int refusal_of(const std::string& text, const WaitLimits& limits = {}) {
    const auto opened = open_files(text, limits);
    const auto* refusal = std::get_if<FileRefusal>(&opened);
    return refusal != nullptr ? refusal->outcome.code : 0;
}

std::string make_fifo(const TemporaryDirectory& folder) {
    std::string path = folder / "fifo";
    if (mkfifo(path.c_str(), 0600) != 0) vmcow::sys::throw_errno("mkfifo");
    return path;
}

TEST(StageFilesTest, ThereIsOneForEachRedirectionButDuplications) {
    const auto opened = open_files("a < /dev/null 2>&1 | b | c > /dev/null");
    const auto& files = std::get<std::vector<StageFiles>>(opened);
    ASSERT_EQ(files.size(), 3U);
    ASSERT_EQ(files[0].size(), 2U);
    EXPECT_TRUE(files[0][0]);
    EXPECT_FALSE(files[0][1]);
    EXPECT_TRUE(files[1].empty());
    EXPECT_EQ(fcntl(files[2][0].get(), F_GETFD), FD_CLOEXEC);
}

TEST(StageFilesTest, RefusalNamesTheStageAndTheFile) {
    const auto opened = open_files("a | b < /no/such/file");
    const auto& refusal = std::get<FileRefusal>(opened);
    EXPECT_EQ(refusal.stage, 1U);
    EXPECT_EQ(refusal.outcome.describe(), "open '/no/such/file': No such file or directory");
}

TEST(StageFilesTest, NamedPipeIsReadOnceSomebodyWritesToIt) {
    const TemporaryDirectory folder;
    const std::string fifo = make_fifo(folder);
    std::thread writer([&] {
        const UniqueFd end = vmcow::sys::open_file(fifo, O_WRONLY);
        vmcow::sys::write_all(end.get(), std::as_bytes(std::span("x", 1)), fifo);
    });
    const auto opened = open_files("a < " + fifo);
    writer.join();
    const UniqueFd& end = std::get<std::vector<StageFiles>>(opened)[0][0];
    EXPECT_EQ(fcntl(end.get(), F_GETFL) & O_NONBLOCK, 0);
    std::array<std::byte, 2> bytes{};
    EXPECT_EQ(vmcow::sys::read_full(end.get(), bytes, fifo), 1U);
}

TEST(StageFilesTest, NamedPipeIsWrittenOnceSomebodyReadsIt) {
    const TemporaryDirectory folder;
    const std::string fifo = make_fifo(folder);
    std::thread reader([&] { static_cast<void>(vmcow::sys::open_file(fifo, O_RDONLY)); });
    const auto opened = open_files("a > " + fifo);
    reader.join();
    const UniqueFd& end = std::get<std::vector<StageFiles>>(opened)[0][0];
    EXPECT_EQ(fcntl(end.get(), F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_WRONLY);
}

TEST(StageFilesTest, WaitForTheOtherSideOfANamedPipeEndsAtTheDeadline) {
    const TemporaryDirectory folder;
    const std::string fifo = make_fifo(folder);
    EXPECT_EQ(refusal_of("a < " + fifo, {.deadline = Deadline::in(20ms)}), ETIMEDOUT);
    EXPECT_EQ(refusal_of("a > " + fifo, {.deadline = Deadline::in(20ms)}), ETIMEDOUT);
}

TEST(StageFilesTest, WaitForTheOtherSideOfANamedPipeEndsWhenStopped) {
    const TemporaryDirectory folder;
    const std::string fifo = make_fifo(folder);
    pipes::Pipe stop = pipes::Pipe::open();
    stop.take_write_end().reset();  // end of file makes the stop descriptor readable too
    EXPECT_EQ(refusal_of("a < " + fifo, {.stop_fd = stop.read_end().get()}), ECANCELED);
    EXPECT_EQ(refusal_of("a > " + fifo, {.stop_fd = stop.read_end().get()}), ECANCELED);
}

TEST(PollUntilTest, ReturnsZeroAtTheDeadlineAndTheCountBefore) {
    pipes::Pipe pipe = pipes::Pipe::open();
    std::array<pollfd, 1> entries{pollfd{pipe.read_end().get(), POLLIN, 0}};
    EXPECT_EQ(procrun::poll_until(entries, Deadline::in(1ms), "pipe"), 0);
    pipe.take_write_end().reset();
    EXPECT_EQ(procrun::poll_until(entries, Deadline::never(), "pipe"), 1);
}

TEST(PollUntilTest, MoreEntriesThanDescriptorsIsEinval) {
    const tests::ScopedLimit limit{RLIMIT_NOFILE, 64};
    std::vector<pollfd> entries(65, pollfd{-1, POLLIN, 0});
    EXPECT_EQ(tests::message_of([&] { procrun::poll_until(entries, Deadline::in(0ns), "many"); }).substr(0, 4), "many");
    EXPECT_EQ(tests::error_of([&] { procrun::poll_until(entries, Deadline::in(0ns), "many"); }), EINVAL);
}

TEST(PollUntilTest, EarlierIsTheOneThatComesFirst) {
    const Deadline soon = Deadline::in(1h);
    const Deadline late = Deadline::in(2h);
    for (const Deadline& first :
         {procrun::earlier(soon, late), procrun::earlier(late, soon), procrun::earlier(Deadline::never(), soon),
          procrun::earlier(soon, Deadline::never())}) {
        EXPECT_LE(first.remaining().value(), 1h);
    }
    EXPECT_TRUE(procrun::earlier(Deadline::never(), Deadline::never()).is_never());
}

TEST(ProgramPathTest, NameWithASlashIsItsOwnOnlyPath) {
    EXPECT_EQ(procrun::program_paths("./a"), std::vector<std::string>{"./a"});
    EXPECT_EQ(procrun::program_paths(""), std::vector<std::string>{""});
}

TEST(ProgramPathTest, WhatIsThereAndForbiddenIsToldBeforeWhatIsMissing) {
    const TemporaryDirectory folder;
    static_cast<void>(vmcow::sys::open_file(folder / "tool", O_WRONLY | O_CREAT, 0644));
    const auto refusal_in_path = [&](const std::string& name) {
        return tests::in_child([&] {
            setenv("PATH", (folder.path().string() + ":/no/such/folder").c_str(), 1);
            return procrun::find_missing_program(name).value_or(procrun::Outcome{}).code;
        });
    };
    EXPECT_EQ(refusal_in_path("tool"), (tests::ChildEnd{EACCES, 0}));
    EXPECT_EQ(refusal_in_path("other"), (tests::ChildEnd{ENOENT, 0}));
    EXPECT_EQ(procrun::find_missing_program((folder / "tool") + "/x")->code, ENOTDIR);
    EXPECT_FALSE(procrun::find_missing_program("sh"));
}

}  // namespace
