// Tests owned descriptors, and opening, reading and writing files.
#include "vmcow/sys/fd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/proc/smaps.hpp"

namespace {

using namespace vmcow::sys;
using tests::closed_descriptor;
using tests::error_of;
using tests::message_of;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

UniqueFd dev_null() { return open_file("/dev/null", O_RDWR); }

TEST(UniqueFdTest, ClosesOnceAtTheEnd) {
    int number = -1;
    {
        const UniqueFd fd = dev_null();
        number = fd.get();
        EXPECT_TRUE(is_open(number));
    }
    EXPECT_FALSE(is_open(number));
}

TEST(UniqueFdTest, SelfMoveKeepsTheDescriptor) {
    UniqueFd fd = dev_null();
    const int number = fd.get();
    UniqueFd& same = fd;
    fd = std::move(same);
    EXPECT_EQ(fd.get(), number);
    EXPECT_TRUE(is_open(number));
}

TEST(UniqueFdTest, MoveEmptiesTheSourceAndAssignmentClosesTheTarget) {
    UniqueFd first = dev_null();
    const int number = first.get();
    UniqueFd second = dev_null();
    const int replaced = second.get();
    second = std::move(first);
    EXPECT_EQ(first.get(), -1);  // NOLINT(bugprone-use-after-move): what is left of it is the claim
    EXPECT_EQ(second.get(), number);
    EXPECT_FALSE(is_open(replaced));
    EXPECT_TRUE(is_open(number));
}

TEST(UniqueFdTest, ReleaseLeavesTheDescriptorOpen) {
    UniqueFd fd = dev_null();
    const UniqueFd again(fd.release());
    EXPECT_FALSE(fd);
    EXPECT_TRUE(is_open(again.get()));
}

TEST(FdTest, MissingFileIsEnoentWithThePath) {
    EXPECT_EQ(error_of([] { static_cast<void>(open_file("/nonexistent/file", O_RDONLY)); }), ENOENT);
    EXPECT_NE(message_of([] { static_cast<void>(open_file("/nonexistent/file", O_RDONLY)); }).find("/nonexistent/file"),
              std::string::npos);
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/nonexistent/file")); }), ENOENT);
}

TEST(FdTest, DescriptorsAreCloseOnExec) {
    const UniqueFd file = dev_null();
    const UniqueFd copy = duplicate(file.get());
    const UniqueFd image = create_memfd("image");
    for (const UniqueFd* const fd : {&file, &copy, &image}) EXPECT_EQ(::fcntl(fd->get(), F_GETFD), FD_CLOEXEC);
}

TEST(FdTest, ClosedDescriptorIsEbadf) {
    const int closed = closed_descriptor();
    std::array<std::byte, 4> bytes{};
    EXPECT_EQ(error_of([&] { static_cast<void>(duplicate(closed)); }), EBADF);
    EXPECT_EQ(error_of([&] { write_all(closed, bytes, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { read_full(closed, bytes, "gone"); }), EBADF);
    EXPECT_NE(message_of([&] { write_all(closed, bytes, "gone"); }).find("'gone'"), std::string::npos);
}

TEST(FdTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([] { static_cast<void>(open_file("/dev/null", O_RDONLY)); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(duplicate(STDERR_FILENO)); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(create_memfd("image")); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/proc/self/status")); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(read_smaps(0, 4096)); }), EMFILE);
    EXPECT_EQ(error_of([] { const PageScanner scanner(PageScanMethod::pagemap_scan); }), EMFILE);
    EXPECT_EQ(error_of([] { const PageScanner scanner(PageScanMethod::pagemap_bits); }), EMFILE);
    EXPECT_EQ(page_scan_error(), EMFILE);
}

TEST(FdTest, FullDiskIsEnospc) {
    const UniqueFd full = open_file("/dev/full", O_WRONLY);
    const std::array<std::byte, 4> bytes{};
    EXPECT_EQ(error_of([&] { write_all(full.get(), bytes, "/dev/full"); }), ENOSPC);
}

TEST(FdTest, ReadStopsAtTheEndOfTheFile) {
    const UniqueFd file = create_memfd("short");
    const auto written = tests::noise(100'000);
    write_all(file.get(), written, "short");
    ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
    std::vector<std::byte> read(200'000);
    EXPECT_EQ(read_full(file.get(), read, "short"), written.size());
    read.resize(written.size());
    EXPECT_EQ(read, written);
}

// A pipe gives the bytes that it holds and takes the bytes that fit, so both loops need several calls.
TEST(FdTest, ShortReadsAndWritesGoOn) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const auto sent = tests::noise(1'000'000);
    const auto child = [&] {
        reader.reset();
        write_all(writer.get(), sent, "pipe");
        return 0;
    };
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(child());
    writer.reset();
    std::vector<std::byte> received(sent.size() + 1);
    EXPECT_EQ(read_full(reader.get(), received, "pipe"), sent.size());
    received.resize(sent.size());
    EXPECT_EQ(received, sent);
    ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

TEST(FdTest, TextFileOfUnknownSizeIsReadWhole) {
    const std::string maps = read_text_file("/proc/self/smaps");
    EXPECT_GT(maps.size(), 16384U);
    EXPECT_EQ(maps.back(), '\n');
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/proc")); }), EISDIR);
}

}  // namespace
