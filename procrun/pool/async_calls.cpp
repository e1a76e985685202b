#include "procrun/pool/async_calls.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>

#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun::detail {
namespace {

constexpr std::chrono::seconds kLongestWatch{1};
/// The longest sleep once the watcher could not be woken for a call.
constexpr std::chrono::milliseconds kLongestUntoldWatch{20};

}  // namespace

void AsyncCalls::add(const PoolLock&, const std::shared_ptr<AsyncCall>& call) { running_.push_back(call); }

void AsyncCalls::remove(const PoolLock&, const std::shared_ptr<AsyncCall>& call) { std::erase(running_, call); }

std::vector<std::shared_ptr<AsyncCall>> AsyncCalls::running(const PoolLock&) const { return running_; }

void AsyncCalls::start_watcher(const PoolLock&) {
    if (watcher_.joinable()) return;
    wake_ = vmcow::sys::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_) vmcow::sys::throw_errno("start the thread that watches calls");
    watcher_ = vmcow::sys::start_without_signals([this] { watch(); });
}

void AsyncCalls::wake_watcher() noexcept {
    VMCOW_ASSERT(wake_ && "the watcher is woken before it was started");
    constexpr int kAttempts = 3;
    const std::uint64_t one = 1;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (::write(wake_.get(), &one, sizeof(one)) >= 0 || errno == EAGAIN) return;  // full: it is awake
    }
    wakes_are_refused_ = true;  // from its next look on, the watcher looks every 20 ms by itself
}

void AsyncCalls::join_watcher() {
    if (!watcher_.joinable()) return;
    wake_watcher();
    watcher_.join();
}

void AsyncCalls::watch() {
    vmcow::sys::name_thread("vmcow-pool");
    std::vector<pollfd> wakers;
    while (true) {
        wakers.assign(1, pollfd{wake_.get(), POLLIN, 0});
        const std::optional<Deadline> next = look_(wakers);
        if (!next) return;
        // A call for which the watcher could not be woken waits for `longest`, not for ever.
        const std::chrono::milliseconds longest = wakes_are_refused_ ? kLongestUntoldWatch : kLongestWatch;
        poll_or_sleep(wakers, earlier(*next, Deadline::in(longest)));
        if (wakers[0].revents != 0) {
            std::uint64_t count = 0;
            static_cast<void>(::read(wake_.get(), &count, sizeof(count)));
        }
    }
}

}  // namespace procrun::detail
