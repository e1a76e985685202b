#pragma once

#include <functional>

#include "procrun/process.hpp"

namespace procrun {

/// What becomes of a function process when the thread that forked it ends.
enum class WithParent {
    ends,      ///< it is killed, however that comes about
    lives_on,  ///< nothing: it notices the end of its caller in another way
};

/// Forks a process that runs `body` and exits with what it returns; `body` must not throw. The child
///   - is killed when the calling thread ends, unless it is to live on;
///   - has default actions where the caller has handlers (which would act on the caller's descriptors) and for SIGPIPE,
///   and
///     an empty signal mask; what the caller ignores is still ignored;
///   - has everything else of the caller but its other threads. Nothing that stdio had buffered is written twice.
///
/// Pre:     SIGCHLD is not ignored.
/// Throws:  std::system_error -- EAGAIN, ENOMEM, EMFILE, ECHILD (SIGCHLD is ignored); no process is left behind.
/// Cost:    fork(2): it copies the page tables of what is mapped, but for images.
/// Source:  fork(2), pidfd_open(2), prctl(2) PR_SET_PDEATHSIG.
[[nodiscard]] Process fork_function_process(const std::function<int()>& body, WithParent parent = WithParent::ends);

}  // namespace procrun
