#pragma once

#include <sys/types.h>

#include <cstdint>

#include "pipes/message_socket.hpp"
#include "procrun/outcome.hpp"
#include "procrun/worker/worker_main.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// What a caller asks of a zygote. Descriptors travel with a request to fork: those of WorkerEnds, or the new zygote's
/// socket.
enum class ZygoteRequest : std::uint32_t {
    fork_worker,
    fork_zygote,
    drop,  ///< kill the process that the request of that number has forked: the caller has given up waiting for it
    end,   ///< end, with all processes that it has forked
};

struct ZygoteOrder {
    ZygoteRequest request = ZygoteRequest::end;
    std::uint64_t number = 0;  ///< counts the caller's requests to fork
};

/// A zygote's answer to a request, or the news that one of its children has ended.
struct ZygoteMessage {
    enum class Kind : std::uint32_t { forked, ended } kind = Kind::forked;
    std::int32_t error = 0;    ///< errno, for forked; then there is no descriptor
    std::uint64_t number = 0;  ///< of the request, for forked
    pid_t pid = 0;
    OutcomeKind end = OutcomeKind::exited;
    std::int32_t code = 0;
};

/// After this many refusals of recv(2) in a row, a millisecond apart, the other side is given up. One is no reason to.
inline constexpr unsigned kMostRefusals = 50;

/// The descriptors that a zygote starts with.
struct ZygoteEnds {
    pipes::MessageSocket socket;
    vmcow::sys::UniqueFd caller;  ///< pidfd of the process that made the pool
};

/// Runs a zygote, or with `is_keeper` a keeper, which forks zygotes: forks on request until it is told to end or its
/// caller has ended, and then ends all processes that it has forked. Returns the exit status.
///
/// A pidfd tells that the caller has ended: a socket's end of file does not come while a child that anybody has forked
/// holds the other end. The process has one thread and calls nothing that could leave a lock held in its children.
/// It adopts the processes that its children leave behind, and ends them.
int zygote_main(ZygoteEnds ends, const WorkerConfig& config, bool is_keeper) noexcept;

}  // namespace procrun::detail
