// Tests noticing that a file was written to.
#include "vmcow/sys/write_watch.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"

namespace {

using namespace std::chrono_literals;
using vmcow::sys::WriteWatch;

constexpr std::chrono::seconds kLong{60};  // only a broken program takes this long

class WriteWatchTest : public testing::Test {
protected:
    WriteWatchTest() {
        for (const std::string& file : files_) std::ofstream(file) << "text";
    }
    static void write_to(const std::string& file) { std::ofstream(file, std::ios::app) << "more" << std::flush; }

    const tests::TemporaryDirectory folder_;
    const std::vector<std::string> files_{folder_ / "first", folder_ / "second"};
};

TEST_F(WriteWatchTest, WriteToAnyOfTheFilesIsToldOnce) {
    WriteWatch watch(files_);
    ASSERT_TRUE(watch.works());
    EXPECT_FALSE(watch.written());
    for (const std::string& file : files_) {
        write_to(file);
        EXPECT_TRUE(watch.written()) << file;
        EXPECT_FALSE(watch.written()) << file;
    }
    write_to(files_[0]);
    write_to(files_[1]);
    EXPECT_TRUE(watch.written());
    EXPECT_FALSE(watch.written());
}

TEST_F(WriteWatchTest, ReadingIsNoWrite) {
    WriteWatch watch(files_);
    std::string text;
    std::ifstream(files_[0]) >> text;
    EXPECT_EQ(text, "text");
    EXPECT_FALSE(watch.written());
}

TEST_F(WriteWatchTest, WriteIsWaitedFor) {
    WriteWatch watch(files_);
    EXPECT_FALSE(watch.written_within(0ms));
    EXPECT_FALSE(watch.written_within(2ms));
    write_to(files_[1]);
    EXPECT_TRUE(watch.written_within(kLong));
    EXPECT_FALSE(watch.written());
}

TEST_F(WriteWatchTest, WriteOfAnotherProcessCounts) {
    WriteWatch watch(files_);
    const pid_t child = ::fork();
    if (child == 0) {
        write_to(files_[0]);
        ::_exit(0);
    }
    EXPECT_TRUE(watch.written_within(kLong));
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST_F(WriteWatchTest, WithoutAFileOrForOneThatIsNotThereItDoesNotWork) {
    EXPECT_FALSE(WriteWatch({}).works());
    EXPECT_FALSE(WriteWatch(std::array{files_[0], folder_ / "none"}).works());
}

TEST_F(WriteWatchTest, FileThatMayNotBeReadCannotBeWatched) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    std::filesystem::permissions(files_[0], std::filesystem::perms::owner_all);
    const tests::ChildEnd end = tests::in_child([&] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return WriteWatch(files_).works() ? 1 : 0;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST_F(WriteWatchTest, WithoutADescriptorItDoesNotWork) {
    const DescriptorLimit none(0);
    EXPECT_FALSE(WriteWatch(files_).works());
}

}  // namespace
