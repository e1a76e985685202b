// Tests opening and reading files in /proc.
#include "vmcow/sys/proc/file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <span>
#include <string>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"

namespace {

using namespace vmcow::sys;
using tests::IdleChild;
using tests::reaped_process;

std::string stat_of(pid_t pid) { return "/proc/" + std::to_string(pid) + "/stat"; }

TEST(ProcFileTest, FileIsOpenedCloseOnExecAndReadAnewEachTime) {
    IdleChild child;
    const UniqueFd file = try_open_proc(stat_of(child.pid()));
    ASSERT_TRUE(file);
    EXPECT_EQ(::fcntl(file.get(), F_GETFD), FD_CLOEXEC);
    ProcText room;
    const std::string start = std::to_string(child.pid()) + " (";
    EXPECT_TRUE(
        tests::eventually([&] { return read_proc(file.get(), room).value().find(") S ") != std::string::npos; }));
    EXPECT_TRUE(read_proc(file.get(), room).value().starts_with(start));
    child.kill();
    EXPECT_NE(read_proc(file.get(), room).value().find(") Z "), std::string::npos);
    child.reap();
    EXPECT_EQ(read_proc(file.get(), room), std::nullopt);
    EXPECT_EQ(errno, ESRCH);
}

TEST(ProcFileTest, RoomIsFilledWhereThereIsMore) {
    ProcText all;
    std::array<char, 10> room{};
    const auto whole = try_read_proc("/proc/self/limits", all);
    const auto piece = try_read_proc("/proc/self/limits", room);
    ASSERT_TRUE(whole && piece);
    EXPECT_EQ(*piece, whole->substr(0, room.size()));
    EXPECT_EQ(try_read_proc("/proc/self/limits", std::span<char>()), "");
}

TEST(ProcFileTest, ProcessThatIsNotThereIsEnoent) {
    ProcText room;
    const std::string path = stat_of(reaped_process());
    EXPECT_FALSE(try_open_proc(path));
    EXPECT_EQ(errno, ENOENT);
    errno = 0;
    EXPECT_EQ(try_read_proc(path, room), std::nullopt);
    EXPECT_EQ(errno, ENOENT);
}

TEST(ProcFileTest, FileThatCannotBeReadIsAnError) {
    ProcText room;
    EXPECT_EQ(try_read_proc("/proc/self", room), std::nullopt);
    EXPECT_EQ(errno, EISDIR);
    errno = 0;
    EXPECT_EQ(read_proc(-1, room), std::nullopt);
    EXPECT_EQ(errno, EBADF);
}

TEST(ProcFileTest, FileOfAnotherUserIsEacces) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    const tests::ChildEnd end = tests::in_child([parent = ::getpid()] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        ProcText room;
        return try_read_proc("/proc/" + std::to_string(parent) + "/io", room) ? 0 : errno;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{EACCES, 0}));
}

TEST(ProcFileTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit none(0);
    ProcText room;
    EXPECT_EQ(try_read_proc("/proc/self/stat", room), std::nullopt);
    EXPECT_EQ(errno, EMFILE);
}

}  // namespace
