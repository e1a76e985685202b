#include "bench/pipeline/moves.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/value/rows.hpp"
#include "pipes/pipe.hpp"
#include "pipes/pump.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline/stage_io.hpp"
#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/value.hpp"

namespace bench {
namespace {

using pipes::Pipe;
using procrun::Process;
using vmcow::sys::UniqueFd;

constexpr std::size_t kStages = 3;
constexpr std::size_t kBufferBytes = std::size_t{64} << 10;
constexpr std::size_t kValuePipeBytes = std::size_t{1} << 20;

/// The value, made when the first row asks for it: the rows about starting programs need a small process.
class SharedValue {
public:
    explicit SharedValue(std::size_t bytes) : bytes_(bytes) {}

    [[nodiscard]] const vmcow::Snapshot& operator()() const {
        if (!*value_) {
            vmcow::Arena arena({.name = "bench"});
            std::memset(arena.allocate(bytes_), kFilled, bytes_);
            value_->emplace(std::move(arena).freeze());
        }
        return **value_;
    }

private:
    std::size_t bytes_;
    std::shared_ptr<std::optional<vmcow::Snapshot>> value_ = std::make_shared<std::optional<vmcow::Snapshot>>();
};

/// Forks a process that runs `work` and exits with 0 if `work` returns true. `work` closes the ends of pipes that it
/// inherits and does not use: as long as they are open, a reader does not see the end of the pipe.
template <class Work>
Process fork_stage(Work work) {
    return procrun::fork_function_process([&]() noexcept {
        try {
            return work() ? 0 : 1;
        } catch (const std::exception& error) {
            static_cast<void>(std::fprintf(stderr, "pipeline_bench: a stage: %s\n", error.what()));
            return 1;
        }
    });
}

void expect_ended_well(Process& process) {
    const auto record = process.wait();
    if (!record.outcome.ok())
        throw std::runtime_error("a process did not get the bytes that it should: " + record.outcome.describe());
}

void expect_ended_well(std::vector<Process>& processes) {
    for (Process& process : processes) expect_ended_well(process);
}

/// Reads everything, as a program does, and passes it on to `out`, if there is one. Returns whether `expected` bytes
/// have come, and the first byte of each read was the value's.
bool read_all(const UniqueFd& in, std::size_t expected, const UniqueFd& out = UniqueFd()) {
    std::array<std::byte, kBufferBytes> buffer{};
    std::size_t bytes = 0;
    bool sound = true;
    for (;;) {
        const ssize_t count = ::read(in.get(), buffer.data(), buffer.size());
        if (count <= 0) return count == 0 && sound && bytes == expected;
        const std::span<const std::byte> got(buffer.data(), static_cast<std::size_t>(count));
        sound = sound && got.front() == std::byte{kFilled};
        bytes += got.size();
        if (out) vmcow::sys::write_all(out.get(), got, "the next stage");
    }
}

// ---- stages

void tell(const UniqueFd& out) {
    constexpr std::byte kDone{1};
    vmcow::sys::write_all(out.get(), std::span(&kDone, 1), "the answer");
}

void await(const UniqueFd& in) {
    std::byte done{};
    if (vmcow::sys::read_full(in.get(), std::span(&done, 1), "the answer") != 1) {
        throw std::runtime_error("the last stage has ended without an answer");
    }
}

/// Passes each value on.
void hand_on(procrun::StageIo& io) {
    while (auto value = io.take<vmcow::Snapshot>()) io.give(*std::move(value));
}

/// Reads a byte of each value, and then gives the seconds since the first value, when all stages were running.
void take_and_tell(procrun::StageIo& io) {
    using Clock = std::chrono::steady_clock;
    std::optional<Clock::time_point> started;
    while (const auto value = io.take<vmcow::Snapshot>()) {
        expect(value->bytes()[kTouched] == std::byte{kFilled}, "another value has come");
        if (!started) started = Clock::now();
    }
    vmcow::Value<double[]> seconds(1);
    seconds.edit(
        [&](std::span<double> all) { all[0] = std::chrono::duration<double>(Clock::now() - *started).count(); });
    io.give(seconds);
}

/// Sends the value many times through three stages behind the stage that gives it. Returns the seconds for each time.
double hand_through_stages(const vmcow::Snapshot& value) {
    constexpr int kTimes = 200;
    const procrun::ValueBounds one_by_one{.under_way = 1};
    procrun::Pipeline pipeline;
    auto stage = pipeline.function([&](procrun::StageIo& io) {
        for (int i = 0; i <= kTimes; ++i) io.give(value);
    });
    stage.bounds(one_by_one);
    for (std::size_t i = 1; i < kStages; ++i) {
        stage = pipeline.function(hand_on).reads(stage);
        stage.bounds(one_by_one);
    }
    const auto told = pipeline.output(pipeline.function(take_and_tell).reads(stage));
    procrun::PipelineResult result = pipeline.run();
    expect(result.ok(), "a stage has failed");
    return result.take<vmcow::Value<double[]>>(told).value()[0] / kTimes;
}

/// Sends the bytes of the value from this process through three others. Returns the seconds.
double send_through_pipes(const vmcow::Snapshot& value) {
    Pipe pipe = Pipe::open();
    UniqueFd first = pipe.take_write_end();
    UniqueFd input = pipe.take_read_end();
    std::vector<Process> stages;
    for (std::size_t i = 0; i < kStages; ++i) {
        const bool is_last = i + 1 == kStages;
        Pipe next = Pipe::open();
        stages.push_back(fork_stage([&] {
            first.reset();
            next.take_read_end().reset();
            return read_all(input, value.extent_bytes(), is_last ? UniqueFd() : next.take_write_end());
        }));
        input = next.take_read_end();
    }
    return seconds_of([&] {
        vmcow::sys::write_all(first.get(), value.bytes(), "the first stage");
        first.reset();
        expect_ended_well(stages);
    });
}

// ---- one value to one program

/// The seconds until a program has read all of the value, which `send(end)` writes to its pipe.
template <class Send>
double give_to_program(const vmcow::Snapshot& value, const Send& send) {
    Pipe pipe = Pipe::open(kValuePipeBytes);
    Process reader = fork_stage([&] {
        pipe.take_write_end().reset();
        return read_all(pipe.read_end(), value.extent_bytes());
    });
    pipe.take_read_end().reset();
    return seconds_of([&] {
        send(pipe.take_write_end());
        expect_ended_well(reader);
    });
}

double splice_value(const vmcow::Snapshot& value) {
    return give_to_program(value, [&](UniqueFd out) {
        pipes::Pump pump;
        pump.send_image(value, 0, value.extent_bytes(), std::move(out));
        if (pump.run().flows[0].ins[0].bytes != value.extent_bytes()) throw std::runtime_error("not all was sent");
    });
}

double write_value(const vmcow::Snapshot& value) {
    return give_to_program(
        value, [&](const UniqueFd& out) { vmcow::sys::write_all(out.get(), value.bytes(), "the program"); });
}

// ---- fan-out

/// Writes `bytes` bytes out of one buffer, as a program does, as soon as `start` says so.
bool write_when_told(const UniqueFd& start, const UniqueFd& out, std::size_t bytes) {
    std::array<std::byte, kBufferBytes> buffer{};
    buffer.fill(std::byte{kFilled});
    await(start);
    for (std::size_t left = bytes; left > 0;) {
        const auto part = std::span(buffer).first(std::min(left, buffer.size()));
        vmcow::sys::write_all(out.get(), part, "the next program");
        left -= part.size();
    }
    return true;
}

/// A program that writes as many bytes as the value has once it is told to, and the programs that read them.
class FanOut {
public:
    FanOut(std::size_t bytes, std::size_t readers) {
        writer_ = fork_stage([&] {
            start_.take_write_end().reset();
            source_.take_read_end().reset();
            return write_when_told(start_.read_end(), source_.write_end(), bytes);
        });
        source_.take_write_end().reset();
        for (std::size_t i = 0; i < readers; ++i) add_reader(bytes, Pipe::open());
    }

    double run() {
        pipes::Pump pump;
        pump.tee(source_.take_read_end(), std::move(sinks_));
        return seconds_of([&] {
            tell(start_.write_end());
            static_cast<void>(pump.run());
            expect_ended_well(writer_);
            expect_ended_well(readers_);
        });
    }

private:
    void add_reader(std::size_t bytes, Pipe pipe) {
        readers_.push_back(fork_stage([&] {
            sinks_.clear();
            pipe.take_write_end().reset();
            return read_all(pipe.read_end(), bytes);
        }));
        sinks_.push_back(pipe.take_write_end());
    }

    Pipe start_ = Pipe::open();
    Pipe source_ = Pipe::open();
    Process writer_;
    std::vector<Process> readers_;
    std::vector<UniqueFd> sinks_;
};

double fan_out(std::size_t bytes, std::size_t readers) {
    return FanOut(bytes, readers).run() / static_cast<double>(readers);
}

double one_pipe(std::size_t bytes) {
    Pipe start = Pipe::open();
    Pipe pipe = Pipe::open();
    std::vector<Process> programs;
    programs.push_back(fork_stage([&] {
        start.take_write_end().reset();
        pipe.take_read_end().reset();
        return write_when_told(start.read_end(), pipe.write_end(), bytes);
    }));
    programs.push_back(fork_stage([&] {
        pipe.take_write_end().reset();
        return read_all(pipe.read_end(), bytes);
    }));
    pipe.take_write_end().reset();
    return seconds_of([&] {
        tell(start.write_end());
        expect_ended_well(programs);
    });
}

}  // namespace

void register_move_rows(const BenchSizes& sizes) {
    using State = benchmark::State;
    constexpr int kRepetitions = 7;
    const SharedValue value(sizes.value_bytes);

    const auto add = [&](const std::string& name, const auto& round) {
        add_row(name, sizes, kRepetitions, [round](State& state, bool& warm) { measure(state, warm, round); });
    };
    add("value_stages/1GiB", [value] { return hand_through_stages(value()); });
    add("pipe_stages/1GiB", [value] { return send_through_pipes(value()); });
    add("splice_value/1GiB", [value] { return splice_value(value()); });
    add("write_value/1GiB", [value] { return write_value(value()); });
    const std::size_t bytes = sizes.value_bytes;
    add("raw/one_pipe", [bytes] { return one_pipe(bytes); });
    for (const std::size_t readers : {std::size_t{1}, std::size_t{4}}) {
        add("fan_out/" + std::to_string(readers), [bytes, readers] { return fan_out(bytes, readers); });
    }
}

}  // namespace bench
