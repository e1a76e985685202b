#pragma once

#include <pthread.h>
#include <signal.h>

#include <functional>
#include <optional>
#include <span>
#include <thread>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Blocks signals in the calling thread while this object lives. The destructor gives the thread its previous mask.
///
/// Pre:        the destructor runs in the thread of the constructor.
/// Threads:    changes the mask of its own thread alone; threads that are started meanwhile begin with that mask.
/// After fork: the child has the mask of the thread that forked.
/// Source:     pthread_sigmask(3), which nothing refuses. Async-signal-safe.
class BlockedSignals {
public:
    /// Blocks all signals, so that no handler of ours runs in a child that is made meanwhile.
    BlockedSignals() noexcept;
    /// Blocks `numbers`, beside the signals that the thread has blocked already.
    explicit BlockedSignals(std::span<const int> numbers) noexcept;
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals();

private:
    sigset_t previous_{};
    pthread_t thread_ = ::pthread_self();
};

/// Blocks some signals while this object lives, and makes a descriptor readable when one of them has come, even one
/// that is ignored. The descriptor is close-on-exec, and reading it never waits.
///
/// Threads:    a signal for the whole process goes to another thread that has not blocked it.
/// After fork: the copy in a child reads the signals of the child.
/// Source:     signalfd(2).
class SignalDescriptor {
public:
    /// Throws: std::system_error -- EMFILE, ENFILE, ENOMEM; the mask is as before then.
    explicit SignalDescriptor(std::span<const int> numbers);

    /// Readable while a signal is there.
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// Takes a signal that has come; nullopt when there is none. Several signals of one number count as one.
    [[nodiscard]] std::optional<int> take() noexcept;
    /// Takes all signals that have come.
    void drain() noexcept;

private:
    BlockedSignals blocked_;
    UniqueFd fd_;
};

/// Empties the signal mask, for a child whose parent may have had another one. Async-signal-safe.
void unblock_all_signals() noexcept;

/// Whether a signal is ignored; false for a number that is no signal. Async-signal-safe.
/// Source: sigaction(2).
[[nodiscard]] bool is_ignored(int number) noexcept;

/// Starts a thread with all signals blocked: the program's handlers are meant for the program's own threads. A signal
/// that the thread raises itself, such as SIGPIPE, stays pending and ends with the thread.
/// Throws: std::system_error -- EAGAIN (no thread).
[[nodiscard]] std::thread start_without_signals(std::function<void()> body);

}  // namespace vmcow::sys
