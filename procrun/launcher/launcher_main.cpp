// The launcher: a small process that starts programs for a big one. It is a separate executable, which libprocrun
// contains. It is static and allocates nothing, so that a program inherits next to nothing from it.
//
// All signals are blocked from before the first instruction: only SIGKILL ends the launcher. It exits by itself when
// the caller has ended.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "procrun/launcher/launcher_protocol.hpp"
#include "procrun/launcher/launcher_watch.hpp"
#include "procrun/program/program_child.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::kMaxMessageBytes;
using vmcow::sys::kMaxMessageFds;
using vmcow::sys::retry_interrupted;

constexpr std::size_t kChildStackBytes = std::size_t{32} << 10;
constexpr int kLastSignal = 64;
constexpr int kFailed = 1;

struct alignas(cmsghdr) ControlBuffer {
    std::array<std::byte, CMSG_SPACE(kMaxMessageFds * sizeof(int))> bytes;
};

// One message and the descriptors that came with it.
struct Received {
    ssize_t bytes = 0;  // 0 when the other end is closed, -1 when it cannot be read
    std::array<int, kMaxMessageFds> fds;
    std::size_t fd_count = 0;
    bool lost_fds = false;  // this process had no room for some descriptors
};

// Static, so that the stack stays small, and pages that are never touched take no memory.
alignas(64) std::array<std::byte, kMaxMessageBytes> message;
alignas(64) std::array<std::byte, kChildStackBytes> child_stack;
ControlBuffer control;
Received received;
WatchedPrograms watched;
int epoll_fd = -1;
int last_pidfd = -1;  // of the last program, until the next request: the answer about it may not have arrived

void receive(std::span<std::byte> into) noexcept {
    iovec vector{into.data(), into.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes.data();
    header.msg_controllen = control.bytes.size();
    received.fd_count = 0;
    received.bytes = retry_interrupted([&] { return recvmsg(kLauncherSocketFd, &header, MSG_CMSG_CLOEXEC); });
    if (received.bytes <= 0) return;
    received.lost_fds = (header.msg_flags & MSG_CTRUNC) != 0;
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t bytes = each->cmsg_len - CMSG_LEN(0);
        std::memcpy(received.fds.data(), CMSG_DATA(each), bytes);
        received.fd_count = bytes / sizeof(int);
    }
}

bool say(const LaunchReply& answer, int pidfd) noexcept {
    LaunchReply bytes = answer;
    iovec vector{&bytes, sizeof bytes};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    if (pidfd >= 0) {
        header.msg_control = control.bytes.data();
        header.msg_controllen = CMSG_SPACE(sizeof pidfd);
        cmsghdr* const rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof pidfd);
        std::memcpy(CMSG_DATA(rights), &pidfd, sizeof pidfd);
    }
    return retry_interrupted([&] { return sendmsg(kLauncherSocketFd, &header, MSG_NOSIGNAL); }) >= 0;
}

// False when the caller has not got the answer. Where only the descriptor cannot be sent (ETOOMANYREFS, ENOBUFS), the
// pid is sent without it, and the caller opens a pidfd itself.
bool reply(const LaunchReply& answer, int pidfd) noexcept {
    if (say(answer, pidfd) || (pidfd >= 0 && say(answer, -1))) return true;
    // The caller waits for this answer: it gets the end of the socket instead. A caller that has ended is noticed by
    // its pidfd.
    shutdown(kLauncherSocketFd, SHUT_RDWR);
    return false;
}

void refuse(int error) noexcept {
    static_cast<void>(reply({.result = LaunchResult::refused, .pid = -1, .failure = {.error = error}}, -1));
}

// Owns the body of a request and the descriptors that came with it.
class Body {
public:
    explicit Body(const LaunchRequest& request) noexcept : request_(request), layout_(layout_of(request)) {}
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    ~Body();

    // Takes the first message, which has been received, and receives the others. Returns 0 or an errno.
    [[nodiscard]] int take() noexcept;
    [[nodiscard]] ChildPlan plan() noexcept;

private:
    [[nodiscard]] int map_file() noexcept;
    void keep_fds() noexcept;
    template <class T>
    [[nodiscard]] T* at(std::size_t place) noexcept {
        return reinterpret_cast<T*>(base_ + place);
    }
    [[nodiscard]] const char* const* strings_at(std::size_t place) noexcept;
    [[nodiscard]] const char* string_of(std::uint64_t place) noexcept;

    const LaunchRequest& request_;
    LaunchLayout layout_;
    std::byte* base_ = nullptr;
    std::size_t fds_ = 0;
};

Body::~Body() {
    if (base_ == nullptr) return;
    for (const int fd : std::span(at<int>(layout_.fds), fds_)) close(fd);
    if (!request_.body_in_file) return;
    munmap(base_, request_.body_bytes);
    // The peak of each program begins with the peak of this process: a long body must not count for later programs.
    constexpr char kResetPeak = '5';
    const int peak = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (peak < 0) return;
    static_cast<void>(write(peak, &kResetPeak, 1));
    close(peak);
}

int Body::map_file() noexcept {
    if (received.fd_count == 0) return EMFILE;
    void* const mapped =
        mmap(nullptr, request_.body_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, received.fds.front(), 0);
    if (mapped == MAP_FAILED) return errno;
    base_ = static_cast<std::byte*>(mapped);
    return 0;
}

void Body::keep_fds() noexcept {
    if (base_ != nullptr) {
        std::memcpy(at<int>(layout_.fds) + fds_, received.fds.data(), received.fd_count * sizeof(int));
        fds_ += received.fd_count;
        return;
    }
    for (const int fd : std::span(received.fds).first(received.fd_count)) close(fd);
}

int Body::take() noexcept {
    int error = received.lost_fds ? EMFILE : 0;
    if (request_.body_in_file) {
        if (const int refusal = map_file(); error == 0) error = refusal;
    } else {
        base_ = message.data() + sizeof(LaunchRequest);
    }
    keep_fds();
    // More descriptors than fit into a message come in further ones, which must be read even after an error.
    for (std::size_t sent = kMaxMessageFds; sent < request_.fds; sent += kMaxMessageFds) {
        std::byte nothing{};
        receive({&nothing, 1});
        if (received.bytes <= 0) return ECONNRESET;
        if (received.lost_fds) error = EMFILE;
        keep_fds();
    }
    return error;
}

const char* Body::string_of(std::uint64_t place) noexcept { return reinterpret_cast<const char*>(base_ + place); }

// Turns the places in a list into pointers, in place.
const char* const* Body::strings_at(std::size_t place) noexcept {
    auto* const first = at<std::uint64_t>(place);
    for (std::uint64_t* slot = first; *slot != 0; ++slot) {
        const char* const text = string_of(*slot);
        std::memcpy(slot, &text, sizeof text);
    }
    return reinterpret_cast<const char* const*>(first);
}

ChildPlan Body::plan() noexcept {
    const int* source = at<int>(layout_.fds) + (request_.body_in_file ? 1 : 0);
    const int terminal = request_.has_terminal ? *source++ : -1;
    const std::span moves{at<DescriptorMove>(layout_.moves), request_.moves};
    for (DescriptorMove& move : moves) move.source = *source++;
    return {.argv = strings_at(layout_.words),
            .environment = strings_at(layout_.variables),
            .paths = strings_at(layout_.paths),
            .directory = request_.has_directory ? string_of(*at<std::uint64_t>(layout_.directory)) : nullptr,
            .process_group = request_.has_process_group ? &request_.process_group : nullptr,
            .die_with_parent = request_.death_signal,
            .parent = request_.caller,
            .terminal = terminal,
            .ignored_signals = request_.ignored_signals,
            .signals_are_default = true,
            .moves = moves,
            .limits = {at<ResourceLimit>(layout_.limits), request_.limits}};
}

int run_on_child_stack(void* plan) { run_child(*static_cast<const ChildPlan*>(plan)); }

void kill_program(int pidfd) noexcept { static_cast<void>(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0)); }

// CLONE_PARENT makes the program a child of the caller. With CLONE_VM no page table is copied, and the program's peak
// begins with the small peak of this process. With CLONE_VFORK clone returns when the program runs or `failure` says
// why it does not.
void start(const LaunchRequest& request, ChildPlan& plan) noexcept {
    constexpr int kFlags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PIDFD;
    StartFailure failure{};
    plan.failure = &failure;
    int pidfd = -1;
    const pid_t pid = clone(run_on_child_stack, child_stack.data() + child_stack.size(), kFlags, &plan, &pidfd);
    if (pid < 0) return refuse(errno);
    const bool runs = failure.error == 0;
    const LaunchResult result = runs ? LaunchResult::started : LaunchResult::not_started;
    const bool is_known = reply({.result = result, .pid = pid, .failure = failure}, pidfd);
    // Nobody would end a program that the caller does not know of.
    if (!is_known) kill_program(pidfd);
    if (!runs || !is_known) {
        close(pidfd);
        return;
    }
    if (!request.watched) {
        last_pidfd = pidfd;
        return;
    }
    last_pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
    const bool leads_group = request.has_process_group && request.process_group == 0;
    watched.add(epoll_fd, pidfd, pid, leads_group);
}

// False when no more requests can come. The socket is shut down then, so that a caller does not wait for an answer.
bool serve() noexcept {
    receive(message);
    if (received.bytes <= 0) {
        shutdown(kLauncherSocketFd, SHUT_RDWR);
        return false;
    }
    const auto& request = *reinterpret_cast<const LaunchRequest*>(message.data());
    if (request.words == 0) {
        if (request.take_back && last_pidfd >= 0) kill_program(last_pidfd);
        _exit(0);
    }
    if (last_pidfd >= 0) close(std::exchange(last_pidfd, -1));
    Body body(request);
    int error = body.take();
    if (error == 0 && getppid() != request.caller) error = ESRCH;  // the program would be another process's child
    if (error == 0 && request.watched && !watched.has_room()) error = EMFILE;
    if (error != 0) {
        refuse(error);
        return true;
    }
    ChildPlan plan = body.plan();
    start(request, plan);
    return true;
}

// Fills 0, 1 and 2 with descriptors that are closed at an exec. Descriptors that arrive for a program are then above 2,
// and a program does not have one of the three that the caller has closed.
bool take_low_descriptors() noexcept {
    for (int fd = 0; fd < kLauncherSocketFd; ++fd) {
        if (dup3(kLauncherSocketFd, fd, O_CLOEXEC) != fd) return false;
    }
    return fcntl(kLauncherSocketFd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(kCallerPidfd, F_SETFD, FD_CLOEXEC) == 0;
}

// Sets all dispositions to the default. Each request says which signals the caller ignores.
void reset_signals() noexcept {
    for (int number = 1; number <= kLastSignal; ++number) static_cast<void>(signal(number, SIG_DFL));
}

// Leaves the caller's process group, so that a signal for the group does not reach this process, which has to kill the
// watched programs when the caller ends. It stays in a group that has no number here (whose leader is outside of this
// pid namespace): no program could be put back into such a group.
void leave_group() noexcept {
    if (getpgrp() != 0) static_cast<void>(setpgid(0, 0));
}

bool listen_to(int fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

bool prepare() noexcept {
    if (!take_low_descriptors()) return false;
    reset_signals();
    leave_group();
    prctl(PR_SET_NAME, "vmcow-launcher");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || !listen_to(kLauncherSocketFd) || !listen_to(kCallerPidfd)) return false;
    const LauncherGreeting greeting{.pid = getpid()};
    return send(kLauncherSocketFd, &greeting, sizeof greeting, MSG_NOSIGNAL) == sizeof greeting;
}

// Returns when the caller has ended. Returns also when the caller cannot send requests any more, because it has
// executed another program, and no program is watched.
void serve_caller() noexcept {
    constexpr int kEventsAtOnce = 16;
    std::array<epoll_event, kEventsAtOnce> events;
    bool asked = true;
    while (asked || !watched.empty()) {
        const int count = retry_interrupted([&] { return epoll_wait(epoll_fd, events.data(), kEventsAtOnce, -1); });
        if (count < 0) return;
        bool request = false;
        for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(count))) {
            if (event.data.fd == kCallerPidfd) return;
            if (event.data.fd == kLauncherSocketFd) {
                request = true;
            } else {
                watched.note_end(epoll_fd, event.data.fd);
            }
        }
        watched.forget_reaped();
        if (!request || serve()) continue;
        asked = false;
        static_cast<void>(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, kLauncherSocketFd, nullptr));
    }
}

}  // namespace
}  // namespace procrun::detail

int main() {
    using namespace procrun::detail;
    if (!prepare()) return kFailed;
    serve_caller();
    watched.kill_all();
    return 0;
}
