// Runs of a pump: reports, deadlines, stopping, refused ends, and io_uring beside poll.
#include "pipes/pump.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

#include "tests/pipes/pump/pump_ends.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"

namespace {

using pipes::EndState;
using pipes::Pipe;
using pipes::Pump;
using pipes::PumpOptions;
using pipes::PumpReport;
using pipes::PumpStop;
using pipes::PumpWay;
using tests::Bytes;
using tests::Collector;
using tests::error_of;
using tests::Feeder;
using tests::noise;
using tests::read_all;
using tests::RunningPump;
using tests::same_bytes;
using vmcow::sys::UniqueFd;

std::vector<UniqueFd> one(UniqueFd fd) {
    std::vector<UniqueFd> ends;
    ends.push_back(std::move(fd));
    return ends;
}

/// Sends 1000 bytes from pipe to pipe and returns the report. Throws when other bytes come out.
PumpReport short_run(PumpOptions options) {
    Pipe in = Pipe::open();
    Pipe out = Pipe::open();
    vmcow::sys::write_all(in.write_end().get(), noise(1000), "pipe");
    in.take_write_end().reset();
    Pump pump(std::move(options));
    pump.tee(in.take_read_end(), one(out.take_write_end()));
    PumpReport report = pump.run();
    if (!same_bytes(read_all(out.take_read_end()), noise(1000))) throw std::runtime_error("other bytes came out");
    return report;
}

class PumpTest : public tests::PumpWayTest {};

TEST_P(PumpTest, ReportSaysWhichWayItWent) {
    const PumpReport report = short_run(options());
    EXPECT_EQ(report.way, GetParam());
    EXPECT_EQ(report.io_uring_error, 0);
    EXPECT_EQ(report.stop, PumpStop::none);
}

TEST_P(PumpTest, NoFlowIsNothingToDo) { EXPECT_TRUE(Pump(options()).run().flows.empty()); }

TEST_P(PumpTest, SeveralFlowsRunSideBySide) {
    Pipe in = Pipe::open();
    Pipe between = Pipe::open();
    Pipe out = Pipe::open();
    const Bytes sent = noise(1'000'000);
    Pump pump(options());
    // The second flow reads what the first one writes.
    EXPECT_EQ(pump.tee(between.take_read_end(), one(out.take_write_end())), 0U);
    EXPECT_EQ(pump.tee(in.take_read_end(), one(between.take_write_end())), 1U);
    Feeder feeder(in.take_write_end(), sent);
    Collector collector(out.take_read_end());
    const PumpReport report = pump.run();
    EXPECT_TRUE(same_bytes(collector.bytes(), sent));
    ASSERT_EQ(report.flows.size(), 2U);
    EXPECT_EQ(report.flows[0].ins.at(0).bytes, sent.size());
}

TEST_P(PumpTest, StopDescriptorEndsWhatWaitsAndClosesItsEnds) {
    Pipe stop = Pipe::open();
    Pipe in = Pipe::open();
    Pipe out = Pipe::open();
    PumpOptions with = options();
    with.stop_fd = stop.read_end().get();
    Pump pump(with);
    pump.tee(in.take_read_end(), one(out.take_write_end()));
    RunningPump running(std::move(pump));
    vmcow::sys::write_all(in.write_end().get(), noise(100), "pipe");
    Bytes some(100);
    ASSERT_EQ(vmcow::sys::read_full(out.read_end().get(), some, "out"), some.size());
    stop.take_write_end().reset();
    EXPECT_TRUE(read_all(out.take_read_end()).empty());
    EXPECT_EQ(running.report().stop, PumpStop::stop_descriptor);
    EXPECT_EQ(running.report().flows.at(0).ins.at(0).state, EndState::stopped);
    EXPECT_EQ(running.report().flows.at(0).outs.at(0).bytes, 100U);
}

// /dev/zero and /dev/null are always ready, so that the pump never waits.
TEST_P(PumpTest, StopDescriptorAndDeadlineEndWhatNeverWaits) {
    Pipe stop = Pipe::open();
    for (const bool by_deadline : {false, true}) {
        PumpOptions with = options();
        if (by_deadline) with.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
        if (!by_deadline) with.stop_fd = stop.read_end().get();
        Pump pump(with);
        pump.tee(vmcow::sys::open_file("/dev/zero", O_RDONLY), one(vmcow::sys::open_file("/dev/null", O_WRONLY)));
        RunningPump running(std::move(pump));
        stop.take_write_end().reset();
        EXPECT_EQ(running.report().stop, by_deadline ? PumpStop::deadline : PumpStop::stop_descriptor);
    }
}

TEST_P(PumpTest, DeadlineEndsEveryFlowThatWaits) {
    Pipe in = Pipe::open();
    Pipe out = Pipe::open();
    Pipe line_in = Pipe::open();
    Pipe line_out = Pipe::open();
    Pipe received = Pipe::open();
    Pipe full = Pipe::open();
    const vmcow::Snapshot snapshot = tests::snapshot_of(noise(1'000'000));
    vmcow::Arena arena;
    PumpOptions with = options();
    with.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    Pump pump(with);
    pump.tee(in.take_read_end(), one(out.take_write_end()));
    pump.join(one(line_in.take_read_end()), line_out.take_write_end(), pipes::Join::by_line);
    pump.receive(received.take_read_end(), arena);
    pump.send_image(snapshot, 0, snapshot.extent_bytes(), full.take_write_end());
    const PumpReport report = pump.run();
    EXPECT_EQ(report.stop, PumpStop::deadline);
    for (const auto& flow : report.flows) {
        for (const auto& end : flow.ins) EXPECT_EQ(end.state, EndState::stopped);
        for (const auto& end : flow.outs) EXPECT_EQ(end.reason(), "stopped");
    }
}

TEST_P(PumpTest, ManyRunsLeaveNothingBehind) {
    for (int i = 0; i < 200; ++i) EXPECT_EQ(short_run(options()).way, GetParam());
}

// The notice's exception leaves `run`, and every end is closed.
TEST_P(PumpTest, ThrowingNoticeEndsTheRun) {
    Pipe in = Pipe::open();
    Pipe reading = Pipe::open();
    Pipe still = Pipe::open();
    PumpOptions with = options();
    with.stall_limit = std::chrono::milliseconds(1);
    with.memory_bytes = 0;
    with.notice = [](const pipes::SpillNotice&) { throw std::runtime_error("noticed"); };
    Pump pump(with);
    std::vector<UniqueFd> outs = one(reading.take_write_end());
    outs.push_back(still.take_write_end());
    pump.tee(in.take_read_end(), std::move(outs));
    Feeder feeder(in.take_write_end(), noise(1'000'000));
    Collector collector(reading.take_read_end());
    EXPECT_THROW(static_cast<void>(pump.run()), std::runtime_error);
    EXPECT_EQ(feeder.error(), EPIPE);
}

TEST_P(PumpTest, ClosedDescriptorIsRefusedWhenItIsAdded) {
    Pipe pipe = Pipe::open();
    Pump pump(options());
    EXPECT_EQ(error_of([&] { pump.tee(UniqueFd(), one(pipe.take_write_end())); }), EBADF);
    EXPECT_TRUE(read_all(pipe.take_read_end()).empty()) << "the other end is still open";
    EXPECT_TRUE(pump.run().flows.empty());
}

TEST_P(PumpTest, EndThatIsOpenTheOtherWayIsRefusedWhenItIsAdded) {
    Pipe pipe = Pipe::open();
    Pump pump(options());
    EXPECT_EQ(error_of([&] { pump.tee(pipe.take_write_end(), one(vmcow::sys::open_file("/dev/null", O_WRONLY))); }),
              EBADF);
    EXPECT_EQ(error_of([&] {
                  pump.tee(vmcow::sys::open_file("/dev/null", O_RDONLY),
                           one(vmcow::sys::open_file("/dev/null", O_RDONLY)));
              }),
              EBADF);
}

TEST_P(PumpTest, SourceThatCannotBeReadIsNamed) {
    const tests::TemporaryDirectory directory;
    Pipe out = Pipe::open();
    Pump pump(options());
    pump.tee(vmcow::sys::open_file(directory.path(), O_RDONLY), one(out.take_write_end()));
    const PumpReport report = pump.run();
    EXPECT_EQ(report.flows.at(0).ins.at(0).state, EndState::failed);
    EXPECT_EQ(report.flows.at(0).ins.at(0).error, EISDIR);
    EXPECT_TRUE(read_all(out.take_read_end()).empty());
}

TEST_P(PumpTest, TerminalIsASourceAndASink) {
    const UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!terminal || ::grantpt(terminal.get()) != 0 || ::unlockpt(terminal.get()) != 0) GTEST_SKIP() << "no pty";
    const std::string name = ::ptsname(terminal.get());
    UniqueFd side = vmcow::sys::open_file(name, O_RDWR | O_NOCTTY);
    termios raw{};
    ASSERT_EQ(::tcgetattr(side.get(), &raw), 0);
    ::cfmakeraw(&raw);
    ASSERT_EQ(::tcsetattr(side.get(), TCSANOW, &raw), 0);
    const Bytes sent = noise(100'000);
    Pipe in = Pipe::open();
    Feeder feeder(in.take_write_end(), sent);
    Pump pump(options());
    pump.tee(in.take_read_end(), one(vmcow::sys::duplicate(side.get())));
    RunningPump writing(std::move(pump));
    Bytes got(sent.size());
    ASSERT_EQ(vmcow::sys::read_full(terminal.get(), got, "terminal"), got.size());
    EXPECT_TRUE(same_bytes(got, sent));
    EXPECT_EQ(writing.report().flows.at(0).outs.at(0).state, EndState::finished);

    Pipe out = Pipe::open();
    Pump back(options());
    back.tee(std::move(side), one(out.take_write_end()));
    RunningPump reading(std::move(back));
    vmcow::sys::write_all(terminal.get(), tests::bytes_of("typed"), "terminal");
    Bytes typed(5);
    ASSERT_EQ(vmcow::sys::read_full(out.read_end().get(), typed, "out"), typed.size());
    EXPECT_EQ(tests::text_of(typed), "typed");
    out.take_read_end().reset();
    EXPECT_EQ(reading.report().flows.at(0).outs.at(0).state, EndState::reader_gone);
}

INSTANTIATE_TEST_SUITE_P(Ways, PumpTest, tests::kBothWays, tests::way_name);

TEST(PumpRefusalTest, RefusedRingIsPollAndTheReportSaysWhy) {
    for (const int error : {EPERM, ENOSYS, ENOMEM}) {
        EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                      if (!tests::forbid_call(SYS_io_uring_setup, error)) return 2;
                      const PumpReport report = short_run({});
                      return report.way == PumpWay::poll && report.io_uring_error == error ? 0 : 1;
                  }));
    }
}

TEST(PumpRefusalTest, RefusedRingIsAnErrorWhereNothingElseIsWanted) {
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([] {
                  if (!tests::forbid_call(SYS_io_uring_setup, EPERM)) return 2;
                  return error_of([] { static_cast<void>(short_run({.way = PumpWay::io_uring})); }) == EPERM ? 0 : 1;
              }));
}

TEST(PumpDescriptorLimitTest, NoDescriptorForARingIsPoll) {
    Pipe in = Pipe::open();
    Pipe out = Pipe::open();
    Pump pump;
    pump.tee(in.take_read_end(), one(out.take_write_end()));
    in.take_write_end().reset();
    PumpReport report;
    {
        const DescriptorLimit none(0);
        report = pump.run();
    }
    EXPECT_EQ(report.way, PumpWay::poll);
    EXPECT_EQ(report.io_uring_error, EMFILE);
    EXPECT_EQ(report.flows.at(0).outs.at(0).state, EndState::finished);
}

TEST(PumpDescriptorLimitTest, NoDescriptorForAPipeOfOursIsAnErrorWhenTheEndIsAdded) {
    Pipe in = Pipe::open();
    UniqueFd null = vmcow::sys::open_file("/dev/null", O_WRONLY);
    Pump pump;
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([&] { pump.tee(in.take_read_end(), one(std::move(null))); }), EMFILE);
}

TEST(PumpDescriptorLimitTest, NoDescriptorForTheSpillEndsThatReaderAlone) {
    Pipe in = Pipe::open();
    Pipe reading = Pipe::open();
    Pipe still = Pipe::open();
    Pump pump({.way = PumpWay::poll, .stall_limit = std::chrono::milliseconds(1), .memory_bytes = 1000});
    std::vector<UniqueFd> outs = one(reading.take_write_end());
    outs.push_back(still.take_write_end());
    pump.tee(in.take_read_end(), std::move(outs));
    const Bytes sent = noise(1'000'000);
    const DescriptorLimit none(0);
    Feeder feeder(in.take_write_end(), sent);
    Collector collector(reading.take_read_end());
    const PumpReport report = pump.run();
    EXPECT_TRUE(same_bytes(collector.bytes(), sent));
    EXPECT_EQ(report.flows.at(0).outs.at(1).state, EndState::spill_failed);
    EXPECT_EQ(report.flows.at(0).outs.at(1).error, EMFILE);
}

TEST(EndReportTest, ReasonNamesTheErrno) {
    EXPECT_EQ((pipes::EndReport{.state = EndState::failed, .error = EIO}.reason()), "EIO: Input/output error");
    EXPECT_EQ((pipes::EndReport{.state = EndState::finished}.reason()), "end of file");
    EXPECT_EQ((pipes::EndReport{.state = EndState::failed, .error = 4000}.reason()), "4000: Unknown error 4000");
}

}  // namespace
