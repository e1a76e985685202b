#pragma once

#include <pthread.h>
#include <signal.h>

#include <cerrno>

namespace vmcow::sys {

/// Keeps SIGXFSZ from this thread while it lives. The signal's default action ends the whole process, and a library
/// must not do that to its caller.
///
/// The kernel sends the signal to the thread that makes a file longer than RLIMIT_FSIZE, a memfd as well as a file on
/// disk, by write(2), ftruncate(2), fallocate(2) or ioctl_ficlonerange(2). The call also fails with EFBIG. A call that
/// makes a file shorter gets neither.
///
/// Pre:     the destructor runs in the thread of the constructor.
/// Threads: changes the signal mask of its own thread alone.
/// Source:  setrlimit(2); pthread_sigmask(3); sigtimedwait(2). Async-signal-safe.
class SizeSignalBlock {
public:
    SizeSignalBlock() noexcept;
    ~SizeSignalBlock();
    SizeSignalBlock(const SizeSignalBlock&) = delete;
    SizeSignalBlock& operator=(const SizeSignalBlock&) = delete;

    /// Takes away the signal that came with EFBIG. A signal that was pending before stays. Keeps errno.
    void take() noexcept;

private:
    sigset_t previous_{};
    pthread_t thread_ = ::pthread_self();
    bool was_pending_ = false;
};

/// Makes a system call that may make a file longer: past RLIMIT_FSIZE it returns -1 with EFBIG, without a signal.
template <class Call>
auto without_size_signal(Call&& call) noexcept(noexcept(call())) -> decltype(call()) {
    SizeSignalBlock block;
    const auto result = call();
    if (result == -1 && errno == EFBIG) block.take();
    return result;
}

}  // namespace vmcow::sys
