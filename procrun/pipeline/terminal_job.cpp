#include "procrun/pipeline/terminal_job.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace procrun {

namespace {

constexpr std::array kWatched{SIGCHLD, SIGTSTP, SIGCONT};
/// While these two are blocked, a background process can take the terminal back and write to it.
constexpr std::array kOfTerminal{SIGTTOU, SIGTTIN};

bool is_pipe_or_socket(int fd) noexcept {
    struct stat status {};
    return fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

/// The signal that has stopped a child, if that has not been reported yet; otherwise 0.
int taken_stop(pid_t pid) noexcept {
    siginfo_t info{};
    const int got = vmcow::sys::retry_interrupted(
        [&]() noexcept { return waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG); });
    return got == 0 && info.si_pid == pid && info.si_code == CLD_STOPPED ? info.si_status : 0;
}

}  // namespace

TerminalJob::TerminalJob()
    : terminal_(open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)), blocked_(kOfTerminal), signals_(kWatched) {
    hands_over_ = have_terminal() && isatty(STDIN_FILENO) == 1 && !is_pipe_or_socket(STDOUT_FILENO);
}

TerminalJob::~TerminalJob() {
    if (hands_over_ && owner_.is_this_process()) take_back();
    (void)take_signals();
}

bool TerminalJob::have_terminal() const noexcept { return terminal_ && tcgetpgrp(terminal_.get()) == getpgrp(); }

void TerminalJob::take_back() noexcept {
    // Not when another group has it by now: a shell may have sent us into the background.
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
        // Nobody can continue us. So do what the kernel does with a stopped group that nobody is left to continue.
        vmcow::sys::signal_group(group_, SIGHUP);
        vmcow::sys::signal_group(group_, SIGCONT);
    } else if (stop && !wants_terminal) {
        stop_with_group();
    }
}

void TerminalJob::give() noexcept {
    (void)tcsetpgrp(terminal_.get(), group_);
    vmcow::sys::signal_group(group_, SIGCONT);
}

bool TerminalJob::stop_with_group() noexcept {
    vmcow::sys::signal_group(group_, SIGTSTP);
    if (hands_over_) take_back();
    // All of our own group stops with us, say a neighbour in the shell's pipeline. SIGTSTP does not stop processes that
    // nobody could continue; SIGSTOP would.
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTSTP);
    vmcow::sys::signal_own_group(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stopping, nullptr);
    pthread_sigmask(SIG_BLOCK, &stopping, nullptr);
    const bool was_stopped = take_signals() == Seen::go_on;
    if (hands_over_ && have_terminal()) {
        give();
    } else {
        vmcow::sys::signal_group(group_, SIGCONT);
    }
    return was_stopped;
}

TerminalJob::Seen TerminalJob::take_signals() noexcept {
    Seen seen = Seen::nothing;
    while (const auto number = signals_.take()) {
        if (*number == SIGTSTP) seen = Seen::stop;
        if (*number == SIGCONT) seen = Seen::go_on;
    }
    return seen;
}

}  // namespace procrun
