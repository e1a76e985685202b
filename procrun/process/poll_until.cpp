#include "procrun/process/poll_until.hpp"

#include <cerrno>
#include <chrono>
#include <ctime>

#include "vmcow/sys/error.hpp"

namespace procrun {

Deadline earlier(Deadline a, Deadline b) {
    if (a.is_never()) return b;
    if (b.is_never()) return a;
    return *a.remaining() <= *b.remaining() ? a : b;
}

namespace {

int poll_once(std::span<pollfd> entries, Deadline deadline) noexcept {
    const auto left = deadline.remaining();
    timespec timeout{};
    if (left) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*left);
        timeout = {.tv_sec = seconds.count(), .tv_nsec = (*left - seconds).count()};
    }
    return ppoll(entries.data(), entries.size(), left ? &timeout : nullptr, nullptr);
}

}  // namespace

int poll_until(std::span<pollfd> entries, Deadline deadline, const std::string& what) {
    for (;;) {
        const int ready = poll_once(entries, deadline);
        if (ready >= 0) return ready;
        if (errno != EINTR) vmcow::sys::throw_errno(what);
    }
}

int poll_or_sleep(std::span<pollfd> entries, Deadline deadline) noexcept {
    const int ready = poll_once(entries, deadline);
    if (ready >= 0) return ready;
    for (pollfd& entry : entries) entry.revents = 0;
    if (errno != EINTR) {
        const timespec a_millisecond{.tv_sec = 0, .tv_nsec = 1'000'000};
        static_cast<void>(nanosleep(&a_millisecond, nullptr));
    }
    return -1;
}

}  // namespace procrun
