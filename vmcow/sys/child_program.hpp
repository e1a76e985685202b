#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// What a program has that is not ours: descriptors in place of 0 to 2, each above 2, where there is one.
struct ChildStreams {
    int in = -1;
    int out = -1;
    int err = -1;
    /// It leads a process group: signals, also the destructor's, reach what it has started too.
    bool own_group = false;
};

/// A program that runs as our child, with our terminal and our descriptors 0 to 2, unless it is given others.
///
/// It begins with an empty signal mask and SIGPIPE as it is by default; when this process dies, it gets SIGTERM. Its
/// owner reaps it: the destructor kills it if it still runs.
/// Throws: std::system_error -- execve(2)'s errno with the program's name, or fork(2)'s; nothing is left behind.
/// Pre:    this process has one thread. Source: fork(2), execvp(3), pidfd_open(2).
class ChildProgram {
public:
    explicit ChildProgram(const std::vector<std::string>& argv, const ChildStreams& streams = {});
    ChildProgram(const ChildProgram&) = delete;
    ChildProgram& operator=(const ChildProgram&) = delete;
    ~ChildProgram();

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Becomes readable when it ends.
    [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
    /// Sends it a signal; nothing happens where it has been reaped.
    void send(int signal) const noexcept;
    /// How it ended, as waitpid(2) has it; nothing while it runs.
    [[nodiscard]] std::optional<int> reap() noexcept;
    /// The status that a shell would have: its own, or 128 and the signal's number. Pre: it was reaped.
    [[nodiscard]] int shell_status() const noexcept;

private:
    [[nodiscard]] pid_t addressed() const noexcept { return own_group_ ? -pid_ : pid_; }

    pid_t pid_ = -1;
    bool own_group_;
    UniqueFd pidfd_;
    std::optional<int> status_;
};

/// Orphans of our descendants become our children from now on. Source: prctl(2) PR_SET_CHILD_SUBREAPER.
/// Throws: std::system_error.
void adopt_orphans();

/// Reaps the children that have ended, but `except`. True when there is no child at all.
bool reap_orphans(pid_t except) noexcept;

}  // namespace vmcow::sys
