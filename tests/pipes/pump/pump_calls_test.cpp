// The system calls of the pump: each one returns a count, "nothing there", "no room" or an errno, and none waits.
#include "pipes/pump/pump_calls.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include "pipes/pipe.hpp"
#include "pipes/pump.hpp"
#include "tests/pipes/pump/pump_ends.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"

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

// The ends are not O_NONBLOCK, because programs expect blocking ends.
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

// Bytes whose number is unknown would be lost silently.
TEST(PumpRefusedCallTest, BytesThatCannotBeCountedAreAFailureOfTheirEnd) {
    const auto run = [](auto add_flow) {
        Pipe in = Pipe::open();
        Pipe out = Pipe::open();
        vmcow::sys::write_all(in.write_end().get(), noise(50), "pipe");
        in.take_write_end().reset();
        constexpr int kNoFilter = 124;
        if (!tests::forbid_call(SYS_ioctl, EPERM, tests::CallArgument{1, FIONREAD})) return kNoFilter;
        pipes::Pump pump;
        add_flow(pump, in.take_read_end(), out.take_write_end());
        const pipes::EndReport end = pump.run().flows.at(0).ins.at(0);
        return end.state == pipes::EndState::failed ? end.error : 0;
    };
    using vmcow::sys::UniqueFd;
    const auto tee = [](pipes::Pump& pump, UniqueFd in, UniqueFd out) {
        std::vector<UniqueFd> outs;
        outs.push_back(std::move(out));
        pump.tee(std::move(in), std::move(outs));
    };
    const auto join = [](pipes::Join order) {
        return [order](pipes::Pump& pump, UniqueFd in, UniqueFd out) {
            std::vector<UniqueFd> ins;
            ins.push_back(std::move(in));
            pump.join(std::move(ins), std::move(out), order);
        };
    };
    const tests::ChildEnd refused{EPERM, 0};
    EXPECT_EQ(tests::in_child([&] { return run(tee); }), refused);
    EXPECT_EQ(tests::in_child([&] { return run(join(pipes::Join::in_order)); }), refused);
    EXPECT_EQ(tests::in_child([&] { return run(join(pipes::Join::by_line)); }), refused);
}

}  // namespace
