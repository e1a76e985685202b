#pragma once

#include <sys/types.h>

#include <csignal>
#include <span>

#include "vmcow/sys/fd.hpp"

namespace procrun {

/// A process group that stands in for ours at the terminal, as a shell's jobs do.
///
/// The group gets the terminal when our standard input is the terminal, our own group has it, and our standard output
/// is no pipe: with neighbours in the same job that read the terminal themselves (`procrun run … | less`), it stays
/// with ours. Then what is typed reaches us, and is handed on: to stop (Ctrl-Z) stops the group and then ourselves;
/// what continues us continues it. A program that reads the terminal all the same (a password prompt) gets it at that
/// moment.
///
///     TerminalJob job;
///     … start the first program with .process_group(0).foreground(job.terminal_to_hand_over()) …
///     job.began(first.pid());
///     … poll job.fd(); when it is readable: job.attend(pids of the programs) …
///     // its end takes the terminal back
///
/// Threads: SIGCHLD, SIGTSTP, SIGCONT, SIGTTOU and SIGTTIN of the calling thread are blocked meanwhile; there should be
///          no other, which would get them.
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
    [[nodiscard]] int fd() const noexcept { return signals_.get(); }
    /// Looks which signals have come and which programs have stopped, and does as described above. Returns after we
    /// have been continued, when it comes to that.
    void attend(std::span<const pid_t> programs) noexcept;

private:
    [[nodiscard]] bool have_terminal() const noexcept;
    void take_back() noexcept;
    void give() noexcept;
    /// False when we were not stopped: our own group is orphaned, or ignores it.
    bool stop_with_group() noexcept;
    /// The last of the signals that have come and mean something here.
    enum class Seen { nothing, stop, go_on };
    [[nodiscard]] Seen take_signals() noexcept;

    vmcow::sys::UniqueFd terminal_;
    vmcow::sys::UniqueFd signals_;
    sigset_t previous_{};
    bool hands_over_ = false;
    pid_t group_ = -1;
};

}  // namespace procrun
