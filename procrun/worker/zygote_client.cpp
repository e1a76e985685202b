#include "procrun/worker/zygote_client.hpp"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "procrun/observe/stage_tasks.hpp"
#include "procrun/process/function_process.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/proc/tasks.hpp"
#include "vmcow/sys/proc/thread_count.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::has_ended;
using vmcow::sys::send_signal;
using vmcow::sys::UniqueFd;
using vmcow::sys::wait_for_end;

/// A process that has not answered by then may have been stopped: it is continued.
constexpr std::chrono::milliseconds kSoon{50};
/// A zygote that has not answered by then, and is not running, is taken for broken.
constexpr std::chrono::seconds kPatience{1};
/// The longest that a keeper takes to end once it is told to, unless it has been stopped again.
constexpr std::chrono::milliseconds kLongestEnd{1200};
/// The longest time from SIGKILL to the end of a process.
constexpr std::chrono::milliseconds kLongestDeath{200};

/// Whether a socket's error says that the peer has died: EPIPE and ECONNRESET do.
bool is_gone(const std::system_error& error) noexcept {
    return error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset;
}

bool is_silence(const std::system_error& error) noexcept { return error.code() == std::errc::timed_out; }

/// Whether the process is running or in an uninterruptible wait: forking a process with much memory takes long.
bool is_at_work(pid_t pid) {
    const auto stat = vmcow::sys::try_read_process_stat(pid);
    return stat && (stat->state == 'R' || stat->state == 'D');
}

/// Kills all processes below `pid`, in place of a keeper that does not do so itself.
void kill_all_below(pid_t pid) noexcept {
    try {
        for (const TaskId& task : tasks_below(pid, vmcow::sys::has_children_files()).value_or(std::vector<TaskId>())) {
            if (task.pid != pid) vmcow::sys::signal_process(task.pid, SIGKILL);
        }
    } catch (const std::exception&) {
        return;  // no descriptor, no memory: the workers that are left end with their zygote
    }
}

}  // namespace

// ---- turns

class ZygoteClient::Turn {
public:
    Turn(ZygoteClient& zygote, Deadline deadline) : zygote_(zygote) {
        std::unique_lock lock(zygote_.mutex_);
        const auto is_free = [&] { return !zygote_.turn_is_taken_; };
        if (const auto left = deadline.remaining()) {
            if (!zygote_.turn_is_free_.wait_for(lock, *left, is_free)) {
                vmcow::sys::throw_error(ETIMEDOUT, "fork a function process: other threads are asking for one");
            }
        } else {
            zygote_.turn_is_free_.wait(lock, is_free);
        }
        zygote_.turn_is_taken_ = true;
    }
    ~Turn() {
        {
            const std::scoped_lock lock(zygote_.mutex_);
            zygote_.turn_is_taken_ = false;
        }
        zygote_.turn_is_free_.notify_one();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

private:
    ZygoteClient& zygote_;
};

// ---- the beginning

ZygoteClient::ZygoteClient(const WorkerConfig& config) : config_(config) {
    try {
        start_keeper();
        start_zygote(Deadline::never());
    } catch (...) {
        end_processes();
        throw;
    }
}

void ZygoteClient::start_keeper() {
    if (const std::size_t threads = vmcow::sys::count_running_threads(); threads > 1) {
        vmcow::sys::throw_error(
            EPERM, "fork a zygote from a process with " + std::to_string(threads) +
                       " threads, one of which may hold a lock that every function process would wait for: make the "
                       "pool before the first thread is started");
    }
    // The region of slots has to exist before the fork, so that it lies at the same addresses in all workers.
    static_cast<void>(vmcow::Slot::reserve(1));
    UniqueFd caller = vmcow::sys::open_pidfd(::getpid(), "open a pidfd of this process");
    auto [ours, theirs] = pipes::MessageSocket::pair();
    Process keeper = fork_function_process(
        [&, &theirs = theirs, &ours = ours] {
            ours.take_fd().reset();
            CallersEnds::close_all_inherited();
            vmcow::abandon_inherited_images();
            ::malloc_trim(0);  // so that no memory that the caller has freed is copied into every worker
            return zygote_main({std::move(theirs), std::move(caller)}, config_, true);
        },
        WithParent::lives_on);
    keeper_socket_ = std::move(ours);
    silent_since_.reset();
    const std::scoped_lock lock(mutex_);
    keeper_ = std::move(keeper);
}

void ZygoteClient::start_zygote(Deadline deadline) {
    zygote_socket_ = {};
    auto [ours, theirs] = pipes::MessageSocket::pair();
    const int fd = theirs.fd().get();
    Forked forked = ask(keeper(), ZygoteRequest::fork_zygote, std::span(&fd, 1), deadline);
    zygote_socket_ = std::move(ours);
    const std::scoped_lock lock(mutex_);
    zygote_ = std::move(forked);
    ++zygotes_;
    workers_.clear();
}

/// Pre: the present zygote has ended or is to end.
void ZygoteClient::replace_zygote(Deadline deadline) {
    if (zygote_.pidfd) {
        static_cast<void>(send_signal(zygote_.pidfd.get(), SIGKILL));
        static_cast<void>(wait_for_end(zygote_.pidfd.get(), kLongestDeath));
    }
    try {
        if (!keeper_ || has_ended(keeper_.pidfd())) throw std::system_error(EPIPE, std::generic_category());
        return start_zygote(deadline);
    } catch (const std::system_error& error) {
        if (!is_gone(error) && (!is_silence(error) || deadline.passed())) throw;
    }
    if (keeper_ && !has_ended(keeper_.pidfd())) kill_all_below(keeper_.pid());
    Process before;  // waited for without the lock
    {
        const std::scoped_lock lock(mutex_);
        before = std::move(keeper_);
    }
    before = {};
    start_keeper();
    start_zygote(deadline);
}

// ---- the end

ZygoteClient::~ZygoteClient() {
    if (are_mine()) end_processes();
}

/// A keeper ends all processes below it before it ends. A zygote whose keeper has been killed is told to end here.
void ZygoteClient::end_processes() noexcept {
    const ZygoteOrder order{ZygoteRequest::end, 0};
    const auto tell = [&](Peer peer) {
        static_cast<void>(peer.socket->try_send(std::as_bytes(std::span(&order, 1)), {}));
        static_cast<void>(send_signal(peer.pidfd, SIGCONT));
    };
    bool ended = false;
    if (keeper_) {
        const bool was_there = !has_ended(keeper_.pidfd());
        tell(keeper());
        ended = wait_for_end(keeper_.pidfd(), kLongestEnd) && was_there;
        if (!ended && was_there) kill_all_below(keeper_.pid());
    }
    if (!ended && zygote_.pidfd && !has_ended(zygote_.pidfd.get())) {
        tell(zygote());
        if (!wait_for_end(zygote_.pidfd.get(), kLongestDeath)) {
            static_cast<void>(send_signal(zygote_.pidfd.get(), SIGKILL));
            static_cast<void>(wait_for_end(zygote_.pidfd.get(), kLongestDeath));
        }
    }
    keeper_ = {};
}

void ZygoteClient::close_inherited() noexcept {
    keeper_socket_ = {};
    zygote_socket_ = {};
    keeper_ = {};
    zygote_.pidfd.reset();
}

// ---- questions

/// Sends a request and waits for its answer.
ZygoteClient::Forked ZygoteClient::ask(Peer peer, ZygoteRequest request, std::span<const int> fds, Deadline deadline) {
    constexpr int kAttempts = 3;
    const ZygoteOrder order{request, ++requests_};
    const pid_t pid = request == ZygoteRequest::fork_zygote ? keeper_.pid() : zygote_.pid;
    if (!silent_since_) silent_since_ = Clock::now();
    const Deadline soon = Deadline::in(kSoon);
    Deadline patience = earlier(deadline, Deadline::in(kPatience));
    bool sent = false;
    bool continued = false;
    for (int refused = 0;;) {
        if (!sent) {
            const int error = peer.socket->try_send(std::as_bytes(std::span(&order, 1)), fds);
            sent = error == 0;
            if (!sent && error != EAGAIN && ++refused == kAttempts) {
                vmcow::sys::throw_error(error, "ask for a function process");
            }
        }
        std::array<pollfd, 2> entries{pollfd{peer.socket->fd().get(), POLLIN, 0}, pollfd{peer.pidfd, POLLIN, 0}};
        if (!sent) entries[0].events = POLLIN | POLLOUT;
        poll_or_sleep(entries, continued ? patience : earlier(patience, soon));
        const bool ended = has_ended(peer.pidfd);
        if (auto forked = answer_to(order.number, peer)) return *std::move(forked);
        if (ended) vmcow::sys::throw_error(EPIPE, "fork a function process: the zygote is gone");
        if (!silent_since_) {  // the peer has sent another message
            silent_since_ = Clock::now();
            patience = earlier(deadline, Deadline::in(kPatience));
        }
        if (!continued && soon.passed()) continued = send_signal(peer.pidfd, SIGCONT) == 0;
        if (!patience.passed()) continue;
        if (deadline.passed() || !is_at_work(pid)) break;
        patience = earlier(deadline, Deadline::in(kPatience));
    }
    const ZygoteOrder drop{ZygoteRequest::drop, order.number};
    static_cast<void>(peer.socket->try_send(std::as_bytes(std::span(&drop, 1)), {}));
    vmcow::sys::throw_error(ETIMEDOUT, "fork a function process: the zygote does not answer");
}

/// The answer to request `number`, if it has come. Notes the ends of workers that have come before it.
std::optional<ZygoteClient::Forked> ZygoteClient::answer_to(std::uint64_t number, Peer peer) {
    const int fd = peer.socket->fd().get();
    while (true) {
        ZygoteMessage message;
        // Peeked at first: where no descriptor is left for the pidfd, dropping the process takes the message's number.
        const ssize_t got = ::recv(fd, &message, sizeof(message), MSG_PEEK | MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {  // ECONNRESET: the peer died with unread messages
            vmcow::sys::throw_error(EPIPE, "fork a function process: the zygote is gone");
        }
        if (got < 0) {
            if (errno == EAGAIN) return std::nullopt;
            if (++refusals_ == kMostRefusals) vmcow::sys::throw_errno("read the answer of a zygote");
            poll_or_sleep({}, Deadline::in(std::chrono::milliseconds(1)));
            return std::nullopt;
        }
        refusals_ = 0;
        if (message.kind == ZygoteMessage::Kind::forked && message.number == number) return forked_by(message, peer);
        try {
            static_cast<void>(peer.socket->receive());  // a worker's end, or the answer to a request given up meanwhile
        } catch (const std::system_error& error) {
            if (error.code().value() != EMFILE) {
                poll_or_sleep({}, Deadline::in(std::chrono::milliseconds(1)));  // the message is still in the socket
                return std::nullopt;
            }
        }
        silent_since_.reset();
        if (peer.socket == &zygote_socket_) take_end(message);
    }
}

ZygoteClient::Forked ZygoteClient::forked_by(const ZygoteMessage& message, Peer peer) {
    constexpr const char* kWhat = "fork a function process";
    try {
        std::optional<pipes::Message> whole = peer.socket->receive();
        silent_since_.reset();
        if (message.error != 0) vmcow::sys::throw_error(message.error, kWhat);
        if (!whole || whole->fds.empty()) vmcow::sys::throw_error(EBADMSG, "fork a function process: no pidfd");
        Forked forked{message.pid, std::move(whole->fds.front()), zygotes_};
        const std::scoped_lock lock(mutex_);
        if (peer.socket == &zygote_socket_) workers_.insert_or_assign(message.pid, std::nullopt);
        return forked;
    } catch (const std::system_error&) {
        const ZygoteOrder drop{ZygoteRequest::drop, message.number};
        static_cast<void>(peer.socket->try_send(std::as_bytes(std::span(&drop, 1)), {}));
        throw;
    }
}

ZygoteClient::Forked ZygoteClient::fork_worker(const WorkerEnds& ends, Deadline deadline) {
    const Turn turn(*this, deadline);
    const std::array fds{ends.call_memory.get(), ends.request_pipe.get(), ends.reply_pipe.get(), ends.socket.get()};
    // A zygote that was killed between two calls is noticed here, replaced, and asked again.
    if (zygote_socket_.fd() && zygote_.pidfd && !has_ended(zygote_.pidfd.get())) {
        try {
            return ask(zygote(), ZygoteRequest::fork_worker, fds, deadline);
        } catch (const std::system_error& error) {
            // A deadline that is shorter than kPatience does not show that the zygote is broken.
            const bool lost = silent_since_ && Clock::now() - *silent_since_ >= kPatience;
            if (!is_gone(error) && !(is_silence(error) && lost)) throw;
        }
    }
    replace_zygote(deadline);
    return ask(zygote(), ZygoteRequest::fork_worker, fds, deadline);
}

// ---- ends of workers

void ZygoteClient::take_end(const ZygoteMessage& message) {
    if (message.kind != ZygoteMessage::Kind::ended) return;
    const std::scoped_lock lock(mutex_);
    const auto worker = workers_.find(message.pid);
    if (worker == workers_.end()) return;
    worker->second = Outcome{message.end, message.code, {}};
    if (message.end == OutcomeKind::unknown) worker->second->text = "its zygote could not wait for it";
}

std::optional<Outcome> ZygoteClient::known_end(const Forked& worker) {
    const std::scoped_lock lock(mutex_);
    if (worker.zygote != zygotes_) return Outcome{OutcomeKind::signaled, SIGKILL, {}};
    const auto found = workers_.find(worker.pid);
    return found == workers_.end() ? std::nullopt : found->second;
}

void ZygoteClient::forget(const Forked& worker) noexcept {
    const std::scoped_lock lock(mutex_);
    if (worker.zygote == zygotes_) workers_.erase(worker.pid);
}

Outcome ZygoteClient::wait_for_news(const Forked& worker, Deadline deadline) {
    const Turn turn(*this, deadline);
    const Deadline soon = Deadline::in(kSoon);
    bool continued = false;
    while (true) {
        const bool zygote_ended = has_ended(zygote_.pidfd.get());
        bool connected = true;
        try {
            static_cast<void>(answer_to(0, zygote()));
        } catch (const std::system_error&) {
            connected = false;
        }
        if (auto known = known_end(worker)) return *std::move(known);
        if (zygote_ended) return {OutcomeKind::signaled, SIGKILL, {}};
        if (deadline.passed()) break;
        std::array<pollfd, 2> wanted{pollfd{connected ? zygote_socket_.fd().get() : -1, POLLIN, 0},
                                     pollfd{zygote_.pidfd.get(), POLLIN, 0}};
        poll_or_sleep(wanted, continued ? deadline : earlier(deadline, soon));
        if (!continued && soon.passed()) continued = send_signal(zygote_.pidfd.get(), SIGCONT) == 0;
    }
    return {OutcomeKind::unknown, 0, "its zygote does not answer"};
}

Outcome ZygoteClient::end_of(const Forked& worker, Deadline deadline) noexcept {
    Outcome outcome{OutcomeKind::unknown, 0, {}};
    try {
        outcome = wait_for_news(worker, deadline);
    } catch (const std::exception& error) {
        outcome.text = error.what();
    }
    vmcow::sys::kill_group(worker.pidfd.get());  // the worker's own children, which a zygote that died has not killed
    forget(worker);
    return outcome;
}

pid_t ZygoteClient::zygote_pid() const {
    const std::scoped_lock lock(mutex_);
    return zygote_.pid;
}

pid_t ZygoteClient::keeper_pid() const {
    const std::scoped_lock lock(mutex_);
    return keeper_.pid();
}

}  // namespace procrun::detail
