#include "procrun/poll_until.hpp"

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

int poll_until(std::span<pollfd> entries, Deadline deadline, const std::string& what) {
    for (;;) {
        const auto left = deadline.remaining();
        timespec timeout{};
        if (left) {
            const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*left);
            timeout = {.tv_sec = seconds.count(), .tv_nsec = (*left - seconds).count()};
        }
        const int ready = ppoll(entries.data(), entries.size(), left ? &timeout : nullptr, nullptr);
        if (ready >= 0) return ready;
        if (errno != EINTR) vmcow::sys::throw_errno(what);
    }
}

}  // namespace procrun
