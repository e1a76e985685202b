#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "pipes/message_socket.hpp"
#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/worker_main.hpp"
#include "procrun/zygote_main.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// The caller's side of the processes from which workers are forked.
///
///     caller ── keeper ── zygote ── worker
///        \         \         \───── worker     workers end with the zygote (PR_SET_PDEATHSIG)
///         sockets: each sees the end of the caller's end
///
/// Both are copies of the caller as it was when the pool was made, with one thread. The keeper forks a new zygote when
/// one is killed, which the caller itself could not do safely once it has threads, and is there to adopt and end what
/// functions leave behind.
///
/// Threads: any.
class Zygote {
public:
    /// Throws: std::system_error -- EPERM: this process has more than one thread, and one of them may hold a lock;
    ///         EAGAIN, ENOMEM, EMFILE; nothing is left behind.
    explicit Zygote(const WorkerConfig& config);
    ~Zygote();
    Zygote(const Zygote&) = delete;
    Zygote& operator=(const Zygote&) = delete;

    struct Forked {
        pid_t pid = -1;
        vmcow::sys::UniqueFd pidfd;
        std::uint64_t zygote = 0;  ///< which one has forked it
    };
    /// Forks a worker. A zygote that has been killed is replaced first.
    /// Throws: std::system_error -- EAGAIN, ENOMEM (no more processes), EMFILE; EPERM as above, when the keeper has
    /// been
    ///         killed as well.
    [[nodiscard]] Forked fork_worker(const WorkerEnds& ends);

    /// How a worker has ended, which its pidfd says it has. SIGKILL where that cannot be known, because its zygote
    /// died.
    [[nodiscard]] Outcome end_of(const Forked& worker);

    [[nodiscard]] pid_t zygote_pid() const;
    [[nodiscard]] pid_t keeper_pid() const;

private:
    void start_keeper();
    void start_zygote();
    [[nodiscard]] Forked ask(pipes::MessageSocket& socket, ZygoteRequest request, std::span<const int> fds);
    void take(const ZygoteMessage& message);
    /// False when the other side is gone.
    [[nodiscard]] bool read_pending(pipes::MessageSocket& socket);

    const WorkerConfig& config_;
    mutable std::mutex mutex_;
    pipes::MessageSocket keeper_socket_;
    pipes::MessageSocket zygote_socket_;
    Process keeper_;
    Forked zygote_;
    std::uint64_t zygotes_ = 0;
    std::map<pid_t, Outcome> ended_;
};

/// The number of threads of this process, without those of a sanitizer and those that are on their way out.
[[nodiscard]] std::size_t own_thread_count();

}  // namespace procrun::detail
