#include "procrun/zygote.hpp"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "procrun/deadline.hpp"
#include "procrun/function_process.hpp"
#include "procrun/poll_until.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {
namespace {

/// How long a zygote may take to say how its child has ended: it does nothing else, unless somebody has stopped it.
constexpr std::chrono::seconds kPatience{5};

bool is_readable(int fd) noexcept {
    pollfd wanted{fd, POLLIN, 0};
    return ::poll(&wanted, 1, 0) > 0;
}

/// The peer has died: all that a socket says of that.
bool is_gone(const std::system_error& error) noexcept {
    return error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset;
}

/// A thread on its way out runs no code of this process any more, though it is listed for a while after it was joined.
bool is_exiting(const std::string& stat) {
    constexpr unsigned kExiting = 0x4;  // PF_EXITING
    // After the name, which may hold anything: state, five numbers, flags.
    std::istringstream fields(stat.substr(std::min(stat.rfind(')'), stat.size() - 1) + 1));
    std::string field;
    for (int skipped = 0; skipped < 6; ++skipped) fields >> field;
    unsigned flags = 0;
    fields >> flags;
    return !fields || (flags & kExiting) != 0;
}

std::size_t threads_that_run() {
    std::size_t threads = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        try {
            const std::string stat = vmcow::sys::read_text_file(task.path() / "stat");
            if (!stat.empty() && !is_exiting(stat)) ++threads;
        } catch (const std::system_error&) {
            continue;  // it has ended meanwhile
        }
    }
    return threads;
}

}  // namespace

std::size_t own_thread_count() {
    struct stat status {};
    if (::stat("/proc/self/task", &status) != 0) vmcow::sys::throw_errno("count threads: stat '/proc/self/task'");
    const std::size_t threads = status.st_nlink - 2 > 1 ? threads_that_run() : 1;
#if defined(__SANITIZE_THREAD__)
    return threads > 1 ? threads - 1 : threads;  // its background thread holds no lock that a child could meet
#else
    return threads;
#endif
}

Zygote::Zygote(const WorkerConfig& config) : config_(config) {
    start_keeper();
    start_zygote();
}

Zygote::~Zygote() {
    // The zygote first, while its keeper is there to reap it.
    zygote_socket_.take_fd().reset();
    if (zygote_.pidfd) {
        pollfd ended{zygote_.pidfd.get(), POLLIN, 0};
        while (::poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
    }
    keeper_socket_.take_fd().reset();
    if (keeper_) static_cast<void>(keeper_.wait());
}

void Zygote::start_keeper() {
    if (const std::size_t threads = own_thread_count(); threads > 1) {
        vmcow::sys::throw_error(
            EPERM, "fork a zygote from a process with " + std::to_string(threads) +
                       " threads, one of which may hold a lock that every function process would wait for: make the "
                       "pool before the first thread is started");
    }
    // The region of slots has to be there before the fork: it lies at the same addresses in all workers.
    static_cast<void>(vmcow::Slot::reserve(1));
    auto [ours, theirs] = pipes::MessageSocket::pair();
    Process keeper = fork_function_process(
        [&, &theirs = theirs, &ours = ours] {
            ours.take_fd().reset();
            vmcow::abandon_inherited_images();
            ::malloc_trim(0);  // what the caller has freed is not to be copied into every worker
            return zygote_main(std::move(theirs), config_, true);
        },
        WithParent::lives_on);
    keeper_ = std::move(keeper);
    keeper_socket_ = std::move(ours);
}

void Zygote::start_zygote() {
    zygote_socket_ = {};
    zygote_ = {};
    auto [ours, theirs] = pipes::MessageSocket::pair();
    const int fd = theirs.fd().get();
    zygote_ = ask(keeper_socket_, ZygoteRequest::fork_zygote, std::span(&fd, 1));
    zygote_socket_ = std::move(ours);
    ++zygotes_;
    ended_.clear();
}

void Zygote::take(const ZygoteMessage& message) {
    if (message.kind != ZygoteMessage::Kind::ended) return;
    ended_.insert_or_assign(message.pid, Outcome{message.end, message.code, {}});
}

Zygote::Forked Zygote::ask(pipes::MessageSocket& socket, ZygoteRequest request, std::span<const int> fds) {
    socket.send(std::as_bytes(std::span(&request, 1)), fds);
    while (true) {
        std::optional<pipes::Message> reply = socket.receive();
        if (!reply) vmcow::sys::throw_error(EPIPE, "fork a function process: the zygote is gone");
        ZygoteMessage message;
        if (reply->bytes.size() != sizeof(message)) vmcow::sys::throw_error(EBADMSG, "fork a function process");
        std::memcpy(&message, reply->bytes.data(), sizeof(message));
        if (message.kind == ZygoteMessage::Kind::ended) {
            take(message);
            continue;
        }
        if (message.error != 0) vmcow::sys::throw_error(message.error, "fork a function process");
        if (reply->fds.empty()) vmcow::sys::throw_error(EBADMSG, "fork a function process: no pidfd");
        ended_.erase(message.pid);  // an earlier process of that number
        return {message.pid, std::move(reply->fds.front()), zygotes_};
    }
}

bool Zygote::read_pending(pipes::MessageSocket& socket) {
    while (socket.fd() && is_readable(socket.fd().get())) {
        const std::optional<pipes::Message> message = socket.receive();
        ZygoteMessage said;
        if (!message || message->bytes.size() != sizeof(said)) return false;
        std::memcpy(&said, message->bytes.data(), sizeof(said));
        take(said);
    }
    return static_cast<bool>(socket.fd());
}

Zygote::Forked Zygote::fork_worker(const WorkerEnds& ends) {
    const std::scoped_lock lock(mutex_);
    const std::array fds{ends.channel.get(), ends.request_pipe.get(), ends.reply_pipe.get(), ends.socket.get()};
    // Killed between two calls: noticed when it is asked, and asked again after it has been replaced.
    if (zygote_socket_.fd() && !is_readable(zygote_.pidfd.get())) {
        try {
            return ask(zygote_socket_, ZygoteRequest::fork_worker, fds);
        } catch (const std::system_error& error) {
            if (!is_gone(error)) throw;
        }
    }
    try {
        if (!keeper_ || is_readable(keeper_.pidfd())) throw std::system_error(EPIPE, std::generic_category());
        start_zygote();
    } catch (const std::system_error& error) {
        if (!is_gone(error)) throw;
        keeper_ = {};
        start_keeper();
        start_zygote();
    }
    return ask(zygote_socket_, ZygoteRequest::fork_worker, fds);
}

Outcome Zygote::end_of(const Forked& worker) {
    const std::scoped_lock lock(mutex_);
    const Deadline patience = Deadline::in(kPatience);
    while (worker.zygote == zygotes_ && !patience.passed()) {
        bool is_there = false;
        try {
            is_there = read_pending(zygote_socket_);
        } catch (const std::system_error&) {
            is_there = false;  // out of descriptors, or the zygote is gone
        }
        if (const auto found = ended_.find(worker.pid); found != ended_.end()) {
            Outcome outcome = std::move(found->second);
            ended_.erase(found);
            return outcome;
        }
        if (!is_there) break;
        // It has ended, so its zygote is about to say so, unless it has died itself.
        std::array<pollfd, 2> wanted{pollfd{zygote_socket_.fd().get(), POLLIN, 0},
                                     pollfd{zygote_.pidfd.get(), POLLIN, 0}};
        if (poll_until(wanted, patience, "wait for a zygote") == 0) break;
        if (wanted[1].revents != 0 && (wanted[0].revents & POLLIN) == 0) break;
    }
    ::kill(-worker.pid, SIGKILL);  // what it has forked; its zygote, which does that, is not there
    return {OutcomeKind::signaled, SIGKILL, {}};
}

pid_t Zygote::zygote_pid() const {
    const std::scoped_lock lock(mutex_);
    return zygote_.pid;
}

pid_t Zygote::keeper_pid() const {
    const std::scoped_lock lock(mutex_);
    return keeper_.pid();
}

}  // namespace procrun::detail
