#include "vmcow/sys/process/signals.hpp"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

sigset_t set_of(std::span<const int> numbers) noexcept {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : numbers) (void)::sigaddset(&set, number);
    return set;
}

}  // namespace

BlockedSignals::BlockedSignals() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    (void)::pthread_sigmask(SIG_SETMASK, &all, &previous_);
}

BlockedSignals::BlockedSignals(std::span<const int> numbers) noexcept {
    const sigset_t set = set_of(numbers);
    (void)::pthread_sigmask(SIG_BLOCK, &set, &previous_);
}

BlockedSignals::~BlockedSignals() {
    VMCOW_ASSERT(::pthread_equal(thread_, ::pthread_self()) && "another thread would get the mask of this one");
    (void)::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

SignalDescriptor::SignalDescriptor(std::span<const int> numbers) : blocked_(numbers) {
    const sigset_t set = set_of(numbers);
    fd_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) throw_errno("signalfd");
}

std::optional<int> SignalDescriptor::take() noexcept {
    signalfd_siginfo info{};
    const ssize_t got = retry_interrupted([&]() noexcept { return ::read(fd_.get(), &info, sizeof info); });
    if (got != static_cast<ssize_t>(sizeof info)) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

void SignalDescriptor::drain() noexcept {
    while (take()) continue;
}

void unblock_all_signals() noexcept {
    sigset_t none;
    ::sigemptyset(&none);
    (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool is_ignored(int number) noexcept {
    struct sigaction action {};
    return ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

std::thread start_without_signals(std::function<void()> body) {
    const BlockedSignals blocked;
    return std::thread(std::move(body));
}

}  // namespace vmcow::sys
