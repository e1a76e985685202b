#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "pipes/message_socket.hpp"
#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/process/callers_ends.hpp"
#include "procrun/worker/worker_main.hpp"
#include "procrun/worker/zygote_server.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// The caller's side of the processes from which workers are forked.
///
///     caller ── keeper ── zygote ── worker
///        \         \         \───── worker     workers end with the zygote (PR_SET_PDEATHSIG)
///         sockets: requests and answers; keeper and zygote have a pidfd of the caller and end when the caller ends
///
/// Keeper and zygote are copies of the caller as it was when the pool was made, with one thread. The keeper forks a new
/// zygote when one is killed, which the caller itself could not do safely once it has threads. The keeper also adopts
/// and ends the processes that functions leave behind.
///
/// No wait is for a message alone. A pidfd tells that a process has ended. A process that does not answer is first
/// continued (SIGCONT), because it may have been stopped, then killed and replaced.
///
/// Threads:    any.
/// After fork: the object does nothing in the child, and its destructor ends no process.
class ZygoteClient final : private CallersEnds {
public:
    /// Throws: std::system_error -- EPERM: this process has more than one thread, and one of them may hold a lock;
    ///         EAGAIN, ENOMEM, EMFILE; ETIMEDOUT: a new keeper does not answer. Nothing is left behind.
    explicit ZygoteClient(const WorkerConfig& config);
    /// Ends keeper, zygote and all processes below them, within 2 s.
    ~ZygoteClient();

    struct Forked {
        pid_t pid = -1;
        vmcow::sys::UniqueFd pidfd;
        std::uint64_t zygote = 0;  ///< the number of the zygote that has forked it
    };
    /// Forks a worker. A zygote that has been killed, or that does not answer, is replaced first.
    /// Throws: std::system_error -- EAGAIN, ENOMEM (no more processes), EMFILE; ETIMEDOUT: there was no answer before
    ///         the deadline, or before three seconds had passed; EPERM: the keeper has to be replaced as well, and this
    ///         process has more than one thread.
    [[nodiscard]] Forked fork_worker(const WorkerEnds& ends, Deadline deadline = Deadline::never());

    /// How a worker has ended. SIGKILL where its zygote has died, because a worker ends with its zygote;
    /// `OutcomeKind::unknown` where the zygote has not answered before the deadline.
    /// Pre: the worker's pidfd says that it has ended.
    [[nodiscard]] Outcome end_of(const Forked& worker, Deadline deadline) noexcept;
    /// Drops what is kept of a worker's end: `end_of` will not be called for it.
    void forget(const Forked& worker) noexcept;

    [[nodiscard]] pid_t zygote_pid() const;
    [[nodiscard]] pid_t keeper_pid() const;

private:
    /// The right to use the sockets. One thread has it at a time; others wait for it until their deadline.
    class Turn;
    /// The keeper or the zygote, as the receiver of a request.
    struct Peer {
        pipes::MessageSocket* socket;
        int pidfd;
    };
    using Clock = Deadline::Clock;

    void start_keeper();
    void start_zygote(Deadline deadline);
    void replace_zygote(Deadline deadline);
    void end_processes() noexcept;
    [[nodiscard]] Forked ask(Peer peer, ZygoteRequest request, std::span<const int> fds, Deadline deadline);
    [[nodiscard]] std::optional<Forked> answer_to(std::uint64_t number, Peer peer);
    [[nodiscard]] Forked forked_by(const ZygoteMessage& message, Peer peer);
    void take_end(const ZygoteMessage& message);
    [[nodiscard]] std::optional<Outcome> known_end(const Forked& worker);
    [[nodiscard]] Outcome wait_for_news(const Forked& worker, Deadline deadline);
    [[nodiscard]] Peer zygote() { return {&zygote_socket_, zygote_.pidfd.get()}; }
    [[nodiscard]] Peer keeper() { return {&keeper_socket_, keeper_.pidfd()}; }
    void close_inherited() noexcept override;
    [[nodiscard]] pid_t kept_child() const noexcept override { return keeper_pid(); }

    const WorkerConfig& config_;
    pipes::MessageSocket keeper_socket_;
    pipes::MessageSocket zygote_socket_;
    std::uint64_t requests_ = 0;
    unsigned refusals_ = 0;                          // of recv(2), in a row
    std::optional<Clock::time_point> silent_since_;  // since when the peer that was asked last has not answered

    mutable std::mutex mutex_;  // guards the members below, which are read also while another thread has the turn
    std::condition_variable turn_is_free_;
    bool turn_is_taken_ = false;
    Process keeper_;
    Forked zygote_;
    std::uint64_t zygotes_ = 0;
    std::map<pid_t, std::optional<Outcome>> workers_;  // of the present zygote; how each has ended, once it has
};

}  // namespace procrun::detail
