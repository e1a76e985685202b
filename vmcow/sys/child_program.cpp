#include "vmcow/sys/child_program.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <span>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

/// After fork: only system calls (I7; execvp(3) of glibc looks the program up on the stack).
bool take(const ChildStreams& streams) noexcept {
    if (streams.own_group && ::setpgid(0, 0) != 0) return false;
    const std::array<int, 3> given = {streams.in, streams.out, streams.err};
    for (int fd = 0; fd < 3; ++fd) {
        const int from = given[static_cast<std::size_t>(fd)];
        if (from >= 0 && ::dup2(from, fd) < 0) return false;
    }
    return true;
}

/// As `take`.
[[noreturn]] void become(const std::vector<char*>& argv, const ChildStreams& streams, pid_t parent,
                         int errors) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    int error = ESRCH;
    if (::getppid() == parent && !take(streams)) {
        error = errno;
    } else if (::getppid() == parent) {
        sigset_t none;
        ::sigemptyset(&none);
        (void)std::signal(SIGPIPE, SIG_DFL);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
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
    if (got == 0) {
        pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
        if (!pidfd_) {
            error = errno;
            ::kill(pid_, SIGKILL);
        }
    }
    if (error == 0) return;
    (void)retry_interrupted([&]() noexcept { return ::waitpid(pid_, nullptr, 0); });
    throw_error(error, "start '" + argv.front() + "'");
}

ChildProgram::~ChildProgram() {
    if (status_) return;
    ::kill(addressed(), SIGKILL);
    (void)retry_interrupted([&]() noexcept { return ::waitpid(pid_, nullptr, 0); });
}

void ChildProgram::send(int signal) const noexcept {
    if (!status_) ::kill(addressed(), signal);
}

std::optional<int> ChildProgram::reap() noexcept {
    int status = 0;
    if (!status_ && retry_interrupted([&]() noexcept { return ::waitpid(pid_, &status, WNOHANG); }) == pid_) {
        status_ = status;
    }
    return status_;
}

int ChildProgram::shell_status() const noexcept {
    VMCOW_ASSERT(status_.has_value());
    return WIFSIGNALED(*status_) ? 128 + WTERMSIG(*status_) : WEXITSTATUS(*status_);
}

void adopt_orphans() {
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) throw_errno("prctl PR_SET_CHILD_SUBREAPER");
}

bool reap_orphans(pid_t except) noexcept {
    for (;;) {
        siginfo_t info{};
        // Looked at before it is reaped: waitpid(2) would take the program's end with the others.
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return errno == ECHILD;
        if (info.si_pid == 0 || info.si_pid == except) return false;
        ::waitpid(info.si_pid, nullptr, WNOHANG);
    }
}

}  // namespace vmcow::sys
