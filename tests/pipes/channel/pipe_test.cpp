// Pipe: its ends, the capacity that the kernel grants, and the bytes that it holds.
#include "pipes/pipe.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"

namespace {

using pipes::Pipe;
using pipes::queued_bytes;
using tests::error_of;
using vmcow::sys::UniqueFd;

std::size_t size_in_kernel(const Pipe& pipe) {
    return static_cast<std::size_t>(fcntl(pipe.read_end().get(), F_GETPIPE_SZ));
}

TEST(PipeTest, BytesGoFromTheWriteEndToTheReadEnd) {
    const Pipe pipe = Pipe::open();
    ASSERT_EQ(write(pipe.write_end().get(), "cow", 3), 3);
    std::array<char, 8> bytes{};
    ASSERT_EQ(read(pipe.read_end().get(), bytes.data(), bytes.size()), 3);
    EXPECT_STREQ(bytes.data(), "cow");
}

TEST(PipeTest, BothEndsAreCloseOnExec) {
    const Pipe pipe = Pipe::open();
    EXPECT_EQ(fcntl(pipe.read_end().get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_EQ(fcntl(pipe.write_end().get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(PipeTest, CapacityIsWhatAWriterFills) {
    const Pipe pipe = Pipe::open();
    EXPECT_EQ(pipe.capacity_bytes(), size_in_kernel(pipe));
    ASSERT_EQ(fcntl(pipe.write_end().get(), F_SETFL, O_NONBLOCK), 0);
    const std::vector<std::byte> chunk(4096);
    std::size_t written = 0;
    for (ssize_t count = 0; (count = write(pipe.write_end().get(), chunk.data(), chunk.size())) > 0;) {
        written += static_cast<std::size_t>(count);
    }
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_EQ(written, pipe.capacity_bytes());
    EXPECT_EQ(queued_bytes(pipe.read_end().get()), written);
}

TEST(PipeTest, SmallerSizeThanTheDefaultIsGranted) {
    const Pipe pipe = Pipe::open(1);
    EXPECT_EQ(pipe.capacity_bytes(), static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
    EXPECT_EQ(pipe.capacity_bytes(), size_in_kernel(pipe));
}

// No kernel grants this size, so that the pipe gets the largest size that is granted here, and twice as much is
// refused.
TEST(PipeTest, RefusedSizeGivesTheLargestThatIsGranted) {
    const std::size_t wanted_bytes = std::numeric_limits<std::size_t>::max();
    const Pipe pipe = Pipe::open(wanted_bytes);
    EXPECT_EQ(pipe.capacity_bytes(), size_in_kernel(pipe));
    ASSERT_LT(pipe.capacity_bytes(), std::size_t{1} << 30);
    const int twice = static_cast<int>(2 * pipe.capacity_bytes());
    EXPECT_EQ(fcntl(pipe.write_end().get(), F_SETPIPE_SZ, twice), -1) << twice;
}

TEST(PipeTest, TakenEndIsNoLongerThePipes) {
    Pipe pipe = Pipe::open();
    UniqueFd write_end = pipe.take_write_end();
    EXPECT_TRUE(write_end);
    EXPECT_FALSE(pipe.write_end());
    write_end.reset();
    std::byte byte{};
    EXPECT_EQ(read(pipe.read_end().get(), &byte, 1), 0) << "the pipe kept a write end";
    const UniqueFd read_end = pipe.take_read_end();
    EXPECT_TRUE(read_end);
    EXPECT_FALSE(pipe.read_end());
}

TEST(PipeTest, QueuedBytesAreThoseNotYetRead) {
    const Pipe pipe = Pipe::open();
    EXPECT_EQ(queued_bytes(pipe.read_end().get()), 0U);
    ASSERT_EQ(write(pipe.write_end().get(), "abc", 3), 3);
    EXPECT_EQ(queued_bytes(pipe.read_end().get()), 3U);
    EXPECT_EQ(queued_bytes(pipe.write_end().get()), 3U);
    std::byte byte{};
    ASSERT_EQ(read(pipe.read_end().get(), &byte, 1), 1);
    EXPECT_EQ(queued_bytes(pipe.read_end().get()), 2U);
}

TEST(PipeTest, QueuedBytesOfAClosedDescriptorIsEbadf) {
    Pipe pipe = Pipe::open();
    const int closed = pipe.read_end().get();
    pipe.take_read_end().reset();
    EXPECT_EQ(error_of([&] { static_cast<void>(queued_bytes(closed)); }), EBADF);
}

TEST(PipeTest, NoDescriptorLeftIsEmfile) {
    for (const std::size_t free : {0U, 1U}) {
        const DescriptorLimit limit{free};
        EXPECT_EQ(error_of([] { static_cast<void>(Pipe::open()); }), EMFILE) << free << " free";
        // The failed open has closed whatever it had opened.
        std::vector<UniqueFd> opened(free);
        for (UniqueFd& fd : opened) fd = UniqueFd{open("/dev/null", O_RDONLY | O_CLOEXEC)};
        for (const UniqueFd& fd : opened) EXPECT_TRUE(fd);
    }
    const DescriptorLimit limit{2};
    EXPECT_EQ(error_of([] { static_cast<void>(Pipe::open()); }), 0);
}

}  // namespace
