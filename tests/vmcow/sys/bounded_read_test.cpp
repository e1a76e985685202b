// Tests reading files, pipes and devices up to a largest size.
#include "vmcow/sys/bounded_read.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <optional>
#include <span>
#include <string>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace vmcow::sys;
using tests::error_of;
using tests::message_of;

class BoundedReadTest : public testing::Test {
protected:
    [[nodiscard]] std::string file_with(const std::string& text) const {
        std::ofstream(folder_ / "file") << text;
        return folder_ / "file";
    }

    const tests::TemporaryDirectory folder_;
};

/// A pipe that holds `text`; `path` names its read end.
class FilledPipe {
public:
    explicit FilledPipe(const std::string& text) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("pipe2");
        reader_ = UniqueFd(ends[0]);
        const UniqueFd writer(ends[1]);
        write_all(writer.get(), std::as_bytes(std::span(text)), "pipe");
    }
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(reader_.get()); }
    [[nodiscard]] int bytes_left() const {
        int bytes = -1;
        ::ioctl(reader_.get(), FIONREAD, &bytes);
        return bytes;
    }

private:
    UniqueFd reader_;
};

TEST_F(BoundedReadTest, FileOfAtMostThatManyBytesIsReadWhole) {
    EXPECT_EQ(read_at_most(file_with("0123456789"), 11), "0123456789");
    EXPECT_EQ(read_at_most(file_with("0123456789"), 10), "0123456789");
    EXPECT_EQ(read_at_most(file_with("0123456789"), 9), std::nullopt);
    EXPECT_EQ(read_at_most(file_with(""), 0), "");
    EXPECT_EQ(read_at_most(file_with("0"), 0), std::nullopt);
}

TEST_F(BoundedReadTest, LargeFileIsReadInPieces) {
    const std::string text(3'000'000, 'x');
    EXPECT_EQ(read_at_most(file_with(text), text.size()), text);
    EXPECT_EQ(read_at_most(file_with(text), text.size() - 1), std::nullopt);
}

TEST_F(BoundedReadTest, PipeIsReadUpToItsEnd) {
    const FilledPipe pipe("0123456789");
    EXPECT_EQ(read_at_most(pipe.path(), 10), "0123456789");
}

TEST_F(BoundedReadTest, OneByteMoreThanAllowedIsTakenOffAPipe) {
    const FilledPipe pipe(std::string(100, 'x'));
    EXPECT_EQ(read_at_most(pipe.path(), 10), std::nullopt);
    EXPECT_EQ(pipe.bytes_left(), 89);
}

TEST_F(BoundedReadTest, DeviceWithoutAnEndIsTooMuch) { EXPECT_EQ(read_at_most("/dev/zero", 100'000), std::nullopt); }

TEST_F(BoundedReadTest, FileOfUnknownSizeIsReadWhole) {
    const auto status = read_at_most("/proc/self/status", 1 << 20);
    ASSERT_TRUE(status.has_value());
    EXPECT_EQ(status->back(), '\n');
    EXPECT_EQ(read_at_most("/proc/self/status", 10), std::nullopt);
}

TEST_F(BoundedReadTest, WhatCannotBeReadIsAnErrorWithThePath) {
    EXPECT_EQ(error_of([&] { static_cast<void>(read_at_most(folder_ / "none", 10)); }), ENOENT);
    EXPECT_EQ(error_of([&] { static_cast<void>(read_at_most(folder_.path(), 10)); }), EISDIR);
    EXPECT_NE(message_of([&] { static_cast<void>(read_at_most(folder_ / "none", 10)); }).find(folder_ / "none"),
              std::string::npos);
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([&] { static_cast<void>(read_at_most("/dev/null", 10)); }), EMFILE);
}

}  // namespace
