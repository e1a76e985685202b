#include "pipes/pump_calls.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <vector>

#include "pipes/pipe.hpp"
#include "tests/images.hpp"
#include "tests/pump_ends.hpp"
#include "tests/support.hpp"

namespace {

namespace calls = pipes::calls;
using pipes::Pipe;
using tests::Bytes;
using tests::noise;
using tests::same_bytes;

class PumpCallsTest : public testing::Test {
protected:
    void fill(const Pipe& pipe) { vmcow::sys::write_all(pipe.write_end().get(), Bytes(pipe.capacity_bytes()), "pipe"); }

    Pipe in_ = Pipe::open();
    Pipe out_ = Pipe::open();
    Bytes memory_ = Bytes(100);
};

// The ends are as programs have them: not O_NONBLOCK.
TEST_F(PumpCallsTest, EmptyPipeIsNothingThereAndNoWait) {
    EXPECT_EQ(calls::splice(in_.read_end().get(), out_.write_end().get(), 100), -EAGAIN);
    EXPECT_EQ(calls::tee(in_.read_end().get(), out_.write_end().get(), 100), -EAGAIN);
}

TEST_F(PumpCallsTest, FullPipeIsNoRoomAndNoWait) {
    const vmcow::Snapshot image = tests::snapshot_of(noise(1000));
    fill(in_);
    fill(out_);
    EXPECT_EQ(calls::splice(in_.read_end().get(), out_.write_end().get(), 100), -EAGAIN);
    EXPECT_EQ(calls::tee(in_.read_end().get(), out_.write_end().get(), 100), -EAGAIN);
    EXPECT_EQ(calls::splice_at(image.base_fd(), 0, out_.write_end().get(), 100), -EAGAIN);
    auto [ours, theirs] = tests::socket_pair();
    const Bytes much = noise(std::size_t{1} << 20);
    while (calls::send(ours.get(), much) > 0) {
    }
    EXPECT_EQ(calls::send(ours.get(), much), -EAGAIN);
}

TEST_F(PumpCallsTest, TeeLeavesWhatSpliceTakes) {
    const Bytes sent = noise(50);
    vmcow::sys::write_all(in_.write_end().get(), sent, "pipe");
    EXPECT_EQ(calls::tee(in_.read_end().get(), out_.write_end().get(), 100), 50);
    EXPECT_EQ(calls::splice(in_.read_end().get(), out_.write_end().get(), 20), 20);
    EXPECT_EQ(calls::read(in_.read_end().get(), memory_), 30);
    EXPECT_TRUE(same_bytes(std::span(memory_).first(30), std::span(sent).last(30)));
    in_.take_write_end().reset();
    EXPECT_EQ(calls::read(in_.read_end().get(), memory_), 0);
    EXPECT_EQ(calls::read(out_.read_end().get(), memory_), 70);
}

TEST_F(PumpCallsTest, ReaderThatIsGoneIsEpipe) {
    out_.take_read_end().reset();
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  tests::set_action(SIGPIPE, SIG_IGN);
                  vmcow::sys::write_all(in_.write_end().get(), noise(50), "pipe");
                  if (calls::tee(in_.read_end().get(), out_.write_end().get(), 100) != -EPIPE) return 1;
                  if (calls::splice(in_.read_end().get(), out_.write_end().get(), 100) != -EPIPE) return 2;
                  return calls::write(out_.write_end().get(), noise(1)) == -EPIPE ? 0 : 3;
              }));
}

TEST_F(PumpCallsTest, ClosedDescriptorIsEbadf) {
    EXPECT_EQ(calls::splice(-1, out_.write_end().get(), 1), -EBADF);
    EXPECT_EQ(calls::splice_at(-1, 0, out_.write_end().get(), 1), -EBADF);
    EXPECT_EQ(calls::tee(-1, out_.write_end().get(), 1), -EBADF);
    EXPECT_EQ(calls::read(-1, memory_), -EBADF);
    EXPECT_EQ(calls::write(-1, memory_), -EBADF);
    EXPECT_EQ(calls::send(-1, memory_), -EBADF);
}

}  // namespace
