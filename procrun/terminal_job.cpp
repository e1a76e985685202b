#include "procrun/terminal_job.hpp"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

bool is_pipe_or_socket(int fd) noexcept {
    struct stat status {};
    return fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

/// The signal that has stopped a child and that nobody has been told of yet; 0 when there is none.
int taken_stop(pid_t pid) noexcept {
    siginfo_t info{};
    const int got = vmcow::sys::retry_interrupted(
        [&]() noexcept { return waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG); });
    return got == 0 && info.si_pid == pid && info.si_code == CLD_STOPPED ? info.si_status : 0;
}

}  // namespace

TerminalJob::TerminalJob() : terminal_(open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)) {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int number : {SIGCHLD, SIGTSTP, SIGCONT}) sigaddset(&wanted, number);
    signals_ = UniqueFd(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) vmcow::sys::throw_errno("signalfd");
    // Blocked, these two let a background process take the terminal back and write to it.
    sigaddset(&wanted, SIGTTOU);
    sigaddset(&wanted, SIGTTIN);
    const int error = pthread_sigmask(SIG_BLOCK, &wanted, &previous_);
    if (error != 0) vmcow::sys::throw_error(error, "pthread_sigmask");
    hands_over_ = have_terminal() && isatty(STDIN_FILENO) == 1 && !is_pipe_or_socket(STDOUT_FILENO);
}

TerminalJob::~TerminalJob() {
    if (hands_over_) take_back();
    (void)take_signals();
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

bool TerminalJob::have_terminal() const noexcept { return terminal_ && tcgetpgrp(terminal_.get()) == getpgrp(); }

void TerminalJob::take_back() noexcept {
    // Not when somebody else has it by now: a shell that has sent us into the background.
    if (group_ > 0 && tcgetpgrp(terminal_.get()) == group_) (void)tcsetpgrp(terminal_.get(), getpgrp());
}

void TerminalJob::attend(std::span<const pid_t> programs) noexcept {
    bool stop = take_signals() == Seen::stop;
    bool wants_terminal = false;
    for (const pid_t pid : programs) {
        const int number = taken_stop(pid);
        if (number == SIGTSTP) stop = true;
        if (number == SIGTTIN || number == SIGTTOU) wants_terminal = true;
    }
    if (group_ <= 0 || !terminal_) return;
    if (wants_terminal && have_terminal()) {
        hands_over_ = true;
        give();
    } else if (wants_terminal && !stop_with_group()) {
        // Nobody can bring us back: what the kernel does with a stopped group that nobody is left to continue.
        (void)kill(-group_, SIGHUP);
        (void)kill(-group_, SIGCONT);
    } else if (stop && !wants_terminal) {
        stop_with_group();
    }
}

void TerminalJob::give() noexcept {
    (void)tcsetpgrp(terminal_.get(), group_);
    (void)kill(-group_, SIGCONT);
}

bool TerminalJob::stop_with_group() noexcept {
    (void)kill(-group_, SIGTSTP);
    if (hands_over_) take_back();
    // With us goes what is in our own group, say a neighbour in the shell's pipeline. The kernel passes over those whom
    // nobody could continue, which SIGSTOP would not.
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTSTP);
    (void)kill(0, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stopping, nullptr);
    pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    const bool was_stopped = take_signals() == Seen::go_on;
    if (hands_over_ && have_terminal()) {
        give();
    } else {
        (void)kill(-group_, SIGCONT);
    }
    return was_stopped;
}

TerminalJob::Seen TerminalJob::take_signals() noexcept {
    Seen seen = Seen::nothing;
    signalfd_siginfo signal{};
    while (read(signals_.get(), &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
        if (signal.ssi_signo == SIGTSTP) seen = Seen::stop;
        if (signal.ssi_signo == SIGCONT) seen = Seen::go_on;
    }
    return seen;
}

}  // namespace procrun
