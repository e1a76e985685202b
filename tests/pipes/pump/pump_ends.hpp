#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "pipes/pipe.hpp"
#include "pipes/pump.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

/// Threads that stand for the programs at the ends of a pump.
namespace tests {

using Bytes = std::vector<std::byte>;

[[nodiscard]] inline Bytes bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

[[nodiscard]] inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads up to the end of the file, and closes the descriptor.
[[nodiscard]] inline Bytes read_all(vmcow::sys::UniqueFd fd) {
    Bytes bytes;
    for (;;) {
        const std::size_t before = bytes.size();
        bytes.resize(before + (std::size_t{64} << 10));
        const std::size_t count = vmcow::sys::read_full(fd.get(), std::span(bytes).subspan(before), "a reader's end");
        bytes.resize(before + count);
        if (count == 0) return bytes;
    }
}

/// Writes bytes in pieces of random sizes, with a pause now and then, and closes its end.
class Feeder {
public:
    Feeder(vmcow::sys::UniqueFd fd, Bytes bytes, unsigned seed = 1)
        : fd_(std::move(fd)), bytes_(std::move(bytes)), thread_([this, seed] { write(seed); }) {}
    Feeder(const Feeder&) = delete;
    Feeder& operator=(const Feeder&) = delete;
    ~Feeder() {
        if (thread_.joinable()) thread_.join();
    }

    /// Waits until all is written. Returns 0, or the errno of the write that failed.
    [[nodiscard]] int error() {
        thread_.join();
        return error_;
    }

private:
    void write(unsigned seed) {
        sigset_t broken;
        sigemptyset(&broken);
        sigaddset(&broken, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &broken, nullptr);  // stays pending at most until the thread ends
        std::mt19937 random(seed);
        std::span<const std::byte> left(bytes_);
        while (!left.empty() && error_ == 0) {
            const std::size_t most = random() % 2 == 0 ? 5000 : 200'000;
            const std::size_t count = std::min<std::size_t>(left.size(), 1 + random() % most);
            try {
                vmcow::sys::write_all(fd_.get(), left.first(count), "a writer's end");
            } catch (const std::system_error& error) {
                error_ = error.code().value();
            }
            left = left.subspan(count);
            if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        fd_.reset();
    }

    vmcow::sys::UniqueFd fd_;
    Bytes bytes_;
    int error_ = 0;
    std::thread thread_;
};

/// Reads to the end of the file, in pieces of random sizes with pauses.
class Collector {
public:
    explicit Collector(vmcow::sys::UniqueFd fd, unsigned seed = 1)
        : fd_(std::move(fd)), thread_([this, seed] { read(seed); }) {}
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;
    ~Collector() {
        if (thread_.joinable()) thread_.join();
    }

    /// Waits for the end of the file.
    [[nodiscard]] const Bytes& bytes() {
        thread_.join();
        return bytes_;
    }

private:
    void read(unsigned seed) {
        std::mt19937 random(seed);
        Bytes piece(100'000);
        for (;;) {
            const ssize_t count = ::read(fd_.get(), piece.data(), 1 + random() % piece.size());
            if (count <= 0) break;
            bytes_.insert(bytes_.end(), piece.begin(), piece.begin() + count);
            if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        fd_.reset();
    }

    vmcow::sys::UniqueFd fd_;
    Bytes bytes_;
    std::thread thread_;
};

/// A pump that runs in a thread while the test goes on.
class RunningPump {
public:
    explicit RunningPump(pipes::Pump pump) : pump_(std::move(pump)), thread_([this] { report_ = pump_.run(); }) {}
    RunningPump(const RunningPump&) = delete;
    RunningPump& operator=(const RunningPump&) = delete;
    ~RunningPump() {
        if (thread_.joinable()) thread_.join();
    }

    [[nodiscard]] const pipes::PumpReport& report() {
        if (thread_.joinable()) thread_.join();
        return report_;
    }

private:
    pipes::Pump pump_;
    pipes::PumpReport report_;
    std::thread thread_;
};

[[nodiscard]] inline std::pair<vmcow::sys::UniqueFd, vmcow::sys::UniqueFd> socket_pair() {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) vmcow::sys::throw_errno("socketpair");
    return {vmcow::sys::UniqueFd(ends[0]), vmcow::sys::UniqueFd(ends[1])};
}

[[nodiscard]] inline bool has_io_uring() {
    pipes::Pump pump({.way = pipes::PumpWay::io_uring});
    try {
        static_cast<void>(pump.run());
    } catch (const std::system_error&) {
        return false;
    }
    return true;
}

/// Runs each test with io_uring and with poll. The pump has as many ends as the test adds.
class PumpWayTest : public testing::TestWithParam<pipes::PumpWay> {
protected:
    void SetUp() override {
        if (GetParam() == pipes::PumpWay::io_uring && !has_io_uring()) GTEST_SKIP() << "no io_uring";
    }
    [[nodiscard]] pipes::PumpOptions options() const { return {.way = GetParam()}; }

    /// Adds a writer to the pump and returns the end that the writer uses.
    [[nodiscard]] vmcow::sys::UniqueFd add_writer() {
        pipes::Pipe pipe = pipes::Pipe::open();
        ins_.push_back(pipe.take_read_end());
        return pipe.take_write_end();
    }
    /// Adds a reader to the pump and returns the end that the reader uses.
    [[nodiscard]] vmcow::sys::UniqueFd add_reader() {
        pipes::Pipe pipe = pipes::Pipe::open();
        outs_.push_back(pipe.take_write_end());
        return pipe.take_read_end();
    }

    std::vector<vmcow::sys::UniqueFd> ins_;
    std::vector<vmcow::sys::UniqueFd> outs_;
};

[[nodiscard]] inline std::string way_name(const testing::TestParamInfo<pipes::PumpWay>& info) {
    return info.param == pipes::PumpWay::poll ? "poll" : "io_uring";
}

inline const auto kBothWays = testing::Values(pipes::PumpWay::poll, pipes::PumpWay::io_uring);

}  // namespace tests
