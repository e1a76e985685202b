// Tests replacing a file as a whole: until the rename the old file stays.
#include "vmcow/sys/replaced_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/support.hpp"

namespace {

using namespace vmcow;
using tests::error_of;
using tests::TemporaryDirectory;

class ReplacedFileTest : public testing::Test {
protected:
    TemporaryDirectory directory_;
    std::string path_ = directory_ / "file";
};

TEST_F(ReplacedFileTest, NothingIsThereUntilItIsRenamed) {
    {
        const sys::ReplacedFile file(path_);
        EXPECT_FALSE(std::filesystem::exists(path_));
    }
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
    sys::ReplacedFile file(path_);
    file.rename(true);
    EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ReplacedFileTest, OfTwoWritersTheLaterOneToEndHasItsFileThere) {
    sys::ReplacedFile first(path_);
    sys::ReplacedFile second(path_);
    ASSERT_EQ(1, ::write(first.fd(), "1", 1));
    second.rename(false);
    EXPECT_EQ(std::filesystem::file_size(path_), 0U);
    first.rename(false);
    EXPECT_EQ(std::filesystem::file_size(path_), 1U);
}

TEST_F(ReplacedFileTest, RenameThatFailsLeavesTheOldFile) {
    std::ofstream(path_) << "old";
    {
        sys::ReplacedFile file(path_);
        std::filesystem::remove(path_);
        std::filesystem::create_directory(path_);
        EXPECT_EQ(EISDIR, error_of([&] { file.rename(false); }));
    }
    EXPECT_TRUE(std::filesystem::is_directory(path_));
    EXPECT_EQ(1, std::distance(std::filesystem::directory_iterator(directory_.path()), {}));
}

TEST_F(ReplacedFileTest, NothingIsReplacedWhenTheDirectoryCannotBeSynced) {
    std::ofstream(path_) << "old";
    sys::ReplacedFile file(path_);
    {
        const tests::ScopedLimit limit(RLIMIT_NOFILE, static_cast<rlim_t>(file.fd()) + 1);
        EXPECT_EQ(EMFILE, error_of([&] { file.rename(true); }));
    }
    EXPECT_EQ(std::filesystem::file_size(path_), 3U);
    file.rename(true);
    EXPECT_EQ(std::filesystem::file_size(path_), 0U);
}

TEST_F(ReplacedFileTest, WhatCannotBeReplacedIsAnErrorWithThePath) {
    ASSERT_EQ(::mkfifo((directory_ / "pipe").c_str(), 0600), 0);
    const auto error_for = [](const std::string& path) {
        return error_of([&] { const sys::ReplacedFile file(path); });
    };
    EXPECT_EQ(error_for(""), ENOENT);
    EXPECT_EQ(error_for(directory_ / "none/file"), ENOENT);
    EXPECT_EQ(error_for(directory_ / "folder/"), EISDIR);
    EXPECT_EQ(error_for(directory_.path().string()), EISDIR);
    EXPECT_EQ(error_for(directory_ / "pipe"), EINVAL);
    EXPECT_EQ(error_for("/dev/null"), EINVAL);
    EXPECT_EQ(error_for(directory_ / "pipe/file"), ENOTDIR);
    EXPECT_NE(tests::message_of([&] { const sys::ReplacedFile file(directory_ / "pipe"); }).find(directory_ / "pipe"),
              std::string::npos);
    EXPECT_EQ(1, std::distance(std::filesystem::directory_iterator(directory_.path()), {}));
}

// rename(2) alone would replace a read-only file.
TEST_F(ReplacedFileTest, ReadOnlyFileIsEacces) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    std::ofstream(path_) << "old";
    std::filesystem::permissions(path_, std::filesystem::perms::owner_read | std::filesystem::perms::others_read);
    std::filesystem::permissions(directory_.path(), std::filesystem::perms::all);
    const tests::ChildEnd end = tests::in_child([&] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return error_of([&] { const sys::ReplacedFile file(path_); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{EACCES, 0}));
}

TEST_F(ReplacedFileTest, PermissionsAreThoseOfTheOldFileOrWhatTheUmaskLeaves) {
    const auto mode_of = [](const std::string& path) {
        struct stat status {};
        return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0U;
    };
    const mode_t previous = ::umask(027);
    sys::ReplacedFile(path_).rename(false);
    ::umask(previous);
    EXPECT_EQ(mode_of(path_), 0640U);
    ASSERT_EQ(::chmod(path_.c_str(), 0604), 0);
    sys::ReplacedFile(path_).rename(false);
    EXPECT_EQ(mode_of(path_), 0604U);
}

TEST_F(ReplacedFileTest, LinkStaysAndWhatItPointsToIsReplaced) {
    std::filesystem::create_directory(directory_ / "folder");
    std::filesystem::create_symlink("folder/real", path_);
    sys::ReplacedFile file(path_);
    const std::filesystem::path real = std::filesystem::canonical(directory_.path()) / "folder/real";
    EXPECT_EQ(file.target(), real);
    file.rename(false);
    EXPECT_TRUE(std::filesystem::is_symlink(path_));
    EXPECT_TRUE(std::filesystem::is_regular_file(real));
    EXPECT_EQ(sys::file_behind_links(path_, "find it"), real);
}

TEST_F(ReplacedFileTest, LinkToItselfIsEloop) {
    std::filesystem::create_symlink("file", path_);
    EXPECT_EQ(error_of([&] { const sys::ReplacedFile file(path_); }), ELOOP);
    EXPECT_EQ(tests::message_of([&] { static_cast<void>(sys::file_behind_links(path_, "find it")); }).find("find it"),
              0U);
}

}  // namespace
