#include "bench/call/peer_calls.hpp"

#include <spawn.h>
#include <unistd.h>

#include <array>
#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <csignal>
#include <cstring>
#include <span>
#include <string_view>

#include "pipes/pipe.hpp"
#include "procrun/fork_call.hpp"
#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/view.hpp"

namespace bench {
namespace {

using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

constexpr std::string_view kDrainFlag = "--drain";
/// What a pipe may hold without privilege under the default pipe-max-size. Also the most that is read at once.
constexpr std::size_t kPipeBytes = std::size_t{1} << 20;
/// The size of the messages in which the value is sent.
constexpr std::size_t kMessageBytes = std::size_t{256} << 10;
/// How many messages the queue holds.
constexpr std::size_t kQueuedMessages = 16;

struct Value {
    vmcow::Snapshot snapshot;
    int collapse_error;
};

Value filled_value(const BenchSizes& sizes) {
    vmcow::Arena arena({.name = "peer"});
    std::memset(arena.allocate(sizes.value_bytes), kFilled, sizes.value_bytes);
    const int collapse_error = arena.pages().collapse_error;
    return {std::move(arena).freeze(), collapse_error};
}

/// The answer of a receiver to a value sent as bytes: how many bytes came, and the byte that a call would look at.
struct Receipt {
    std::uint64_t bytes = 0;
    std::uint64_t touched = 0;

    void add(std::span<const std::byte> arrived) noexcept {
        if (bytes <= kTouched && kTouched < bytes + arrived.size()) {
            touched = std::to_integer<std::uint64_t>(arrived[kTouched - bytes]);
        }
        bytes += arrived.size();
    }
    void verify(const BenchSizes& sizes) const {
        if (bytes != sizes.value_bytes || touched != kFilled) throw_error(EBADMSG, "not all of the value arrived");
    }
};

void fork_call(benchmark::State& state, bool& warm, const BenchSizes& sizes) {
    constexpr int kRounds = 10;
    const Value value = filled_value(sizes);
    vmcow::View view = value.snapshot.map_private();
    std::byte& touched = view.bytes()[kTouched];
    measure(state, warm, [&] {
        return seconds_of_each(kRounds, [&] {
            const auto result = procrun::fork_call([&] {
                touched = std::byte{2};
                return static_cast<int>(touched);
            });
            if (result.value() != 2) throw_error(EBADMSG, "the function did not write");
        });
    });
    if (touched != std::byte{kFilled}) throw_error(EBADMSG, "the function wrote to the caller's value");
    report_pages(state, value.collapse_error);
}

/// Ignores SIGPIPE: if a program ends before it has read everything, the write fails with EPIPE, not this process.
class BrokenPipeIgnored {
public:
    BrokenPipeIgnored() noexcept {
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignore, &before_);
    }
    ~BrokenPipeIgnored() { ::sigaction(SIGPIPE, &before_, nullptr); }
    BrokenPipeIgnored(const BrokenPipeIgnored&) = delete;
    BrokenPipeIgnored& operator=(const BrokenPipeIgnored&) = delete;

private:
    struct sigaction before_ {};
};

/// Starts this program again, so that `run_as_peer` receives the value. Source: posix_spawn(3).
procrun::Process spawn_receiver(int input, int output) {
    std::array<char, kDrainFlag.size() + 1> flag{};
    kDrainFlag.copy(flag.data(), kDrainFlag.size());
    std::array<char, 5> name{"peer"};
    const std::array<char*, 3> arguments{name.data(), flag.data(), nullptr};
    posix_spawn_file_actions_t actions;
    if (const int error = ::posix_spawn_file_actions_init(&actions); error != 0) throw_error(error, "posix_spawn");
    int error = ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (error == 0) error = ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    pid_t pid = -1;
    if (error == 0) error = ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw_error(error, "posix_spawn");
    return {pid, vmcow::sys::open_pidfd_of_child(pid, "pidfd_open")};
}

/// Makes one call. Returns the capacity of its pipe in bytes.
std::size_t call_by_pipe(std::span<const std::byte> value, const BenchSizes& sizes) {
    pipes::Pipe request = pipes::Pipe::open(kPipeBytes);
    pipes::Pipe reply = pipes::Pipe::open();
    procrun::Process receiver = spawn_receiver(request.read_end().get(), reply.write_end().get());
    request.take_read_end().reset();
    reply.take_write_end().reset();
    vmcow::sys::write_all(request.write_end().get(), value, "the pipe to the program");
    request.take_write_end().reset();
    Receipt receipt;
    vmcow::sys::read_full(reply.read_end().get(), std::as_writable_bytes(std::span(&receipt, 1)), "the answer");
    receipt.verify(sizes);
    if (!receiver.wait().outcome.ok()) throw_error(ECHILD, "the program failed");
    return request.capacity_bytes();
}

void posix_spawn_pipe(benchmark::State& state, bool& warm, const BenchSizes& sizes) {
    const BrokenPipeIgnored ignored;
    const Value value = filled_value(sizes);
    std::size_t pipe_bytes = 0;
    measure(state, warm, [&] { return seconds_of([&] { pipe_bytes = call_by_pipe(value.snapshot.bytes(), sizes); }); });
    state.SetLabel("a pipe of " + std::to_string(pipe_bytes >> 10) + " KiB");
}

/// A queue without a name, for this process and the processes that it forks. Nothing is left of it when they are gone,
/// however they end.
class PrivateQueue {
public:
    using Queue = boost::interprocess::message_queue;

    PrivateQueue(const std::string& purpose, std::size_t messages, std::size_t message_bytes)
        : name_("vmcow_bench_" + purpose + "_" + std::to_string(::getpid())),
          queue_(create(name_, messages, message_bytes)) {
        Queue::remove(name_.c_str());
    }

    /// Throws: std::system_error -- ETIMEDOUT if the other side takes nothing for ten seconds.
    void send(std::span<const std::byte> message) {
        if (!queue_.timed_send(message.data(), message.size(), 0, deadline())) throw_error(ETIMEDOUT, "message queue");
    }
    /// Returns the part of `buffer` that the next message fills.
    /// Throws: std::system_error -- ETIMEDOUT if no message comes for ten seconds.
    std::span<std::byte> receive(std::span<std::byte> buffer) {
        Queue::size_type received = 0;
        unsigned priority = 0;
        if (!queue_.timed_receive(buffer.data(), buffer.size(), received, priority, deadline())) {
            throw_error(ETIMEDOUT, "message queue");
        }
        return buffer.first(received);
    }

private:
    static Queue create(const std::string& name, std::size_t messages, std::size_t message_bytes) {
        Queue::remove(name.c_str());  // left by a process with our ID that was killed before its own removal
        return {boost::interprocess::create_only, name.c_str(), messages, message_bytes};
    }
    static boost::posix_time::ptime deadline() {
        return boost::posix_time::microsec_clock::universal_time() + boost::posix_time::seconds(10);
    }

    std::string name_;
    Queue queue_;
};

/// Runs in the receiver: sends one answer for each `value_bytes` that have come.
int answer_messages(PrivateQueue& requests, PrivateQueue& replies, const BenchSizes& sizes,
                    std::span<std::byte> buffer) noexcept {
    try {
        for (;;) {
            Receipt receipt;
            while (receipt.bytes < sizes.value_bytes) receipt.add(requests.receive(buffer));
            replies.send(std::as_bytes(std::span(&receipt, 1)));
        }
    } catch (const std::exception&) {
        return 1;  // the caller notices that no answer comes
    }
}

void message_queue(benchmark::State& state, bool& warm, const BenchSizes& sizes) {
    const Value value = filled_value(sizes);
    PrivateQueue requests("request", kQueuedMessages, kMessageBytes);
    PrivateQueue replies("reply", 1, sizeof(Receipt));
    std::vector<std::byte> buffer(kMessageBytes);
    const procrun::Process receiver =
        procrun::fork_function_process([&] { return answer_messages(requests, replies, sizes, buffer); });
    measure(state, warm, [&] {
        return seconds_of([&] {
            for (std::span<const std::byte> left = value.snapshot.bytes(); !left.empty();) {
                const std::size_t sent = std::min(left.size(), kMessageBytes);
                requests.send(left.first(sent));
                left = left.subspan(sent);
            }
            Receipt receipt;
            replies.receive(std::as_writable_bytes(std::span(&receipt, 1)));
            receipt.verify(sizes);
        });
    });
    state.SetLabel("messages of " + std::to_string(kMessageBytes >> 10) + " KiB");
}

}  // namespace

void register_peer_rows(const BenchSizes& sizes) {
    using benchmark::State;
    add_row("peer/fork_call", sizes, 11, [sizes](State& state, bool& warm) { fork_call(state, warm, sizes); });
    add_row("peer/posix_spawn_pipe", sizes, 7,
            [sizes](State& state, bool& warm) { posix_spawn_pipe(state, warm, sizes); });
    add_row("peer/message_queue", sizes, 7, [sizes](State& state, bool& warm) { message_queue(state, warm, sizes); });
}

std::optional<int> run_as_peer(int argc, const char* const* argv) noexcept {
    if (argc != 2 || argv[1] != kDrainFlag) return std::nullopt;
    try {
        std::vector<std::byte> buffer(kPipeBytes);
        Receipt receipt;
        // Read what there is: waiting for a full buffer would leave the writer with a full pipe.
        for (;;) {
            const ssize_t got =
                vmcow::sys::retry_interrupted([&] { return ::read(STDIN_FILENO, buffer.data(), buffer.size()); });
            if (got < 0) throw_errno("standard input");
            if (got == 0) break;
            receipt.add(std::span(buffer).first(static_cast<std::size_t>(got)));
        }
        vmcow::sys::write_all(STDOUT_FILENO, std::as_bytes(std::span(&receipt, 1)), "standard output");
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "peer: %s\n", error.what()));
        return 1;
    }
    return 0;
}

}  // namespace bench
