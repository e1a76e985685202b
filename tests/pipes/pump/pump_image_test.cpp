// Images in a pump: snapshots that are sent into pipes, files and sockets, and arenas that are filled from them.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "pipes/pump.hpp"
#include "tests/pipes/pump/pump_ends.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/view.hpp"

namespace {

using pipes::EndState;
using pipes::FlowReport;
using pipes::Pipe;
using pipes::Pump;
using tests::Bytes;
using tests::Collector;
using tests::error_of;
using tests::Feeder;
using tests::noise;
using tests::read_all;
using tests::RunningPump;
using tests::same_bytes;
using tests::snapshot_of;
using vmcow::sys::UniqueFd;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class PumpImageTest : public tests::PumpWayTest {
protected:
    /// Sends part of an image into a pipe, and returns what the reader gets.
    Bytes sent(const vmcow::Snapshot& snapshot, std::uint64_t offset, std::uint64_t bytes) {
        Pipe pipe = Pipe::open();
        Pump pump(options());
        pump.send_image(snapshot, offset, bytes, pipe.take_write_end());
        RunningPump running(std::move(pump));
        Bytes got = read_all(pipe.take_read_end());
        flow_ = running.report().flows.at(0);
        return got;
    }
    /// Receives everything that `in` gives, and returns the arena.
    vmcow::Arena received(UniqueFd in) {
        vmcow::Arena arena;
        Pump pump(options());
        pump.receive(std::move(in), arena);
        flow_ = pump.run().flows.at(0);
        return arena;
    }

    FlowReport flow_;
};

TEST_P(PumpImageTest, ImageComesOutOfThePipeUnchangedWithoutACopy) {
    const Bytes content = noise(64 * kMiB + 3);
    EXPECT_TRUE(same_bytes(sent(snapshot_of(content), 0, content.size()), content));
    EXPECT_EQ(flow_.ins.at(0).bytes, content.size());
    EXPECT_EQ(flow_.outs.at(0).bytes, content.size());
    EXPECT_EQ(flow_.outs.at(0).copied_bytes, 0U);
    EXPECT_EQ(flow_.outs.at(0).state, EndState::finished);
}

TEST_P(PumpImageTest, PartOfAnImageIsThatPart) {
    const Bytes content = noise(300'000);
    const vmcow::Snapshot snapshot = snapshot_of(content);
    EXPECT_TRUE(same_bytes(sent(snapshot, 4097, 200'000), std::span(content).subspan(4097, 200'000)));
    EXPECT_TRUE(sent(snapshot, 300'000, 0).empty());
}

TEST_P(PumpImageTest, SnapshotWithADeltaIsSentWithWhatItChanged) {
    const Bytes content = noise(100'000);
    vmcow::View view = snapshot_of(content).map_private();
    tests::write_pages(view, {1, 20});
    const vmcow::Snapshot changed = view.capture();
    EXPECT_TRUE(same_bytes(sent(changed, 0, content.size()), changed.bytes()));
}

TEST_P(PumpImageTest, SealedFileIsSentAndAnyOtherRefused) {
    UniqueFd file = vmcow::sys::create_memfd("sent");
    const Bytes content = noise(10'000);
    vmcow::sys::write_all(file.get(), content, "memfd");
    Pipe pipe = Pipe::open();
    Pump pump(options());
    EXPECT_EQ(error_of([&] {
                  pump.send_image(vmcow::sys::duplicate(file.get()), 0, 10,
                                  vmcow::sys::duplicate(pipe.write_end().get()));
              }),
              EINVAL);
    vmcow::sys::seal_memfd(file.get(), "sent");
    EXPECT_EQ(error_of([&] {
                  pump.send_image(vmcow::sys::duplicate(file.get()), 1, 10'000,
                                  vmcow::sys::duplicate(pipe.write_end().get()));
              }),
              EINVAL);
    pump.send_image(std::move(file), 1, 9999, pipe.take_write_end());
    EXPECT_EQ(pump.run().flows.at(0).outs.at(0).state, EndState::finished);
    EXPECT_TRUE(same_bytes(read_all(pipe.take_read_end()), std::span<const std::byte>(content).subspan(1)));
}

TEST_P(PumpImageTest, ReaderOfAnImageThatClosesEarlyIsNoError) {
    const vmcow::Snapshot snapshot = snapshot_of(noise(kMiB));
    Pipe pipe = Pipe::open();
    pipe.take_read_end().reset();
    Pump pump(options());
    pump.send_image(snapshot, 0, kMiB, pipe.take_write_end());
    const FlowReport flow = pump.run().flows.at(0);
    EXPECT_EQ(flow.outs.at(0).state, EndState::reader_gone);
    EXPECT_EQ(flow.outs.at(0).bytes, 0U);
}

TEST_P(PumpImageTest, ImageGoesToAFileAndASocketToo) {
    const tests::TemporaryDirectory directory;
    const Bytes content = noise(kMiB + 1);
    const vmcow::Snapshot snapshot = snapshot_of(content);
    auto [ours, theirs] = tests::socket_pair();
    Collector socket(std::move(theirs));
    Pump pump(options());
    pump.send_image(snapshot, 0, content.size(), vmcow::sys::open_file(directory / "file", O_WRONLY | O_CREAT));
    pump.send_image(snapshot, 0, content.size(), std::move(ours));
    EXPECT_EQ(pump.run().flows.size(), 2U);
    EXPECT_TRUE(same_bytes(read_all(vmcow::sys::open_file(directory / "file", O_RDONLY)), content));
    EXPECT_TRUE(same_bytes(socket.bytes(), content));
}

TEST_P(PumpImageTest, PipeOfUnknownLengthBecomesAnImage) {
    const Bytes content = noise(64 * kMiB + 5);
    Pipe pipe = Pipe::open();
    Feeder feeder(pipe.take_write_end(), content);
    const vmcow::Arena arena = received(pipe.take_read_end());
    EXPECT_EQ(feeder.error(), 0);
    EXPECT_TRUE(same_bytes(arena.bytes(), content));
    EXPECT_EQ(flow_.ins.at(0).bytes, content.size());
    EXPECT_EQ(flow_.ins.at(0).state, EndState::finished);
}

TEST_P(PumpImageTest, EmptyPipeLeavesTheArenaAsItWas) {
    Pipe pipe = Pipe::open();
    pipe.take_write_end().reset();
    EXPECT_EQ(received(pipe.take_read_end()).extent_bytes(), 0U);
    EXPECT_EQ(flow_.ins.at(0).bytes, 0U);
}

TEST_P(PumpImageTest, WhatIsReceivedLiesBehindWhatTheArenaHas) {
    Pipe pipe = Pipe::open();
    Feeder feeder(pipe.take_write_end(), tests::bytes_of("tail"));
    vmcow::Arena arena = tests::arena_of(tests::bytes_of("head "));
    Pump pump(options());
    pump.receive(pipe.take_read_end(), arena);
    static_cast<void>(pump.run());
    EXPECT_EQ(tests::text_of(arena.bytes()), "head tail");
}

TEST_P(PumpImageTest, ArenaThatCannotGrowEndsTheFlowWithWhatFits) {
    vmcow::Arena arena({.reserve_bytes = 2 * kMiB});
    Pipe pipe = Pipe::open();
    const Bytes content = noise(3 * kMiB);
    Feeder feeder(pipe.take_write_end(), content);
    Pump pump(options());
    pump.receive(pipe.take_read_end(), arena);
    const FlowReport flow = pump.run().flows.at(0);
    EXPECT_EQ(feeder.error(), EPIPE);
    EXPECT_EQ(flow.ins.at(0).state, EndState::failed);
    EXPECT_EQ(flow.ins.at(0).error, ENOMEM);
    EXPECT_EQ(arena.extent_bytes(), flow.ins.at(0).bytes);
    EXPECT_TRUE(same_bytes(arena.bytes(), std::span(content).first(arena.extent_bytes())));
}

TEST_P(PumpImageTest, FileAndSocketAreReceivedToo) {
    const tests::TemporaryDirectory directory;
    const Bytes content = noise(5 * kMiB + 1);
    const UniqueFd file = vmcow::sys::open_file(directory / "file", O_RDWR | O_CREAT);
    vmcow::sys::write_all(file.get(), content, "file");
    EXPECT_TRUE(same_bytes(received(vmcow::sys::open_file(directory / "file", O_RDONLY)).bytes(), content));
    auto [ours, theirs] = tests::socket_pair();
    Feeder feeder(std::move(theirs), content);
    EXPECT_TRUE(same_bytes(received(std::move(ours)).bytes(), content));
}

INSTANTIATE_TEST_SUITE_P(Ways, PumpImageTest, tests::kBothWays, tests::way_name);

}  // namespace
