#include "procrun/fork_call.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/function_process.hpp"
#include "procrun/poll_until.hpp"
#include "procrun/process.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

enum class ReplyKind : std::uint32_t { returned, threw, not_started };

/// What the child sends first; the result, or the exception's text, follows in the same message or, when it is long,
/// lies in a memfd that is the message's first descriptor.
struct ReplyHeader {
    ReplyKind kind = ReplyKind::returned;
    std::int32_t error = 0;  // errno, for not_started
    std::uint64_t payload_bytes = 0;
    std::uint64_t copied_pages = 0;
    std::uint64_t identical_pages = 0;
    std::uint64_t changed_bytes = 0;
    std::uint32_t counted = 0;
    std::uint32_t payload_in_memfd = 0;
};

constexpr std::size_t kInlineBytes = pipes::MessageSocket::kMaxBytes - sizeof(ReplyHeader);
/// Of an exception's text, as much as a person reads.
constexpr std::size_t kTextBytes = 16384;
/// The exit status of a child that could not send its reply, say because the function closed every descriptor.
constexpr int kNoReply = 125;

// ---- the child's side

UniqueFd memfd_of(std::span<const std::byte> bytes) {
    UniqueFd fd = vmcow::sys::create_memfd("result");
    vmcow::sys::write_all(fd.get(), bytes, "result");
    vmcow::sys::seal_memfd(fd.get(), "result");
    return fd;
}

void send_reply(pipes::MessageSocket& socket, ReplyHeader header, std::span<const std::byte> payload,
                std::span<const int> fds) {
    header.payload_bytes = payload.size();
    std::vector<int> all_fds;
    UniqueFd memfd;
    if (payload.size() > kInlineBytes) {
        memfd = memfd_of(payload);
        header.payload_in_memfd = 1;
        all_fds.push_back(memfd.get());
        payload = {};
    }
    all_fds.insert(all_fds.end(), fds.begin(), fds.end());
    std::vector<std::byte> bytes(sizeof(header) + payload.size());
    std::memcpy(bytes.data(), &header, sizeof(header));
    if (!payload.empty()) std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
    socket.send(bytes, all_fds);
}

void count_changes(const vmcow::ImagesInFork& images, ReplyHeader& header) {
    try {
        const vmcow::PageChanges changes = images.changes();
        header.copied_pages = changes.copied.value;
        header.identical_pages = changes.identical.value;
        header.changed_bytes = changes.changed_bytes;
        header.counted = 1;
    } catch (const std::system_error&) {
        header.counted = 0;  // no descriptor left for the page scan: unknown, and said so (I8)
    }
}

void send_exception(pipes::MessageSocket& socket, ReplyHeader header, std::string_view text) {
    header.kind = ReplyKind::threw;
    send_reply(socket, header, std::as_bytes(std::span(text.substr(0, kTextBytes))), {});
}

int run_and_reply(pipes::MessageSocket& socket, const vmcow::ImagesInFork& images,
                  const std::function<void(pipes::MessageWriter&)>& body) {
    ReplyHeader header;
    try {
        try {
            pipes::MessageWriter writer;
            body(writer);
            count_changes(images, header);
            send_reply(socket, header, writer.bytes(), writer.fds());
        } catch (const std::exception& error) {
            count_changes(images, header);
            send_exception(socket, header, error.what());
        } catch (...) {
            count_changes(images, header);
            send_exception(socket, header, "an exception that is no std::exception");
        }
    } catch (const std::exception&) {
        return kNoReply;
    }
    return std::fflush(nullptr) == 0 ? 0 : kNoReply;
}

/// The whole life of the child. Until the images are mapped, nothing that is not async-signal-safe (I7).
int child_main(pipes::MessageSocket& socket, vmcow::ImagesInFork& images,
               const std::function<void(pipes::MessageWriter&)>& body) {
    if (const int error = images.map_again(); error != 0) {
        const ReplyHeader header{.kind = ReplyKind::not_started, .error = error};
        return ::send(socket.fd().get(), &header, sizeof(header), MSG_NOSIGNAL) < 0 ? kNoReply : 0;
    }
    return run_and_reply(socket, images, body);
}

// ---- the caller's side

/// Waits for a message from the child, its end, or the deadline. False at the deadline.
bool wait_for_reply(const pipes::MessageSocket& socket, const Process& child, Deadline deadline) {
    std::array<pollfd, 2> wanted{pollfd{socket.fd().get(), POLLIN, 0}, pollfd{child.pidfd(), POLLIN, 0}};
    return poll_until(wanted, deadline, "wait for a function process") > 0;
}

/// The pages that a child has written to, seen from outside.
std::optional<vmcow::PageCount> count_from_outside(pid_t pid, const std::vector<vmcow::WritableRange>& ranges) {
    try {
        const vmcow::sys::PageScanner scanner(pid);
        vmcow::PageCount sum;
        for (const vmcow::WritableRange& range : ranges) {
            std::vector<vmcow::PageRun> runs;
            scanner.private_pages(range.address, range.bytes, runs);
            const vmcow::PageCount found = vmcow::sys::total_pages(runs);
            sum += found < range.placed ? vmcow::PageCount{} : found - range.placed;
        }
        return sum;
    } catch (const std::system_error&) {
        return std::nullopt;  // it ended meanwhile, or may not be looked at (I8)
    }
}

CallCost cost_of(const ReplyHeader& header) {
    CallCost cost;
    if (header.counted != 0) {
        cost.copied = vmcow::PageCount{header.copied_pages};
        cost.identical = vmcow::PageCount{header.identical_pages};
        cost.changed_bytes = header.changed_bytes;
    }
    return cost;
}

/// The bytes behind a reply: those of the message, or those of its memfd, mapped.
class Payload {
public:
    Payload(const ReplyHeader& header, pipes::Message& message) {
        if (header.payload_in_memfd == 0) {
            bytes_ = std::span(message.bytes).subspan(sizeof(header));
        } else {
            map(header, message);
        }
        if (bytes_.size() != header.payload_bytes) {
            vmcow::sys::throw_error(EBADMSG, "received result: not as long as it should be");
        }
    }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
    void map(const ReplyHeader& header, pipes::Message& message) {
        if (message.fds.empty() || !vmcow::sys::is_immutable(message.fds.front().get())) {
            vmcow::sys::throw_error(EBADMSG, "received result: not sealed");
        }
        const UniqueFd fd = std::move(message.fds.front());
        message.fds.erase(message.fds.begin());
        const std::uint64_t size = vmcow::sys::file_bytes(fd.get());
        if (size == 0 || size != header.payload_bytes) {
            vmcow::sys::throw_error(EBADMSG, "received result: not as long as it should be");
        }
        slot_ = vmcow::Slot::reserve(size);
        const int error = vmcow::sys::map_file_at(slot_.address(), vmcow::round_up(size, vmcow::kPageBytes),
                                                  vmcow::sys::MapMode::read_only, fd.get(), 0);
        if (error != 0) vmcow::sys::throw_error(error, "map a result");
        bytes_ = {slot_.address(), size};
    }

    vmcow::Slot slot_;
    std::span<const std::byte> bytes_;
};

ForkedCall read_reply(pipes::Message message, const std::function<void(pipes::MessageReader&)>& take) {
    ReplyHeader header;
    if (message.bytes.size() < sizeof(header)) vmcow::sys::throw_error(EBADMSG, "received result: no header");
    std::memcpy(&header, message.bytes.data(), sizeof(header));
    ForkedCall call{{}, cost_of(header)};
    if (header.kind == ReplyKind::not_started) {
        call.outcome = {OutcomeKind::not_started, header.error, "map images"};
        return call;
    }
    const Payload payload(header, message);
    if (header.kind == ReplyKind::threw) {
        const auto* const text = reinterpret_cast<const char*>(payload.bytes().data());
        call.outcome = {OutcomeKind::threw, 0, std::string(text, payload.bytes().size())};
        return call;
    }
    if (header.kind != ReplyKind::returned) vmcow::sys::throw_error(EBADMSG, "received result: of no known kind");
    pipes::MessageReader reader(payload.bytes(), std::move(message.fds));
    take(reader);
    reader.expect_end();
    call.outcome = {OutcomeKind::returned, 0, {}};
    return call;
}

}  // namespace

ForkedCall run_forked(const std::function<void(pipes::MessageWriter&)>& body,
                      const std::function<void(pipes::MessageReader&)>& take, const CallOptions& options) {
    const auto started = std::chrono::steady_clock::now();
    auto ends = pipes::MessageSocket::pair();
    pipes::MessageSocket& ours = ends.first;
    pipes::MessageSocket& theirs = ends.second;
    std::vector<vmcow::WritableRange> ranges;
    Process child;
    {
        vmcow::ImagesInFork images;
        ranges = images.writable();
        child = fork_function_process([&] {
            ours.take_fd().reset();
            return child_main(theirs, images, body);
        });
        theirs.take_fd().reset();
    }
    ForkedCall call;
    std::optional<pipes::Message> reply;
    if (wait_for_reply(ours, child, options.deadline)) {
        pollfd readable{ours.fd().get(), POLLIN, 0};
        if (::poll(&readable, 1, 0) > 0 && (readable.revents & POLLIN) != 0) reply = ours.receive();
        // After its reply the child has nothing to do but to end; without one it has ended or is about to.
        std::optional<ExitRecord> ended = child.wait_until(options.deadline);
        if (!ended) ended = child.kill_and_wait();
        call.outcome = ended->outcome;
        if (reply) call = read_reply(std::move(*reply), take);
    } else {
        call.cost.copied = count_from_outside(child.pid(), ranges);
        child.kill_and_wait();
        call.outcome = {OutcomeKind::deadline_passed, SIGKILL, {}};
    }
    call.cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    return call;
}

}  // namespace procrun::detail
