// One writer and several readers of a pump: slow and silent readers, early ends, and bytes held in memory or on disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pipes/pump.hpp"
#include "tests/pipes/pump/pump_ends.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"

namespace {

using pipes::EndState;
using pipes::FlowReport;
using pipes::Pipe;
using pipes::Pump;
using pipes::PumpOptions;
using pipes::SpillNotice;
using tests::Bytes;
using tests::Collector;
using tests::Feeder;
using tests::noise;
using tests::read_all;
using tests::RunningPump;
using tests::same_bytes;
using vmcow::sys::UniqueFd;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class PumpTeeTest : public tests::PumpWayTest {
protected:
    std::unique_ptr<RunningPump> run(UniqueFd in, PumpOptions options) {
        Pump pump(std::move(options));
        pump.tee(std::move(in), std::move(outs_));
        return std::make_unique<RunningPump>(std::move(pump));
    }
    std::unique_ptr<RunningPump> run(PumpOptions options) { return run(in_.take_read_end(), std::move(options)); }

    Pipe in_ = Pipe::open();
};

TEST_P(PumpTeeTest, BytesArriveUnchangedAndInOrderAtEveryReader) {
    for (const std::size_t readers : {1U, 2U, 5U}) {
        for (unsigned seed = 1; seed <= 3; ++seed) {
            in_ = Pipe::open();
            std::vector<std::unique_ptr<Collector>> collectors;
            for (unsigned i = 0; i < readers; ++i) {
                collectors.push_back(std::make_unique<Collector>(add_reader(), seed * 10 + i));
            }
            const Bytes sent = noise(3 * kMiB + 17, seed);
            const auto pump = run(options());
            Feeder feeder(in_.take_write_end(), sent, seed);
            EXPECT_EQ(feeder.error(), 0);
            for (const auto& collector : collectors) EXPECT_TRUE(same_bytes(collector->bytes(), sent)) << readers;
            const FlowReport& flow = pump->report().flows.at(0);
            EXPECT_EQ(flow.ins.at(0).bytes, sent.size());
            EXPECT_EQ(flow.ins.at(0).state, EndState::finished);
            ASSERT_EQ(flow.outs.size(), readers);
            for (const auto& out : flow.outs) {
                EXPECT_EQ(out.bytes, sent.size());
                EXPECT_EQ(out.state, EndState::finished) << out.reason();
                EXPECT_EQ(out.copied_bytes, 0U);
            }
        }
    }
}

// The pump lets the reader of a large pipe read for a while before it looks for room again.
TEST_P(PumpTeeTest, LargePipesChangeNothing) {
    Pipe large = Pipe::open(kMiB);
    outs_.push_back(large.take_write_end());
    Collector first(large.take_read_end());
    Collector second(add_reader());
    const Bytes sent = noise(16 * kMiB + 1);
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(first.bytes(), sent));
    EXPECT_TRUE(same_bytes(second.bytes(), sent));
    EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::finished);
}

TEST_P(PumpTeeTest, EmptyInputIsAnEmptyOutput) {
    UniqueFd first = add_reader();
    UniqueFd second = add_reader();
    in_.take_write_end().reset();
    const auto pump = run(options());
    EXPECT_TRUE(read_all(std::move(first)).empty());
    EXPECT_TRUE(read_all(std::move(second)).empty());
    EXPECT_EQ(pump->report().flows.at(0).ins.at(0).state, EndState::finished);
}

TEST_P(PumpTeeTest, ReaderThatStandsStillDoesNotStopTheOtherAndGetsEverythingLater) {
    const tests::TemporaryDirectory directory;
    std::vector<SpillNotice> notices;
    PumpOptions with = options();
    with.stall_limit = std::chrono::milliseconds(5);
    with.memory_bytes = 100'000;
    with.spill_directory = directory.path();
    with.notice = [&](const SpillNotice& notice) { notices.push_back(notice); };
    Collector reading(add_reader());
    UniqueFd still = add_reader();
    const Bytes sent = noise(8 * kMiB);
    const auto pump = run(with);
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(reading.bytes(), sent));
    EXPECT_TRUE(std::filesystem::is_empty(directory.path())) << "the file has a name";
    EXPECT_TRUE(same_bytes(read_all(std::move(still)), sent));
    const FlowReport& flow = pump->report().flows.at(0);
    EXPECT_EQ(flow.outs.at(0).spilled_bytes, 0U);
    EXPECT_GT(flow.outs.at(1).spilled_bytes, 4 * kMiB);
    EXPECT_LE(flow.outs.at(1).held_bytes, 100'000U);
    EXPECT_EQ(flow.outs.at(1).state, EndState::finished);
    ASSERT_EQ(notices.size(), 1U);
    EXPECT_EQ(notices[0].flow, 0U);
    EXPECT_EQ(notices[0].end, 1U);
    EXPECT_EQ(notices[0].directory, directory.path());
    EXPECT_EQ(notices[0].held_bytes, 100'000U);
}

// A program that compares two streams may read one of them to its end before the other.
TEST_P(PumpTeeTest, ReaderOfAllOfOneBeforeTheOtherGetsBoth) {
    UniqueFd first = add_reader();
    UniqueFd second = add_reader();
    const Bytes sent = noise(64 * kMiB);
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(read_all(std::move(first)), sent));
    EXPECT_TRUE(same_bytes(read_all(std::move(second)), sent));
    EXPECT_EQ(pump->report().flows.at(0).outs.at(1).held_bytes, kMiB);
}

TEST_P(PumpTeeTest, ReadersThatAllStandStillHoldTheWriterBack) {
    UniqueFd first = add_reader();
    UniqueFd second = add_reader();
    PumpOptions with = options();
    with.stall_limit = std::chrono::milliseconds(0);
    const Bytes sent = noise(4 * kMiB);
    const auto pump = run(with);
    Feeder feeder(in_.take_write_end(), sent);
    while (pipes::queued_bytes(first.get()) < in_.capacity_bytes() ||
           pipes::queued_bytes(second.get()) < in_.capacity_bytes()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    Collector one(std::move(first));
    Collector two(std::move(second));
    EXPECT_TRUE(same_bytes(one.bytes(), sent));
    EXPECT_TRUE(same_bytes(two.bytes(), sent));
    EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::finished);
}

// The lone reader may need its writer to end before it reads, so that the pump must take all bytes of the writer.
TEST_P(PumpTeeTest, BytesAreHeldForALoneReaderThatStandsStill) {
    const tests::TemporaryDirectory directory;
    PumpOptions with = options();
    with.stall_limit = std::chrono::milliseconds(5);
    with.memory_bytes = kMiB;
    with.spill_directory = directory.path();
    Pipe out = Pipe::open();
    Pump held(std::move(with));
    held.hold(in_.take_read_end(), out.take_write_end());
    RunningPump pump(std::move(held));
    const Bytes sent = noise(5 * kMiB + 3);
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_EQ(feeder.error(), 0);  // the writer ends before anything is read
    EXPECT_TRUE(same_bytes(read_all(out.take_read_end()), sent));
    const FlowReport& flow = pump.report().flows.at(0);
    EXPECT_EQ(flow.outs.at(0).state, EndState::finished);
    EXPECT_GT(flow.outs.at(0).spilled_bytes, 3 * kMiB);
}

TEST_P(PumpTeeTest, WriterOfWhatIsHeldForNobodyGetsEpipe) {
    Pipe out = Pipe::open();
    Pump held(options());
    held.hold(in_.take_read_end(), out.take_write_end());
    RunningPump pump(std::move(held));
    out.take_read_end().reset();
    Feeder feeder(in_.take_write_end(), noise(5 * kMiB));
    EXPECT_EQ(feeder.error(), EPIPE);
    EXPECT_EQ(pump.report().flows.at(0).ins.at(0).state, EndState::reader_gone);
}

TEST_P(PumpTeeTest, SlowReaderThatTakesSomethingHoldsTheOtherBack) {
    PumpOptions with = options();
    with.stall_limit = std::chrono::hours(1);
    Collector fast(add_reader());
    Collector slow(add_reader(), 7);
    const Bytes sent = noise(4 * kMiB);
    const auto pump = run(with);
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(fast.bytes(), sent));
    EXPECT_TRUE(same_bytes(slow.bytes(), sent));
    for (const auto& out : pump->report().flows.at(0).outs) EXPECT_EQ(out.held_bytes + out.spilled_bytes, 0U);
}

TEST_P(PumpTeeTest, ReaderThatClosesEarlyDoesNotStopTheOther) {
    UniqueFd closing = add_reader();
    Collector staying(add_reader());
    const Bytes sent = noise(2 * kMiB);
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), sent);
    std::byte some[100];
    EXPECT_GT(::read(closing.get(), some, sizeof some), 0);
    closing.reset();
    EXPECT_TRUE(same_bytes(staying.bytes(), sent));
    const FlowReport& flow = pump->report().flows.at(0);
    EXPECT_EQ(flow.outs.at(0).state, EndState::reader_gone);
    EXPECT_EQ(flow.outs.at(0).reason(), "reader gone");
    EXPECT_EQ(flow.outs.at(1).state, EndState::finished);
}

TEST_P(PumpTeeTest, WriterOfWhatNobodyReadsGetsEpipe) {
    UniqueFd first = add_reader();
    UniqueFd second = add_reader();
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), noise(4 * kMiB));
    first.reset();
    second.reset();
    EXPECT_EQ(feeder.error(), EPIPE);
    const FlowReport& flow = pump->report().flows.at(0);
    EXPECT_EQ(flow.ins.at(0).state, EndState::reader_gone);
    EXPECT_EQ(flow.outs.at(0).state, EndState::reader_gone);
}

// The writer is silent, so that only the closed ends of the readers tell that they are gone.
TEST_P(PumpTeeTest, ReadersThatGoAwayEndTheFlowOfASilentWriter) {
    add_reader().reset();
    const UniqueFd writer = in_.take_write_end();
    const auto pump = run(options());
    EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::reader_gone);
}

TEST_P(PumpTeeTest, WriterThatDiesIsTheEndOfTheFile) {
    Collector collector(add_reader());
    const auto pump = run(options());
    EXPECT_EQ(tests::in_child([&] {
                  vmcow::sys::write_all(in_.write_end().get(), noise(1000), "pipe");
                  ::raise(SIGKILL);
                  return 0;
              }).signal,
              SIGKILL);
    in_.take_write_end().reset();
    EXPECT_TRUE(same_bytes(collector.bytes(), noise(1000)));
    EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::finished);
}

TEST_P(PumpTeeTest, FileAndSocketAreSources) {
    const tests::TemporaryDirectory directory;
    const Bytes sent = noise(kMiB + 5);
    {
        UniqueFd file = vmcow::sys::open_file(directory / "file", O_RDWR | O_CREAT);
        vmcow::sys::write_all(file.get(), sent, "file");
        ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
        Collector one(add_reader());
        Collector two(add_reader());
        const auto pump = run(std::move(file), options());
        EXPECT_TRUE(same_bytes(one.bytes(), sent));
        EXPECT_TRUE(same_bytes(two.bytes(), sent));
    }
    auto [ours, theirs] = tests::socket_pair();
    Collector one(add_reader());
    Collector two(add_reader());
    const auto pump = run(std::move(ours), options());
    Feeder feeder(std::move(theirs), sent);
    EXPECT_TRUE(same_bytes(one.bytes(), sent));
    EXPECT_TRUE(same_bytes(two.bytes(), sent));
    EXPECT_EQ(pump->report().flows.at(0).ins.at(0).bytes, sent.size());
}

TEST_P(PumpTeeTest, FileSocketAndNullAreSinks) {
    const tests::TemporaryDirectory directory;
    const Bytes sent = noise(2 * kMiB + 3);
    auto [ours, theirs] = tests::socket_pair();
    outs_.push_back(vmcow::sys::open_file(directory / "file", O_WRONLY | O_CREAT));
    outs_.push_back(vmcow::sys::open_file(directory / "appended", O_WRONLY | O_CREAT | O_APPEND));
    outs_.push_back(vmcow::sys::open_file("/dev/null", O_WRONLY));
    outs_.push_back(std::move(ours));
    Collector socket(std::move(theirs));
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(socket.bytes(), sent));
    const FlowReport& flow = pump->report().flows.at(0);
    for (const auto& out : flow.outs) {
        EXPECT_EQ(out.bytes, sent.size());
        EXPECT_EQ(out.state, EndState::finished) << out.reason();
    }
    EXPECT_EQ(flow.outs.at(0).copied_bytes, 0U);
    EXPECT_EQ(flow.outs.at(1).copied_bytes, sent.size()) << "splice(2) refuses O_APPEND";
    EXPECT_EQ(flow.outs.at(3).copied_bytes, sent.size());
    for (const char* const name : {"file", "appended"}) {
        EXPECT_TRUE(same_bytes(read_all(vmcow::sys::open_file(directory / name, O_RDONLY)), sent)) << name;
    }
}

TEST_P(PumpTeeTest, FullDiskEndsItsReaderAloneAndIsNamed) {
    outs_.push_back(vmcow::sys::open_file("/dev/full", O_WRONLY));
    Collector collector(add_reader());
    const Bytes sent = noise(kMiB);
    const auto pump = run(options());
    Feeder feeder(in_.take_write_end(), sent);
    EXPECT_TRUE(same_bytes(collector.bytes(), sent));
    const FlowReport& flow = pump->report().flows.at(0);
    EXPECT_EQ(flow.outs.at(0).state, EndState::failed);
    EXPECT_EQ(flow.outs.at(0).error, ENOSPC);
    EXPECT_EQ(flow.outs.at(0).reason(), "ENOSPC: No space left on device");
    EXPECT_EQ(flow.outs.at(1).state, EndState::finished);
}

/// Two readers, of which the second does not read and exceeds what may be held. Returns how the second ended.
pipes::EndReport hold_too_much(PumpOptions options) {
    Pipe in = Pipe::open();
    Pipe reading = Pipe::open();
    Pipe still = Pipe::open();
    options.stall_limit = std::chrono::milliseconds(1);
    options.memory_bytes = 10'000;
    Pump pump(options);
    std::vector<UniqueFd> outs;
    outs.push_back(reading.take_write_end());
    outs.push_back(still.take_write_end());
    pump.tee(in.take_read_end(), std::move(outs));
    const Bytes sent = noise(4 * kMiB);
    RunningPump running(std::move(pump));
    Feeder feeder(in.take_write_end(), sent);
    const bool whole = same_bytes(read_all(reading.take_read_end()), sent);
    const pipes::EndReport report = running.report().flows.at(0).outs.at(1);
    return whole ? report : pipes::EndReport{};
}

TEST_P(PumpTeeTest, FullDiskUnderTheSpillEndsThatReaderAlone) {
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  const rlimit limit{kMiB, kMiB};
                  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
                  const pipes::EndReport end = hold_too_much(options());
                  return end.state == EndState::spill_failed && end.error == EFBIG ? 0 : 1;
              }));
}

TEST_P(PumpTeeTest, BoundOfSpilledBytesEndsThatReaderAlone) {
    PumpOptions with = options();
    with.spill_bytes = kMiB;
    const pipes::EndReport end = hold_too_much(with);
    EXPECT_EQ(end.state, EndState::spill_failed);
    EXPECT_EQ(end.error, EDQUOT);
    EXPECT_LE(end.spilled_bytes, kMiB);
}

TEST_P(PumpTeeTest, MissingSpillDirectoryEndsThatReaderAlone) {
    PumpOptions with = options();
    with.spill_directory = "/no/such/directory";
    const pipes::EndReport end = hold_too_much(with);
    EXPECT_EQ(end.state, EndState::spill_failed);
    EXPECT_EQ(end.error, ENOENT);
}

TEST_P(PumpTeeTest, FlagsOfAnEndThatOthersShareAreLeftAlone) {
    UniqueFd reader = add_reader();
    const UniqueFd shared_in = vmcow::sys::duplicate(in_.read_end().get());
    const UniqueFd shared_out = vmcow::sys::duplicate(outs_.front().get());
    const int before = ::fcntl(shared_in.get(), F_GETFL);
    const int before_out = ::fcntl(shared_out.get(), F_GETFL);
    const auto pump = run(options());
    vmcow::sys::write_all(in_.write_end().get(), noise(10), "pipe");
    std::byte some[10];
    EXPECT_EQ(::read(reader.get(), some, sizeof some), 10);
    EXPECT_EQ(::fcntl(shared_in.get(), F_GETFL), before);
    EXPECT_EQ(::fcntl(shared_out.get(), F_GETFL), before_out);
    in_.take_write_end().reset();
    EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::finished);
}

INSTANTIATE_TEST_SUITE_P(Ways, PumpTeeTest, tests::kBothWays, tests::way_name);

}  // namespace
