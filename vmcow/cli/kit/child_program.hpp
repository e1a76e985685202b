#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/owner_process.hpp"

namespace vmcow::sys {

/// The descriptors that a program gets as its 0 to 2: each is above 2, or -1 to keep ours.
struct ChildStreams {
    int in = -1;
    int out = -1;
    int err = -1;
    /// The program leads a process group: `send` and the destructor signal the whole group, so also the processes that
    /// the program has started.
    bool own_group = false;
};

/// A program that runs as our child, with our terminal and our descriptors 0 to 2, unless `streams` names others.
///
/// The program begins with an empty signal mask and the default action of SIGPIPE; it gets SIGTERM when this process
/// dies. The destructor kills and reaps a program that still runs, but not in a process that was forked from the owner.
///
/// Throws: std::system_error -- execve(2)'s errno with the program's name, or fork(2)'s; nothing is left behind.
/// Pre:    this process has one thread.
/// Source: fork(2), execvp(3), pidfd_open(2).
class ChildProgram {
public:
    explicit ChildProgram(const std::vector<std::string>& argv, const ChildStreams& streams = {});
    ChildProgram(const ChildProgram&) = delete;
    ChildProgram& operator=(const ChildProgram&) = delete;
    ~ChildProgram();

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Becomes readable when the program ends.
    [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
    /// Sends the program, or its group, a signal. Does nothing when the program has been reaped.
    void send(int signal) const noexcept;
    /// The status of waitpid(2); nullopt while the program runs. Exit 127, as of a shell's `wait`, if somebody else has
    /// reaped the program.
    [[nodiscard]] std::optional<int> reap() noexcept;
    /// The exit status that a shell would show: the program's own, or 128 + the signal that killed it.
    /// Pre: `reap` has returned a status.
    [[nodiscard]] int shell_status() const noexcept;

private:
    pid_t pid_ = -1;
    bool own_group_;
    UniqueFd pidfd_;
    std::optional<int> status_;
    OwnerProcess owner_;
};

/// Reaps the children that have ended, except `except`. Returns true when this process has no child at all.
bool reap_orphans(pid_t except) noexcept;

}  // namespace vmcow::sys
