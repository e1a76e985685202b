#pragma once

#include <functional>
#include <string>

#include "procrun/process.hpp"

namespace procrun {

/// What happens to a function process when the thread that forked it ends.
enum class WithParent {
    ends,      ///< it is killed, however the thread ended
    lives_on,  ///< nothing: it notices the end of its caller in another way
};

/// Forks a process that runs `body` and exits with what it returns; `body` must not throw. The child
///   - is killed when the calling thread ends, unless `parent` is `lives_on`;
///   - has an empty signal mask, and default actions for SIGPIPE and wherever the caller has a handler, which would act
///     on the caller's descriptors; a signal that the caller ignores is still ignored;
///   - has a copy of everything else of the caller except the other threads. Streams are flushed first, so that nothing
///     that stdio had buffered is written twice.
///
/// Pre:     SIGCHLD is not ignored.
/// Throws:  std::system_error -- EAGAIN, ENOMEM, EMFILE, ECHILD (SIGCHLD is ignored); no process is left behind.
/// Cost:    fork(2), which copies the page tables of all mappings except images.
/// Source:  fork(2), pidfd_open(2), prctl(2) PR_SET_PDEATHSIG.
[[nodiscard]] Process fork_function_process(const std::function<int()>& body, WithParent parent = WithParent::ends);

/// Refuses to go on where SIGCHLD is ignored: the kernel then reaps children by itself, and how they ended is lost.
/// Throws: std::system_error -- ECHILD, with `what`.
/// Source: sigaction(2) SA_NOCLDWAIT.
void require_sigchld(const std::string& what);

}  // namespace procrun
