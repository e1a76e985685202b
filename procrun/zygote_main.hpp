#pragma once

#include <sys/types.h>

#include <cstdint>

#include "pipes/message_socket.hpp"
#include "procrun/outcome.hpp"
#include "procrun/worker_main.hpp"

namespace procrun::detail {

/// What a caller asks of a zygote. Descriptors travel with it: those of WorkerEnds, or the new zygote's socket.
enum class ZygoteRequest : std::uint32_t { fork_worker, fork_zygote };

/// What a zygote answers, or says when one of its children has ended.
struct ZygoteMessage {
    enum class Kind : std::uint32_t { forked, ended } kind = Kind::forked;
    std::int32_t error = 0;  ///< errno, for forked; then there is no descriptor
    pid_t pid = 0;
    OutcomeKind end = OutcomeKind::exited;
    std::int32_t code = 0;
};

/// The life of a zygote: forks what it is asked for until its caller is gone, and then ends what it has forked. It has
/// one thread and calls nothing that could leave a lock behind for those that are forked from it. Returns the exit
/// status.
///
/// `adopts`: takes in processes that its workers leave behind, so that it can end those as well.
int zygote_main(pipes::MessageSocket socket, const WorkerConfig& config, bool adopts) noexcept;

}  // namespace procrun::detail
