#include "vmcow/cli/kit/child_program.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <span>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/pidfd.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace vmcow::sys {
namespace {

constexpr int kUnknownToShells = 127;

/// Runs after fork, where only system calls are made (I7).
bool take(const ChildStreams& streams) noexcept {
    if (streams.own_group && ::setpgid(0, 0) != 0) return false;
    const std::array<int, 3> given = {streams.in, streams.out, streams.err};
    for (int fd = 0; fd < 3; ++fd) {
        const int from = given[static_cast<std::size_t>(fd)];
        if (from >= 0 && ::dup2(from, fd) < 0) return false;
    }
    return true;
}

/// Runs after fork (I7): execvp(3) of glibc looks the program up with memory on the stack alone.
[[noreturn]] void become(const std::vector<char*>& argv, const ChildStreams& streams, pid_t parent,
                         int errors) noexcept {
    int error = ESRCH;
    const bool has_parent = die_with_parent(parent, SIGTERM);
    if (has_parent && !take(streams)) {
        error = errno;
    } else if (has_parent) {
        (void)std::signal(SIGPIPE, SIG_DFL);
        unblock_all_signals();
        ::execvp(argv.front(), argv.data());
        error = errno;
    }
    (void)retry_interrupted([&]() noexcept { return ::write(errors, &error, sizeof error); });
    ::_exit(127);
}

}  // namespace

ChildProgram::ChildProgram(const std::vector<std::string>& argv, const ChildStreams& streams)
    : own_group_(streams.own_group) {
    std::vector<char*> words;
    words.reserve(argv.size() + 1);
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    for (const int fd : {streams.in, streams.out, streams.err}) {
        VMCOW_ASSERT((fd < 0 || fd > STDERR_FILENO) && "a descriptor of ChildStreams is above 2");
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("pipe2");
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) become(words, streams, parent, writer.get());
    if (pid_ < 0) throw_errno("fork");
    writer.reset();
    int error = 0;
    const std::size_t got = read_full(reader.get(), std::as_writable_bytes(std::span(&error, 1)), "pipe");
    const std::string what = "start '" + argv.front() + "'";
    if (got == 0) {
        pidfd_ = open_pidfd_of_child(pid_, what);
        return;
    }
    (void)retry_interrupted([&]() noexcept { return ::waitpid(pid_, nullptr, 0); });
    throw_error(error, what);
}

ChildProgram::~ChildProgram() {
    if (status_ || !owner_.is_this_process()) return;
    send(SIGKILL);
    (void)retry_interrupted([&]() noexcept { return ::waitpid(pid_, nullptr, 0); });
}

void ChildProgram::send(int signal) const noexcept {
    if (status_) return;
    if (own_group_) {
        signal_group(pid_, signal);
    } else {
        signal_process(pid_, signal);
    }
}

std::optional<int> ChildProgram::reap() noexcept {
    if (status_) return status_;
    int status = 0;
    const pid_t reaped = retry_interrupted([&]() noexcept { return ::waitpid(pid_, &status, WNOHANG); });
    if (reaped == pid_) {
        status_ = status;
    } else if (reaped < 0 && errno == ECHILD && has_ended(pidfd_.get())) {
        status_ = W_EXITCODE(kUnknownToShells, 0);
    }
    return status_;
}

int ChildProgram::shell_status() const noexcept {
    VMCOW_ASSERT(status_.has_value() && "reap() has returned a status");
    return WIFSIGNALED(*status_) ? 128 + WTERMSIG(*status_) : WEXITSTATUS(*status_);
}

bool reap_orphans(pid_t except) noexcept {
    for (;;) {
        siginfo_t info{};
        // WNOWAIT, because a waitpid(2) for any child would reap `except` as well.
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return errno == ECHILD;
        if (info.si_pid == 0 || info.si_pid == except) return false;
        ::waitpid(info.si_pid, nullptr, WNOHANG);
    }
}

}  // namespace vmcow::sys
