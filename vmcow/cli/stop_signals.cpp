#include "vmcow/cli/stop_signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include "vmcow/sys/error.hpp"

namespace vmcow::cli {

namespace {

bool is_ignored(int number) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    return action.sa_handler == SIG_IGN;
}

}  // namespace

StopSignals::StopSignals() {
    sigset_t wanted;
    sigemptyset(&wanted);
    // An ignored signal that is blocked is kept all the same, and would come out of the descriptor.
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        if (!is_ignored(number)) sigaddset(&wanted, number);
    }
    fd_ = sys::UniqueFd(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) sys::throw_errno("signalfd");
    const int error = pthread_sigmask(SIG_BLOCK, &wanted, &previous_);
    if (error != 0) sys::throw_error(error, "pthread_sigmask");
}

StopSignals::~StopSignals() {
    while (take()) {
    }
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

std::optional<int> StopSignals::take() noexcept {
    signalfd_siginfo info{};
    const ssize_t got = sys::retry_interrupted([&]() noexcept { return read(fd_.get(), &info, sizeof info); });
    if (got != static_cast<ssize_t>(sizeof info)) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace vmcow::cli
