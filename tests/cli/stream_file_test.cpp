// StreamFile: a file that is written row by row, and old content that stays until the rows are complete.
#include "vmcow/cli/kit/stream_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/support.hpp"
#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

namespace fs = std::filesystem;

using tests::error_of;
using tests::message_of;
using vmcow::cli::OutputFile;
using vmcow::cli::StreamFile;

class StreamFileTest : public testing::Test {
protected:
    void put(const std::string& text) const { std::ofstream(path_) << text; }
    [[nodiscard]] std::string get() const { return vmcow::sys::read_text_file(path_); }
    [[nodiscard]] std::ptrdiff_t files() const {
        return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
    }

    tests::TemporaryDirectory folder_;
    std::string path_ = folder_ / "rows";
};

/// Limits the size of files to 4 bytes, so that two rows fit and no more.
class RowLimit {
public:
    RowLimit() { tests::set_action(SIGXFSZ, SIG_DFL); }

private:
    tests::ScopedLimit limit_{RLIMIT_FSIZE, 4};
};

TEST_F(StreamFileTest, NewFileCanBeFollowedFromItsFirstPieceOn) {
    StreamFile stream(path_);
    EXPECT_EQ(get(), "");
    stream.write("a\n");
    EXPECT_EQ(get(), "a\n");
    stream.write("b\n");
    stream.finish();
    EXPECT_EQ(get(), "a\nb\n");
    EXPECT_EQ(files(), 1);
}

TEST_F(StreamFileTest, EmptyFileHasNothingToLoseEither) {
    put("");
    ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
    StreamFile stream(path_);
    stream.write("a\n");
    EXPECT_EQ(get(), "a\n");
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0640U);
}

TEST_F(StreamFileTest, FileWithContentStaysUntilTheStreamHasEndedWell) {
    put("old\n");
    ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
    StreamFile stream(path_);
    stream.write("new\n");
    EXPECT_EQ(get(), "old\n");
    stream.finish();
    EXPECT_EQ(get(), "new\n");
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0640U);
    EXPECT_EQ(files(), 1);
}

TEST_F(StreamFileTest, FileWithContentStaysWhenTheDiskIsFull) {
    put("old\n");
    StreamFile stream(path_);
    const std::string message = [&] {
        const RowLimit limit;
        stream.write("a\nb\n");
        return message_of([&] { stream.write("c\n"); });
    }();
    EXPECT_EQ(message, "write '" + path_ + "': File too large");
    EXPECT_EQ(files(), 1) << "what is lost gives its blocks back at once";
    stream.write("d\n");
    stream.finish();
    EXPECT_EQ(get(), "old\n");
}

TEST_F(StreamFileTest, WhatWasWrittenToANewFileStaysWhenTheDiskIsFull) {
    StreamFile stream(path_);
    {
        const RowLimit limit;
        stream.write("a\nb\n");
        EXPECT_EQ(error_of([&] { stream.write("c\n"); }), EFBIG);
    }
    stream.write("d\n");
    stream.finish();
    EXPECT_EQ(get(), "a\nb\n");
}

TEST_F(StreamFileTest, WithoutItsEndOldContentStaysAndAnEmptyFileOfOursGoes) {
    { const StreamFile stream(path_); }
    EXPECT_EQ(files(), 0);
    put("old\n");
    {
        StreamFile stream(path_);
        stream.write("new\n");
    }
    EXPECT_EQ(get(), "old\n");
    put("");
    { const StreamFile stream(path_); }
    EXPECT_EQ(files(), 1) << "it was there before";
}

TEST_F(StreamFileTest, StreamWithoutARowReplacesWhatWasThere) {
    put("old\n");
    StreamFile stream(path_);
    stream.finish();
    EXPECT_EQ(get(), "");
}

TEST_F(StreamFileTest, TwoWritersDoNotMixTheirRows) {
    for (const bool was_there : {false, true}) {
        fs::remove(path_);
        if (was_there) put("");
        StreamFile first(path_);
        StreamFile second(path_);
        first.write("1\n");
        second.write("2\n");
        first.write("1\n");
        second.write("2\n");
        EXPECT_EQ(get(), "1\n1\n");
        second.finish();
        EXPECT_EQ(get(), "2\n2\n");
        first.write("1\n");
        first.finish();
        EXPECT_EQ(get(), "2\n2\n");
        EXPECT_EQ(files(), 1);
    }
}

TEST_F(StreamFileTest, LinkStaysAndItsTargetIsWritten) {
    fs::create_directory(folder_ / "folder");
    fs::create_symlink("folder/target", path_);
    for (const char* text : {"a\n", "b\n"}) {
        StreamFile stream(path_);
        stream.write(text);
        stream.finish();
        EXPECT_TRUE(fs::is_symlink(path_));
        EXPECT_EQ(vmcow::sys::read_text_file(folder_ / "folder/target"), text);
    }
}

TEST_F(StreamFileTest, NameAsLongAsANameCanBeIsWritten) {
    path_ = folder_ / std::string(255, 'n');
    for (const char* text : {"a\n", "b\n"}) {
        StreamFile stream(path_);
        stream.write(text);
        stream.finish();
        EXPECT_EQ(get(), text);
    }
    EXPECT_EQ(error_of([&] { StreamFile(folder_ / std::string(256, 'n')); }), ENAMETOOLONG);
}

TEST_F(StreamFileTest, WhatCannotBeWrittenIsSaidBeforeTheWork) {
    EXPECT_EQ(message_of([&] { StreamFile(folder_ / "none/rows"); }),
              "write '" + (folder_ / "none/rows") + "': No such file or directory");
    EXPECT_EQ(error_of([&] { StreamFile{folder_.path().string()}; }), EISDIR);
    EXPECT_EQ(error_of([] { StreamFile(""); }), ENOENT);
    // Not even root can make files in sysfs.
    EXPECT_NE(error_of([] { StreamFile("/sys/kernel/rows"); }), 0);
    fs::create_symlink("rows", path_);
    EXPECT_EQ(error_of([&] { StreamFile{path_}; }), ELOOP);
}

/// Runs as a user whom permission bits bind.
TEST_F(StreamFileTest, ReadOnlyFilesAndFoldersAreNotWritten) {
    put("old\n");
    for (const auto& [file_mode, folder_mode] : {std::pair{0444, 0777}, std::pair{0666, 0555}}) {
        ASSERT_EQ(::chmod(path_.c_str(), static_cast<mode_t>(file_mode)), 0);
        ASSERT_EQ(::chmod(folder_.path().c_str(), static_cast<mode_t>(folder_mode)), 0);
        EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                      if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;
                      if (error_of([&] { StreamFile{path_}; }) != EACCES) return 3;
                      return error_of([&] { OutputFile{path_}; }) == EACCES ? 0 : 4;
                  }))
            << std::oct << file_mode << " in " << folder_mode;
    }
    ASSERT_EQ(::chmod(folder_.path().c_str(), 0700), 0);
    EXPECT_EQ(get(), "old\n");
    EXPECT_EQ(files(), 1);
}

TEST_F(StreamFileTest, PipesDevicesAndDescriptorsAreWrittenAsTheyAre) {
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    const vmcow::sys::UniqueFd reader = vmcow::sys::open_file(path_, O_RDONLY | O_NONBLOCK);
    StreamFile stream(path_);
    stream.write("row\n");
    std::array<std::byte, 4> row{};
    EXPECT_EQ(vmcow::sys::read_full(reader.get(), row, path_), 4U);
    stream.finish();
    EXPECT_TRUE(fs::is_fifo(path_));
    StreamFile full("/dev/full");
    EXPECT_EQ(message_of([&] { full.write("x"); }), "write '/dev/full': No space left on device");
    StreamFile null("/dev/null");
    null.write("x");
    null.finish();
}

// A file that was opened for the command, as by a shell's 3>FILE, is written in place and not replaced.
TEST_F(StreamFileTest, FileBehindADescriptorIsContinued) {
    put("old\n");
    const vmcow::sys::UniqueFd file = vmcow::sys::open_file(path_, O_WRONLY | O_APPEND);
    const std::string name = "/dev/fd/" + std::to_string(file.get());
    StreamFile stream(name);
    stream.write("row\n");
    stream.finish();
    OutputFile(name).write("all\n");
    EXPECT_EQ(get(), "old\nrow\nall\n");
    EXPECT_NE(error_of([] { StreamFile("/dev/fd/1000000"); }), 0);
}

}  // namespace
