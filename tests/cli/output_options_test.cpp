// Every option of the commands that writes a file, with files and disks that cause trouble.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

#include "tests/cli/report_documents.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/bounded_read.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

namespace fs = std::filesystem;

using tests::ChildEnd;
using tests::CommandResult;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;

/// A command with one of its outputs. FILE stands for the name of the output, INPUT for a document to read.
struct Output {
    const char* name;
    std::vector<std::string> words;
    bool streams = false;

    friend void PrintTo(const Output& output, std::ostream* out) { *out << output.name; }
};

std::vector<std::string> words_of(const Output& output, const std::string& file, const std::string& input) {
    std::vector<std::string> words = output.words;
    for (std::string& word : words) {
        if (word == "FILE") word = file;
        if (word == "INPUT") word = input;
    }
    return words;
}

Output run_output(const char* name, const char* option, bool streams) {
    return {
        name, {PROCRUN_COMMAND, "run", "--quiet", "--interval", "10ms", option, "FILE", "--", "sleep 0.1"}, streams};
}

Output watch_output(const char* name, const char* option, bool streams) {
    return {
        name, {VMCOW_COMMAND, "watch", "--quiet", "--interval", "20ms", option, "FILE", "--", "sleep", "0.2"}, streams};
}

Output compare_output(const char* name, const char* option) {
    return {name,
            {VMCOW_COMMAND, "compare", "--size", "64K", "--writes", "10", "--engines", "pages", option, "FILE"},
            false};
}

const char* const kOld = "what was there before\n";

class OutputOptionsTest : public testing::TestWithParam<Output> {
protected:
    OutputOptionsTest() { std::ofstream(input_) << tests::measure_document().dump(); }

    [[nodiscard]] std::vector<std::string> words(const std::string& file) const {
        return words_of(GetParam(), file, input_);
    }
    [[nodiscard]] CommandResult run(const std::string& file) const { return tests::run_command(words(file)); }
    [[nodiscard]] std::ptrdiff_t files() const {
        return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
    }
    void put() const { std::ofstream(path_) << kOld; }

    TemporaryDirectory inputs_;
    TemporaryDirectory folder_;
    std::string input_ = inputs_ / "input.json";
    std::string path_ = folder_ / "file";
};

/// Runs `argv` in place of this child.
int become(const std::vector<std::string>& argv) {
    std::vector<char*> pointers;
    for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    ::execv(pointers[0], pointers.data());
    return 127;
}

TEST_P(OutputOptionsTest, FileIsReplacedAndNothingIsBeside) {
    const CommandResult fresh = run(path_);
    EXPECT_EQ(fresh.end, tests::kChildExitedWell) << fresh.err;
    EXPECT_GT(fs::file_size(path_), 0U);
    put();
    ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
    EXPECT_EQ(run(path_).end, tests::kChildExitedWell);
    EXPECT_EQ(read_text_file(path_).find(kOld), std::string::npos);
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0640U);
    EXPECT_EQ(files(), 1);
}

TEST_P(OutputOptionsTest, OldFileStaysWhereverTheLimitOfAFileIs) {
    put();
    for (const rlim_t most : {0U, 1U, 17U, 60U}) {
        const ChildEnd end = tests::in_child([&] {
            const rlimit limit{most, most};
            if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 126;
            const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
            ::dup2(nowhere, STDERR_FILENO);
            ::dup2(nowhere, STDOUT_FILENO);
            return become(words(path_));
        });
        EXPECT_EQ(end, (ChildEnd{1, 0})) << most;
        EXPECT_EQ(read_text_file(path_), kOld) << most;
        EXPECT_EQ(files(), 1) << most;
    }
}

/// Gives this child its own mounts, in a user namespace when it is not root. Returns false when the kernel refuses.
bool take_own_mounts() {
    const bool is_root = ::geteuid() == 0;
    const std::string map = "0 " + std::to_string(::geteuid()) + " 1\n";
    if (::unshare(CLONE_NEWNS | (is_root ? 0 : CLONE_NEWUSER)) != 0) return false;
    if (!is_root) std::ofstream("/proc/self/uid_map") << map;
    return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

/// The old file and another one fill a disk of two pages.
TEST_P(OutputOptionsTest, OldFileStaysWhereTheDiskIsFull) {
    const auto page = static_cast<std::size_t>(::getpagesize());
    const std::string size = "size=" + std::to_string(2 * page);
    const ChildEnd end = tests::in_child([&] {
        if (!take_own_mounts()) return tests::kNotHere;
        if (::mount("none", folder_.path().c_str(), "tmpfs", 0, size.c_str()) != 0) return tests::kNotHere;
        put();
        std::ofstream(folder_ / "other") << std::string(page, 'x');
        const CommandResult result = run(path_);
        if (result.end != ChildEnd{1, 0}) return 2;
        if (result.err.find("No space left on device") == std::string::npos) return 3;
        if (read_text_file(path_) != kOld) return 4;
        return files() == 2 ? 0 : 5;
    });
    if (end == ChildEnd{tests::kNotHere, 0}) GTEST_SKIP() << "mount namespaces are missing";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST_P(OutputOptionsTest, LinkStaysAndItsTargetIsWritten) {
    fs::create_directory(folder_ / "folder");
    fs::create_symlink("folder/target", path_);
    EXPECT_EQ(run(path_).end, tests::kChildExitedWell);
    EXPECT_TRUE(fs::is_symlink(path_));
    EXPECT_GT(fs::file_size(folder_ / "folder/target"), 0U);
}

TEST_P(OutputOptionsTest, WhatCannotBeAFileIsOneLineThatNamesIt) {
    fs::create_directory(path_);
    for (const std::string& path : {path_, folder_ / "none/file", folder_ / std::string(256, 'n')}) {
        const CommandResult result = run(path);
        EXPECT_EQ(result.end, (ChildEnd{1, 0})) << path;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
        EXPECT_NE(result.err.find(path), std::string::npos) << result.err;
    }
    EXPECT_TRUE(fs::is_directory(path_));
    const std::string longest = folder_ / std::string(255, 'n');
    EXPECT_EQ(run(longest).end, tests::kChildExitedWell);
    EXPECT_EQ(files(), 2);
}

TEST_P(OutputOptionsTest, PipesAndDevicesAreWrittenAsTheyAre) {
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    const vmcow::sys::UniqueFd both = vmcow::sys::open_file(path_, O_RDWR | O_NONBLOCK);
    ASSERT_GT(::fcntl(both.get(), F_SETPIPE_SZ, 1 << 20), 0);
    EXPECT_EQ(run(path_).end, tests::kChildExitedWell);
    char first = 0;
    EXPECT_EQ(::read(both.get(), &first, 1), 1);
    const CommandResult full = run("/dev/full");
    EXPECT_EQ(full.end, (ChildEnd{1, 0}));
    EXPECT_NE(full.err.find("'/dev/full': No space left on device"), std::string::npos) << full.err;
}

TEST_P(OutputOptionsTest, TwoAtOnceEndWithOneWholeFile) {
    const std::string alone = folder_ / "alone";
    ASSERT_EQ(run(alone).end, tests::kChildExitedWell);
    std::string script;
    for (int i = 0; i < 2; ++i) script += "\"$@\" >/dev/null 2>&1 & p" + std::to_string(i) + "=$!\n";
    script += "wait $p0 && wait $p1";
    std::vector<std::string> shell{"sh", "-c", script, "sh"};
    const std::vector<std::string> command = words(path_);
    shell.insert(shell.end(), command.begin(), command.end());
    EXPECT_EQ(tests::run_command(shell).end, tests::kChildExitedWell);
    const std::string text = read_text_file(path_);
    ASSERT_FALSE(text.empty());
    EXPECT_EQ(text.substr(0, 5), read_text_file(alone).substr(0, 5));
    EXPECT_EQ(text.find('\0'), std::string::npos) << "rows of one over rows of the other";
    EXPECT_EQ(files(), 2);
}

std::string name_of(const testing::TestParamInfo<Output>& output) { return output.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Commands, OutputOptionsTest,
    testing::Values(run_output("RunJson", "--json", false), run_output("RunHtml", "--html", false),
                    run_output("RunNdjson", "--ndjson", true), compare_output("CompareCsv", "--csv"),
                    compare_output("CompareHtml", "--html"),
                    Output{"ReportHtml", {VMCOW_COMMAND, "report", "INPUT", "--html", "FILE"}, false}),
    name_of);

/// Separate, because a watched process is not looked at beneath a sanitizer.
INSTANTIATE_TEST_SUITE_P(Watch, OutputOptionsTest,
                         testing::Values(watch_output("WatchNdjson", "--ndjson", true),
                                         watch_output("WatchCsv", "--csv", true),
                                         watch_output("WatchOpenMetrics", "--openmetrics", false),
                                         watch_output("WatchJson", "--json", false),
                                         watch_output("WatchHtml", "--html", false)),
                         name_of);

/// What --record and --folded write depends on what is seen, but how they write it does not.
TEST(WatchOutputTest, RecordAndFoldedKeepTheOldFileToo) {
    for (const char* option : {"--record", "--folded"}) {
        const TemporaryDirectory folder;
        const std::string path = folder / "file";
        std::ofstream(path) << kOld;
        const ChildEnd end = tests::in_child([&] {
            const rlimit limit{1, 1};
            if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 126;
            const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
            ::dup2(nowhere, STDERR_FILENO);
            return become(
                {VMCOW_COMMAND, "watch", "--quiet", "--interval", "20ms", option, path, "--", "sleep", "0.1"});
        });
        EXPECT_EQ(end.signal, 0) << option;
        const std::string text = read_text_file(path);
        EXPECT_TRUE(text == kOld || text.empty()) << option << ": " << text;
        EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1) << option;
    }
}

// ---- what is read

/// Runs `argv` with 4 GiB of address space and a short time limit, so that a read without an end is noticed.
CommandResult read_bounded(std::vector<std::string> argv, const std::string& input = {}) {
    std::vector<std::string> limited{"sh", "-c", "ulimit -v 4194304; exec timeout 60 \"$@\"", "sh"};
    limited.insert(limited.end(), argv.begin(), argv.end());
    return tests::run_command(limited, {.text = input, .environment = {}, .out_path = {}});
}

void expect_one_line(const CommandResult& result, int status, const std::string& text) {
    EXPECT_EQ(result.end, (ChildEnd{status, 0})) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
}

TEST(InputOptionsTest, MemoryForInputsThatNeverEndIsBounded) {
    expect_one_line(read_bounded({PROCRUN_COMMAND, "run", "--file", "/dev/zero"}), 2,
                    "/dev/zero: larger than a pipeline can be: 16.0 MiB");
    expect_one_line(read_bounded({"sh", "-c", "exec \"$@\" < /dev/zero", "sh", PROCRUN_COMMAND, "run", "--file", "-"}),
                    2, "standard input: larger than a pipeline can be");
    for (const char* verb : {"measure", "compare"}) {
        expect_one_line(read_bounded({VMCOW_COMMAND, verb, "--trace", "/dev/zero"}), 2,
                        "--trace: /dev/zero: not a trace");
    }
    expect_one_line(read_bounded({VMCOW_COMMAND, "report", "--text", "/dev/zero"}), 1,
                    "'/dev/zero' is larger than a report can take");
    expect_one_line(read_bounded({PROCRUN_COMMAND, "run", "--value", "/dev/zero", "--", "true"}), 1,
                    "not a regular file");
}

TEST(InputOptionsTest, PipesAreRead) {
    const TemporaryDirectory folder;
    const std::string fifo = folder / "pipe";
    const auto through_pipe = [&](const std::string& text, const std::vector<std::string>& argv) {
        fs::remove(fifo);
        EXPECT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
        std::vector<std::string> shell{"sh", "-c", "printf '" + text + "' > " + fifo + " & exec \"$@\"", "sh"};
        shell.insert(shell.end(), argv.begin(), argv.end());
        return tests::run_command(shell);
    };
    const CommandResult run =
        through_pipe("[[stage]]\\nrun = \"echo here\"\\n", {PROCRUN_COMMAND, "run", "--quiet", "--file", fifo});
    EXPECT_EQ(run.out, "here\n") << run.err;
    const CommandResult measure =
        through_pipe("0,8\\n4096,8\\n", {VMCOW_COMMAND, "measure", "--trace", fifo, "--json"});
    EXPECT_EQ(measure.end, tests::kChildExitedWell) << measure.err;
}

TEST(InputOptionsTest, FileJustWithinTheLimitIsReadAndOneByteMoreIsNot) {
    const TemporaryDirectory folder;
    const std::string path = folder / "file";
    std::ofstream(path) << std::string(1000, 'x');
    EXPECT_EQ(vmcow::sys::read_at_most(path, 1000), std::string(1000, 'x'));
    EXPECT_EQ(vmcow::sys::read_at_most(path, 999), std::nullopt);
    EXPECT_EQ(vmcow::sys::read_at_most("/proc/self/stat", 3), std::nullopt) << "its size is unknown";
    EXPECT_EQ(vmcow::sys::read_at_most("/dev/null", 0), "");
    EXPECT_EQ(vmcow::sys::read_at_most("/dev/zero", 3 << 20), std::nullopt);
    EXPECT_EQ(tests::error_of([&] { (void)vmcow::sys::read_at_most(folder.path().string(), 10); }), EISDIR);
}

}  // namespace
