#pragma once

#include <sys/types.h>

#include <span>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/owner_process.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun {

/// A process group that stands in for ours at the terminal, as a shell's jobs do.
///
/// The group gets the terminal when our standard input is the terminal, our own group has it, and our standard output
/// is no pipe. If a neighbour in the same job reads the terminal itself (`procrun run … | less`), the terminal stays
/// with our group. Then signals from the keyboard reach us, and we hand them on: a stop (Ctrl-Z) stops the group and
/// then us, and what continues us continues the group. A program that reads the terminal all the same (a password
/// prompt) gets it at that moment.
///
///     TerminalJob job;
///     … start the first program with .process_group(0).foreground(job.terminal_to_hand_over()) …
///     job.began(first.pid());
///     … poll job.fd(); when it is readable: job.attend(pids of the programs) …
///     // the destructor takes the terminal back
///
/// Threads: SIGCHLD, SIGTSTP, SIGCONT, SIGTTOU and SIGTTIN of the calling thread are blocked meanwhile. There should be
///          no other thread, because it would get them.
/// Source:  tcsetpgrp(3), signalfd(2), waitid(2) with WSTOPPED; "Job Control" in the manual of GNU libc.
class TerminalJob {
public:
    /// Throws: std::system_error -- EMFILE, ENFILE.
    TerminalJob();
    TerminalJob(const TerminalJob&) = delete;
    TerminalJob& operator=(const TerminalJob&) = delete;
    ~TerminalJob();

    /// For Program::foreground; -1: the terminal stays ours, or there is none.
    [[nodiscard]] int terminal_to_hand_over() const noexcept { return hands_over_ ? terminal_.get() : -1; }
    /// The first program has been started; its process group is its pid.
    void began(pid_t group) noexcept { group_ = group; }

    /// Readable when `attend` has something to do.
    [[nodiscard]] int fd() const noexcept { return signals_.fd(); }
    /// Looks at which signals have come and which programs have stopped, and does as the class comment says. If that
    /// stops this process, the call returns after this process has been continued.
    void attend(std::span<const pid_t> programs) noexcept;

private:
    [[nodiscard]] bool have_terminal() const noexcept;
    void take_back() noexcept;
    void give() noexcept;
    /// Stops the group and this process. False when we were not stopped: our own group is orphaned, or ignores SIGTSTP.
    bool stop_with_group() noexcept;
    /// The last of the signals that have come and mean something here.
    enum class Seen { nothing, stop, go_on };
    [[nodiscard]] Seen take_signals() noexcept;

    vmcow::sys::UniqueFd terminal_;
    vmcow::sys::BlockedSignals blocked_;
    vmcow::sys::SignalDescriptor signals_;
    bool hands_over_ = false;
    pid_t group_ = -1;
    vmcow::sys::OwnerProcess owner_;
};

}  // namespace procrun
