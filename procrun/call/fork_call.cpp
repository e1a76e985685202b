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
#include <utility>
#include <variant>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/call/payload.hpp"
#include "procrun/limits/limit_reasons.hpp"
#include "procrun/limits/limit_watch.hpp"
#include "procrun/limits/memory_cgroup.hpp"
#include "procrun/limits/open_files_limit.hpp"
#include "procrun/limits/process_counters.hpp"
#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::UniqueFd;

enum class ForkedReplyKind : std::uint32_t { returned, threw, out_of_descriptors, not_started };

/// The beginning of the child's reply. The payload (the result, or the exception's text) follows in the same message.
/// When it is long, it lies in a memfd that is the first descriptor of the message.
struct ReplyHeader {
    ForkedReplyKind kind = ForkedReplyKind::returned;
    std::int32_t error = 0;  // errno, for not_started
    std::uint64_t payload_bytes = 0;
    std::uint64_t copied_pages = 0;
    std::uint64_t identical_pages = 0;
    std::uint64_t changed_bytes = 0;
    std::uint32_t counted = 0;
    std::uint32_t payload_in_memfd = 0;
};

constexpr std::size_t kReplyBytes = pipes::MessageSocket::kMaxBytes - sizeof(ReplyHeader);
/// The exit status of a child that could not send its reply, as when the function has closed every descriptor.
constexpr int kNoReply = 125;

// ---- the child's side

void send_reply(pipes::MessageSocket& socket, ReplyHeader header, std::span<const std::byte> payload,
                std::span<const int> fds) {
    header.payload_bytes = payload.size();
    std::vector<int> all_fds;
    UniqueFd memfd;
    if (payload.size() > kReplyBytes) {
        memfd = file_of_payload(payload);
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
        header.counted = 0;  // no descriptor was left for the page scan: the counts are unknown (I8)
    }
}

void send_exception(pipes::MessageSocket& socket, ReplyHeader header, std::string_view text,
                    ForkedReplyKind kind = ForkedReplyKind::threw) {
    header.kind = kind;
    send_reply(socket, header, std::as_bytes(std::span(text.substr(0, kMostTextBytes))), {});
}

int run_and_reply(pipes::MessageSocket& socket, const vmcow::ImagesInFork& images,
                  const std::function<void(pipes::MessageWriter&)>& body, std::optional<std::uint32_t> open_files) {
    ReplyHeader header;
    try {
        std::optional<OpenFilesLimit> files(std::in_place, open_files);
        try {
            try {
                pipes::MessageWriter writer;
                body(writer);
                files.reset();
                count_changes(images, header);
                send_reply(socket, header, writer.bytes(), writer.fds());
            } catch (const std::system_error& error) {
                const bool limited = files && files->is_reason_of(error);
                files.reset();
                count_changes(images, header);
                send_exception(socket, header, error.what(),
                               limited ? ForkedReplyKind::out_of_descriptors : ForkedReplyKind::threw);
            }
        } catch (const std::exception& error) {
            files.reset();
            count_changes(images, header);
            send_exception(socket, header, error.what());
        } catch (...) {
            files.reset();
            count_changes(images, header);
            send_exception(socket, header, kUnknownException);
        }
    } catch (const std::exception&) {
        return kNoReply;
    }
    return std::fflush(nullptr) == 0 ? 0 : kNoReply;
}

/// Runs the child. Until the images are mapped, it calls only what is async-signal-safe (I7).
int child_main(pipes::MessageSocket& socket, vmcow::ImagesInFork& images,
               const std::function<void(pipes::MessageWriter&)>& body, const CallLimits& limits) {
    if (const int error = images.map_again(); error != 0) {
        const ReplyHeader header{.kind = ForkedReplyKind::not_started, .error = error};
        return ::send(socket.fd().get(), &header, sizeof(header), MSG_NOSIGNAL) < 0 ? kNoReply : 0;
    }
    return run_and_reply(socket, images, body, limits.open_files);
}

// ---- the caller's side

/// Puts one forked call into a cgroup with its memory limit, where that is possible.
class MemoryWatch {
public:
    /// Removes the memory limit from `limits` when a delegated cgroup enforces it; otherwise it is polled.
    MemoryWatch(pid_t child, CallLimits& limits, CallCost& cost) {
        if (!limits.memory_bytes) return;
        bytes_ = *limits.memory_bytes;
        cost.memory_limit_by = MemoryLimitBy::polling;
        auto made = MemoryCgroup::make();
        auto* const cgroup = std::get_if<MemoryCgroup>(&made);
        if (cgroup == nullptr || cgroup->add(child) != 0 || cgroup->limit(bytes_) != 0) return;
        cgroup_.emplace(std::move(*cgroup));
        cost.memory_limit_by = MemoryLimitBy::cgroup;
        limits.memory_bytes.reset();
    }
    /// Why the child was killed, if the cgroup has killed it.
    [[nodiscard]] std::optional<std::string> reason() const {
        if (!cgroup_ || cgroup_->oom_kills().value_or(0) == 0) return std::nullopt;
        return cgroup_limit_reason(bytes_);
    }

private:
    std::uint64_t bytes_ = 0;
    std::optional<MemoryCgroup> cgroup_;
};

/// Waits for a message from the child or its end, and returns nullopt then. Returns an outcome when the child is to be
/// killed: it has exceeded a limit, or its deadline has passed.
std::optional<Outcome> wait_for_reply(const pipes::MessageSocket& socket, const Process& child, Deadline deadline,
                                      LimitWatch& watch) {
    while (true) {
        std::array<pollfd, 2> wanted{pollfd{socket.fd().get(), POLLIN, 0}, pollfd{child.pidfd(), POLLIN, 0}};
        const Deadline next = earlier(deadline, watch.next_look());
        if (poll_until(wanted, next, "wait for a function process") > 0) return std::nullopt;
        if (std::optional<std::string> reason = watch.exceeded()) {
            return Outcome{OutcomeKind::limit_exceeded, SIGKILL, std::move(*reason)};
        }
        if (deadline.passed()) return Outcome{OutcomeKind::deadline_passed, SIGKILL, {}};
    }
}

/// Counts from outside the pages that a child has written to.
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
        return std::nullopt;  // the child has ended, or may not be looked at (I8)
    }
}

CallCost cost_of(const ReplyHeader& header) {
    CallCost cost;
    if (header.counted != 0) {
        cost.copied = vmcow::PageCount{header.copied_pages};
        cost.identical = vmcow::PageCount{header.identical_pages};
        cost.changed_bytes = header.changed_bytes;
        cost.changed = *cost.copied - *cost.identical;
    }
    return cost;
}

/// The payload of a reply, from the message or from the memfd that came with it. It is not trusted (I3).
Payload payload_of(const ReplyHeader& header, pipes::Message& message) {
    if (header.payload_in_memfd != 0) return Payload::of_file(message.fds, header.payload_bytes);
    if (message.bytes.size() - sizeof(header) != header.payload_bytes) {
        vmcow::sys::throw_error(EBADMSG, "received result: not of the size that was announced");
    }
    return Payload({message.bytes.begin() + sizeof(header), message.bytes.end()});
}

ForkedCall read_reply(pipes::Message message, const std::function<void(pipes::MessageReader&)>& take,
                      const CallOptions& options) {
    ReplyHeader header;
    if (message.bytes.size() < sizeof(header)) vmcow::sys::throw_error(EBADMSG, "received result: no header");
    std::memcpy(&header, message.bytes.data(), sizeof(header));
    ForkedCall call{{}, cost_of(header)};
    if (header.kind == ForkedReplyKind::not_started) {
        call.outcome = {OutcomeKind::not_started, header.error, "map images"};
        return call;
    }
    const Payload payload = payload_of(header, message);
    if (header.kind == ForkedReplyKind::threw || header.kind == ForkedReplyKind::out_of_descriptors) {
        std::string text(reinterpret_cast<const char*>(payload.bytes().data()), payload.bytes().size());
        call.outcome = {OutcomeKind::threw, 0, std::move(text)};
        if (header.kind == ForkedReplyKind::threw) return call;
        const std::string reason = OpenFilesLimit::reason(options.limits.open_files.value_or(0));
        call.outcome = {OutcomeKind::limit_exceeded, EMFILE, reason + " (" + call.outcome.text + ")"};
        return call;
    }
    if (header.kind != ForkedReplyKind::returned) vmcow::sys::throw_error(EBADMSG, "received result: of unknown kind");
    pipes::MessageReader reader(payload.bytes(), std::move(message.fds));
    take(reader);
    reader.expect_end();
    call.outcome = {OutcomeKind::returned, 0, {}};
    return call;
}

/// Completes a call whose child has replied, or has ended without a reply: reaps the child and reads the reply.
void end_well(ForkedCall& call, pipes::MessageSocket& socket, Process& child, const CallOptions& options,
              const LimitWatch& watch, const std::function<void(pipes::MessageReader&)>& take) {
    std::optional<pipes::Message> reply;
    pollfd readable{socket.fd().get(), POLLIN, 0};
    if (::poll(&readable, 1, 0) > 0 && (readable.revents & POLLIN) != 0) reply = socket.receive();
    // After its reply the child only has to exit. Without a reply it has ended, or is about to.
    std::optional<ExitRecord> ended = child.wait_until(options.deadline);
    if (!ended) ended = child.kill_and_wait();
    call.outcome = ended->outcome;
    if (!reply) return;
    const std::optional<MemoryLimitBy> memory_limit_by = call.cost.memory_limit_by;
    call = read_reply(std::move(*reply), take, options);
    call.cost.memory_limit_by = memory_limit_by;
    const auto used = std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(ended->user_seconds + ended->system_seconds));
    const auto over = watch.exceeded_at_end(used, call.cost.copied);
    if (over && call.outcome.kind == OutcomeKind::returned) call.outcome = {OutcomeKind::limit_exceeded, 0, *over};
}

}  // namespace

ForkedCall run_forked(const std::function<void(pipes::MessageWriter&)>& body,
                      const std::function<void(pipes::MessageReader&)>& take, const CallOptions& options) {
    const auto started = std::chrono::steady_clock::now();
    auto ends = pipes::MessageSocket::pair();
    pipes::MessageSocket& ours = ends.first;
    pipes::MessageSocket& theirs = ends.second;
    std::vector<vmcow::WritableRange> ranges;
    const vmcow::PageStore::Pin pin;  // until the child has been reaped: it reads deltas where they lie in the store
    Process child;
    {
        vmcow::ImagesInFork images;
        ranges = images.writable();
        child = fork_function_process([&] {
            ours.take_fd().reset();
            return child_main(theirs, images, body, options.limits);
        });
        theirs.take_fd().reset();
    }
    ForkedCall call;
    CallLimits limits = options.limits;
    const MemoryWatch memory(child.pid(), limits, call.cost);
    ProcessCounters counters(child.pid());
    LimitWatch watch(counters, limits, ranges, CallStart::forked);
    if (auto cut_short = wait_for_reply(ours, child, options.deadline, watch)) {
        call.cost.copied = count_from_outside(child.pid(), ranges);
        child.kill_and_wait();
        call.outcome = std::move(*cut_short);
    } else {
        end_well(call, ours, child, options, watch, take);
        if (const auto reason = memory.reason(); reason && call.outcome.kind == OutcomeKind::signaled) {
            call.outcome = {OutcomeKind::limit_exceeded, SIGKILL, *reason};
        }
    }
    VMCOW_ASSERT(!child && "I4: the function process has been reaped");
    for (const std::string& reason : watch.unknown()) {
        call.cost.unwatched += (call.cost.unwatched.empty() ? "" : "; ") + reason;
    }
    call.cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    return call;
}

}  // namespace procrun::detail
