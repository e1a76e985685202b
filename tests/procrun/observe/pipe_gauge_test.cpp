// PipeGauge: it tells how full a pipe is, and neither reader nor writer notices that it looks.
#include "procrun/observe/pipe_gauge.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/process.hpp"
#include "procrun/program.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using pipes::Pipe;
using procrun::Deadline;
using procrun::OutcomeKind;
using procrun::PipeGauge;
using procrun::PipeLevel;
using procrun::Process;
using procrun::Program;

constexpr int kRounds = 20;
constexpr std::chrono::seconds kLongest{30};

void put(const Pipe& pipe, const std::string& text) {
    vmcow::sys::write_all(pipe.write_end().get(), std::as_bytes(std::span(text)), "a pipe");
}

/// Asks for the level without a pause until it is destroyed.
class ConstantLooking {
public:
    explicit ConstantLooking(const PipeGauge& gauge)
        : thread_([this, &gauge] {
              while (!over_) looks_ += gauge.level() ? 1 : 0;
          }) {
        while (looks_ == 0) std::this_thread::yield();
    }
    ~ConstantLooking() {
        over_ = true;
        thread_.join();
    }
    ConstantLooking(const ConstantLooking&) = delete;
    ConstantLooking& operator=(const ConstantLooking&) = delete;

private:
    std::atomic<bool> over_ = false;
    std::atomic<int> looks_ = 0;
    std::thread thread_;
};

Process start(std::vector<std::string> argv, int child_fd, int fd) {
    Program program(std::move(argv));
    program.descriptor(child_fd, fd).die_with_parent();
    return std::get<Process>(program.start());
}

TEST(PipeGaugeTest, TellsTheBytesAndTheCapacityAndTakesNothingOut) {
    const Pipe pipe = Pipe::open();
    const PipeGauge gauge(pipe.read_end().get());
    EXPECT_EQ(gauge.level(), (PipeLevel{.queued_bytes = 0, .capacity_bytes = pipe.capacity_bytes()}));
    put(pipe, "abc");
    for (int i = 0; i < kRounds; ++i) {
        EXPECT_EQ(gauge.level(), (PipeLevel{.queued_bytes = 3, .capacity_bytes = pipe.capacity_bytes()}));
    }
}

TEST(PipeGaugeTest, EitherEndLeadsToTheSamePipe) {
    const Pipe pipe = Pipe::open();
    const PipeGauge by_reader(pipe.read_end().get());
    const PipeGauge by_writer(pipe.write_end().get());
    put(pipe, "abc");
    EXPECT_EQ(by_reader.name(), by_writer.name());
    EXPECT_EQ(by_reader.level(), by_writer.level());
}

TEST(PipeGaugeTest, PipeThatTakesNoMoreIsFull) {
    const Pipe pipe = Pipe::open();
    const PipeGauge gauge(pipe.read_end().get());
    put(pipe, std::string(pipe.capacity_bytes(), 'x'));
    ASSERT_TRUE(gauge.level());
    EXPECT_TRUE(gauge.level()->full());
    EXPECT_FALSE((PipeLevel{.queued_bytes = 0, .capacity_bytes = 4096}).full());
    EXPECT_FALSE((PipeLevel{.queued_bytes = 61440, .capacity_bytes = 65536}).full());
    EXPECT_TRUE((PipeLevel{.queued_bytes = 61441, .capacity_bytes = 65536}).full());
}

TEST(PipeGaugeTest, ReaderSeesTheEndWhileTheGaugeLives) {
    Pipe pipe = Pipe::open();
    const PipeGauge gauge(pipe.write_end().get());
    pipe.take_write_end().reset();
    char byte = 0;
    EXPECT_EQ(read(pipe.read_end().get(), &byte, 1), 0);
}

TEST(PipeGaugeTest, WriterIsToldThatNobodyReadsWhileTheGaugeLives) {
    const auto end = tests::in_child([] {
        tests::set_action(SIGPIPE, SIG_IGN);
        Pipe pipe = Pipe::open();
        const PipeGauge gauge(pipe.read_end().get());
        pipe.take_read_end().reset();
        return write(pipe.write_end().get(), "x", 1) == -1 && errno == EPIPE ? 0 : 1;
    });
    EXPECT_EQ(end, tests::kChildExitedWell);
}

TEST(PipeGaugeTest, WriterDiesOfSigpipeUnderConstantLooking) {
    for (int i = 0; i < kRounds; ++i) {
        Pipe pipe = Pipe::open();
        const PipeGauge gauge(pipe.read_end().get());
        Process writer = start({"yes"}, STDOUT_FILENO, pipe.write_end().get());
        pipe.take_write_end().reset();
        const ConstantLooking looking(gauge);
        pipe.take_read_end().reset();
        const auto record = writer.wait_until(Deadline::in(kLongest));
        ASSERT_TRUE(record) << "the writer goes on writing to nobody";
        EXPECT_EQ(record->outcome.kind, OutcomeKind::signaled);
        EXPECT_EQ(record->outcome.code, SIGPIPE);
    }
}

TEST(PipeGaugeTest, ReaderEndsWithItsInputUnderConstantLooking) {
    for (int i = 0; i < kRounds; ++i) {
        Pipe pipe = Pipe::open();
        const PipeGauge gauge(pipe.read_end().get());
        Process reader = start({"cat"}, STDIN_FILENO, pipe.read_end().get());
        pipe.take_read_end().reset();
        const ConstantLooking looking(gauge);
        pipe.take_write_end().reset();
        const auto record = reader.wait_until(Deadline::in(kLongest));
        ASSERT_TRUE(record) << "the reader waits for a writer that is gone";
        EXPECT_TRUE(record->outcome.ok());
    }
}

/// Looking at a pipe must take no byte out of it.
TEST(PipeGaugeTest, NoByteIsLostUnderConstantLooking) {
    const std::string text(std::size_t{8} << 20, 'x');
    Pipe pipe = Pipe::open();
    const PipeGauge gauge(pipe.read_end().get());
    const ConstantLooking looking(gauge);
    std::thread writer([&] {
        put(pipe, text);
        pipe.take_write_end().reset();
    });
    std::vector<std::byte> got(text.size() + 1);
    EXPECT_EQ(vmcow::sys::read_full(pipe.read_end().get(), got, "a pipe"), text.size());
    writer.join();
}

TEST(PipeGaugeTest, NamedPipeHasANameAndNoLevel) {
    const tests::TemporaryDirectory folder;
    const std::string path = folder / "fifo";
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    const vmcow::sys::UniqueFd fifo = vmcow::sys::open_file(path, O_RDWR);
    const PipeGauge gauge(fifo.get());
    EXPECT_EQ(gauge.name(), path);
    EXPECT_FALSE(gauge.is_pipe());
    EXPECT_FALSE(gauge.level());
}

TEST(PipeGaugeTest, FileAndClosedDescriptorHaveNoLevel) {
    const vmcow::sys::UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
    EXPECT_EQ(PipeGauge(file.get()).name(), "/dev/null");
    EXPECT_FALSE(PipeGauge(file.get()).level());
    EXPECT_EQ(PipeGauge(-1).name(), "");
    EXPECT_FALSE(PipeGauge(-1).level());
}

TEST(PipeGaugeTest, LevelIsUnknownWhenNoDescriptorIsLeft) {
    const Pipe pipe = Pipe::open();
    const PipeGauge gauge(pipe.read_end().get());
    const tests::ScopedLimit limit(RLIMIT_NOFILE, 3);
    EXPECT_FALSE(gauge.level());
    EXPECT_FALSE(PipeGauge(pipe.read_end().get()).level());
}

}  // namespace
