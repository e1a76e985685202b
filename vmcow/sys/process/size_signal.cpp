#include "vmcow/sys/process/size_signal.hpp"

#include <pthread.h>

#include <ctime>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

sigset_t size_signal() noexcept {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGXFSZ);
    return set;
}

}  // namespace

SizeSignalBlock::SizeSignalBlock() noexcept {
    const sigset_t set = size_signal();
    (void)::pthread_sigmask(SIG_BLOCK, &set, &previous_);
    if (::sigismember(&previous_, SIGXFSZ) != 1) return;  // an unblocked signal does not stay pending
    sigset_t pending;
    was_pending_ = ::sigpending(&pending) == 0 && ::sigismember(&pending, SIGXFSZ) == 1;
}

SizeSignalBlock::~SizeSignalBlock() {
    VMCOW_ASSERT(::pthread_equal(thread_, ::pthread_self()) && "another thread would get the mask of this one");
    (void)::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

void SizeSignalBlock::take() noexcept {
    if (was_pending_) return;
    const int error = errno;
    const sigset_t set = size_signal();
    const timespec at_once{};
    while (::sigtimedwait(&set, nullptr, &at_once) == -1 && errno == EINTR) continue;
    errno = error;
}

}  // namespace vmcow::sys
