// Tests files that get their name only when they are complete, and the removal of files of dead writers.
#include "vmcow/sys/unfinished_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/names_in.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/replaced_file.hpp"

namespace {

namespace fs = std::filesystem;
namespace sys = vmcow::sys;

using sys::ReplacedFile;
using sys::UnfinishedFile;
using tests::error_of;
using tests::message_of;
using tests::names_in;
using tests::TemporaryDirectory;
using Way = UnfinishedFile::Way;

/// Runs each test with both ways of an UnfinishedFile.
class UnfinishedFileTest : public testing::TestWithParam<Way> {
protected:
    [[nodiscard]] std::set<std::string> names() const { return names_in(directory_.path()); }
    /// Makes the file that a killed writer would leave behind.
    void leave_behind(unsigned number) const {
        std::ofstream(directory_ / (".vmcow-" + std::to_string(number) + ".tmp")) << "rest";
    }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "file";
};

INSTANTIATE_TEST_SUITE_P(Ways, UnfinishedFileTest, testing::Values(Way::best, Way::named),
                         [](const auto& way) { return way.param == Way::best ? "Best" : "Named"; });

TEST_P(UnfinishedFileTest, WhatLivingWritersHoldStaysAndWhatTheDeadHeldGoes) {
    UnfinishedFile first(directory_.path(), "first", 0666, Way::named);
    leave_behind(1);
    leave_behind(2);
    leave_behind(9);
    UnfinishedFile second(directory_.path(), "second", 0666, Way::named);
    EXPECT_EQ(names(), (std::set<std::string>{".vmcow-0.tmp", ".vmcow-1.tmp"}));
    {
        const UnfinishedFile third(directory_.path(), "third", 0666, GetParam());
        EXPECT_EQ(names().size(), GetParam() == Way::named ? 3U : 2U);
    }
    EXPECT_EQ(names().size(), 2U);
    first.take_name(path_);
    second.take_name(path_);
    EXPECT_EQ(names(), std::set<std::string>{"file"});
}

TEST_P(UnfinishedFileTest, WhatIsNoFileOfAWriterStays) {
    fs::create_directory(directory_ / ".vmcow-0.tmp");
    ASSERT_EQ(::mkfifo((directory_ / ".vmcow-1.tmp").c_str(), 0600), 0);
    std::ofstream(directory_ / "precious") << "text";
    fs::create_symlink("precious", directory_ / ".vmcow-2.tmp");
    std::ofstream(path_) << "old";
    UnfinishedFile(directory_.path(), "write", 0666, GetParam()).take_name(path_);
    EXPECT_EQ(names(), (std::set<std::string>{".vmcow-0.tmp", ".vmcow-1.tmp", ".vmcow-2.tmp", "file", "precious"}));
    EXPECT_EQ(fs::file_size(path_), 0U);
    EXPECT_EQ(fs::file_size(directory_ / "precious"), 4U);
}

TEST_P(UnfinishedFileTest, FileWithoutANameIsNowhere) {
    const sys::UniqueFd file = UnfinishedFile(directory_.path(), "open", 0600, GetParam()).without_name();
    EXPECT_EQ(names(), std::set<std::string>{});
    struct stat status {};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0600U);
    EXPECT_EQ(status.st_nlink, 0U);
}

TEST_P(UnfinishedFileTest, ManyWritersAtOnceEndWithOneWholeFile) {
    constexpr int kWriters = 8;
    constexpr int kTimes = 100;
    std::vector<std::thread> writers;
    for (int i = 0; i < kWriters; ++i) {
        writers.emplace_back([&, i] {
            const std::string text(10'000, static_cast<char>('a' + i));
            for (int k = 0; k < kTimes; ++k) {
                ReplacedFile file(path_, GetParam());
                sys::write_all(file.fd(), std::as_bytes(std::span(text)), path_);
                file.rename(false);
            }
        });
    }
    for (std::thread& writer : writers) writer.join();
    const std::string text = sys::read_text_file(path_);
    EXPECT_EQ(text, std::string(10'000, text.front()));
    EXPECT_EQ(names(), std::set<std::string>{"file"});
}

TEST_P(UnfinishedFileTest, FileTakesThePlaceOfWhatIsThere) {
    std::ofstream(path_) << "old";
    UnfinishedFile file(directory_.path(), "write", 0666, GetParam());
    EXPECT_EQ(::fcntl(file.fd(), F_GETFD), FD_CLOEXEC);
    ASSERT_EQ(::write(file.fd(), "longer", 6), 6);
    EXPECT_EQ(fs::file_size(path_), 3U);
    file.take_name(path_);
    EXPECT_EQ(fs::file_size(path_), 6U);
    EXPECT_EQ(names(), std::set<std::string>{"file"});
}

TEST_P(UnfinishedFileTest, FileThatTakesNoNameIsGone) {
    { const UnfinishedFile file(directory_.path(), "write", 0666, GetParam()); }
    EXPECT_EQ(names(), std::set<std::string>{});
}

TEST_P(UnfinishedFileTest, FolderThatIsNotThereIsEnoentWithTheMessage) {
    const auto open = [&] { const UnfinishedFile file(directory_.path() / "none", "write it", 0666, GetParam()); };
    EXPECT_EQ(error_of(open), ENOENT);
    EXPECT_EQ(message_of(open).find("write it"), 0U);
}

TEST_P(UnfinishedFileTest, FileInPlaceOfAFolderIsEnotdir) {
    std::ofstream(path_) << "text";
    EXPECT_EQ(error_of([&] { const UnfinishedFile file(path_, "write", 0666, GetParam()); }), ENOTDIR);
}

TEST_P(UnfinishedFileTest, FolderThatMayNotBeWrittenIsEacces) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    fs::permissions(directory_.path(), fs::perms::owner_all | fs::perms::others_read | fs::perms::others_exec);
    const tests::ChildEnd end = tests::in_child([&] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return error_of([&] { const UnfinishedFile file(directory_.path(), "write", 0666, GetParam()); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{EACCES, 0}));
}

TEST_P(UnfinishedFileTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([&] { const UnfinishedFile file(directory_.path(), "write", 0666, GetParam()); }), EMFILE);
}

TEST_P(UnfinishedFileTest, FolderIsNotReplaced) {
    fs::create_directory(path_);
    UnfinishedFile file(directory_.path(), "write", 0666, GetParam());
    EXPECT_EQ(error_of([&] { file.take_name(path_); }), EISDIR);
    EXPECT_EQ(error_of([&] { file.take_name(directory_.path() / "none" / "file"); }), ENOENT);
    EXPECT_TRUE(fs::is_directory(path_));
    file.take_name(directory_ / "other");
    EXPECT_EQ(names(), (std::set<std::string>{"file", "other"})) << "it can take another name still";
}

TEST_P(UnfinishedFileTest, NoFreeNameIsEexist) {
    constexpr unsigned kNames = 4096;
    for (unsigned number = 0; number < kNames; ++number) {
        fs::create_directory(directory_ / (".vmcow-" + std::to_string(number) + ".tmp"));
    }
    if (GetParam() == Way::named) {
        EXPECT_EQ(error_of([&] { const UnfinishedFile file(directory_.path(), "write", 0666, Way::named); }), EEXIST);
        return;
    }
    std::ofstream(path_) << "old";
    UnfinishedFile file(directory_.path(), "write");
    EXPECT_EQ(error_of([&] { file.take_name(path_); }), EEXIST);
    EXPECT_EQ(fs::file_size(path_), 3U);
}

}  // namespace
