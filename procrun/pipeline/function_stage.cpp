#include "procrun/pipeline/function_stage.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/call/payload.hpp"
#include "procrun/process/function_process.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

/// What the child sends at its end; an exception's text follows.
struct ReplyHeader {
    std::uint64_t taken = 0;
    std::uint64_t given = 0;
    std::uint64_t moved = 0;
    std::uint64_t most_held = 0;
    std::uint64_t copied_pages = 0;
    std::uint64_t identical_pages = 0;
    std::uint64_t changed_bytes = 0;
    std::uint32_t counted = 0;
    std::int32_t error = 0;  // for not_started
    OutcomeKind kind = OutcomeKind::returned;
    std::uint32_t reserved = 0;
};

/// The exit status of a child whose function has not returned.
constexpr int kFailed = 1;
/// The exit status of a child that could not send its reply.
constexpr int kNoReply = 125;

// ---- the child's side

void note_traffic(ReplyHeader& header, const ValueTraffic& traffic, const vmcow::ImagesInFork& images) {
    header.taken = traffic.taken;
    header.given = traffic.given;
    header.moved = traffic.moved;
    header.most_held = traffic.most_held;
    if (!traffic.changes) return;
    try {
        vmcow::PageChanges changes = *traffic.changes;
        changes += images.changes();
        header.copied_pages = changes.copied.value;
        header.identical_pages = changes.identical.value;
        header.changed_bytes = changes.changed_bytes;
        header.counted = 1;
    } catch (const std::system_error&) {
        header.counted = 0;  // no descriptor left for the page scan: unknown, and said so (I8)
    }
}

void send_reply(pipes::MessageSocket& socket, const ReplyHeader& header, std::string_view text = {}) {
    text = text.substr(0, detail::kMostTextBytes);
    std::vector<std::byte> message(sizeof(header) + text.size());
    std::memcpy(message.data(), &header, sizeof(header));
    if (!text.empty()) std::memcpy(message.data() + sizeof(header), text.data(), text.size());
    socket.send(message, {});
}

/// Runs the function. Returns the text of what it has thrown; nullopt when it has returned.
std::optional<std::string> run_function(const StageFunction& function, StageIo& io) {
    try {
        function(io);
        io.finish();
        std::cout.flush();
        if (std::fflush(stdout) != 0) vmcow::sys::throw_errno("write a stage's standard output");
        return std::nullopt;
    } catch (const std::exception& error) {
        return error.what();
    } catch (...) {
        return detail::kUnknownException;
    }
}

int run_and_reply(pipes::MessageSocket& socket, const vmcow::ImagesInFork& images, FunctionStage::Fork& fork) {
    try {
        ReplyHeader header;
        StageIo io(std::move(fork.channels));
        const std::optional<std::string> thrown = run_function(fork.function, io);
        if (thrown) header.kind = OutcomeKind::threw;
        note_traffic(header, io.traffic(), images);
        send_reply(socket, header, thrown.value_or(""));
        return thrown ? kFailed : 0;
    } catch (const std::exception&) {
        return kNoReply;
    }
}

int limit_open_files(std::optional<std::uint64_t> limit) noexcept {
    if (!limit) return 0;
    const rlimit wanted{.rlim_cur = *limit, .rlim_max = *limit};
    return setrlimit(RLIMIT_NOFILE, &wanted) == 0 ? 0 : errno;
}

/// The whole life of the child. Until the images are mapped, it calls only what is async-signal-safe (I7).
int child_main(pipes::MessageSocket& socket, vmcow::ImagesInFork& images, const StageText& text, const StageStart& how,
               FunctionStage::Fork& fork) {
    int error = images.map_again();
    if (error == 0) error = become_stage(how);
    if (error == 0) error = limit_open_files(text.limits.open_files);
    fork.close_others();
    if (error == 0) return run_and_reply(socket, images, fork);
    try {
        ReplyHeader header;
        header.kind = OutcomeKind::not_started;
        header.error = error;
        send_reply(socket, header, "prepare a function stage");
    } catch (const std::exception&) {
        return kNoReply;
    }
    return kFailed;
}

/// Takes a reply apart; nothing in it is trusted (I3).
FunctionStageReply reply_of(const std::vector<std::byte>& bytes) {
    ReplyHeader header;
    if (bytes.size() < sizeof(header)) return {};
    std::memcpy(&header, bytes.data(), sizeof(header));
    ValueTraffic traffic{.taken = header.taken,
                         .given = header.given,
                         .moved = header.moved,
                         .most_held = header.most_held,
                         .changes = {}};
    if (header.counted != 0) {
        traffic.changes = vmcow::PageChanges{.copied = vmcow::PageCount{header.copied_pages},
                                             .identical = vmcow::PageCount{header.identical_pages},
                                             .changed_bytes = header.changed_bytes};
    }
    std::string text(reinterpret_cast<const char*>(bytes.data()) + sizeof(header), bytes.size() - sizeof(header));
    switch (header.kind) {
        case OutcomeKind::returned:
        case OutcomeKind::threw:
            return {Outcome{header.kind, 0, std::move(text)}, traffic};
        case OutcomeKind::not_started:
            return {Outcome{header.kind, header.error, std::move(text)}, traffic};
        default:
            return {};
    }
}

}  // namespace

int become_stage(const StageStart& how) noexcept {
    if (setpgid(0, how.group) != 0) return errno;
    // In two steps, because the descriptor that is to become 0 may be 1.
    std::array<int, 3> moved{};
    for (std::size_t fd = 0; fd < moved.size(); ++fd) {
        moved.at(fd) = fcntl(how.standard.at(fd), F_DUPFD_CLOEXEC, 3);
        // A caller without a standard input gives its stages none.
        if (moved.at(fd) < 0 && errno != EBADF) return errno;
    }
    for (std::size_t fd = 0; fd < moved.size(); ++fd) {
        if (moved.at(fd) < 0) continue;
        if (dup2(moved.at(fd), static_cast<int>(fd)) < 0) return errno;
        close(moved.at(fd));
    }
    return 0;
}

void join_group(pid_t child, pid_t group) noexcept {
    // EACCES: the child is in the group already, and has executed something; ESRCH: it has ended.
    (void)setpgid(child, group == 0 ? child : group);
}

FunctionStage FunctionStage::start(const StageText& text, const StageStart& how, Fork fork) {
    VMCOW_ASSERT(text.argv.empty() && text.redirections.empty() && text.variables.empty() && !text.directory &&
                 "a function stage has limits and a name only");
    auto [ours, theirs] = pipes::MessageSocket::pair();
    const auto now = std::chrono::steady_clock::now();
    Process child;
    {
        vmcow::ImagesInFork images;
        child = fork_function_process([&, &our_end = ours, &their_end = theirs] {
            our_end.take_fd().reset();
            return child_main(their_end, images, text, how, fork);
        });
    }
    join_group(child.pid(), how.group);
    return {StageProcess::of_forked(std::move(child), text, how, now), std::move(ours)};
}

FunctionStageReply FunctionStage::reply() {
    pollfd readable{.fd = socket_.fd().get(), .events = POLLIN, .revents = 0};
    if (poll_until({&readable, 1}, Deadline::in({}), "look for a stage's reply") == 0) return {};
    try {
        const std::optional<pipes::Message> message = socket_.receive();
        return message ? reply_of(message->bytes) : FunctionStageReply{};
    } catch (const std::system_error&) {
        return {};
    }
}

}  // namespace procrun
