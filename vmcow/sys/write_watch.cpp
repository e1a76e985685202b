#include "vmcow/sys/write_watch.hpp"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {

WriteWatch::WriteWatch(std::span<const std::string> files) noexcept {
    if (files.empty()) return;
    UniqueFd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) return;
    for (const std::string& file : files) {
        if (inotify_add_watch(watch.get(), file.c_str(), IN_MODIFY) < 0) return;
    }
    watch_ = std::move(watch);
}

bool WriteWatch::written() noexcept {
    VMCOW_ASSERT(works() && "without a descriptor every file would look unwritten");
    bool any = false;
    alignas(inotify_event) std::array<char, 4096> events{};
    while (read(watch_.get(), events.data(), events.size()) > 0) any = true;
    return any;
}

bool WriteWatch::written_within(std::chrono::milliseconds patience) noexcept {
    VMCOW_ASSERT(works() && "without a descriptor nothing would be waited for");
    pollfd entry{.fd = watch_.get(), .events = POLLIN, .revents = 0};
    (void)retry_interrupted([&]() noexcept { return poll(&entry, 1, static_cast<int>(patience.count())); });
    return written();
}

}  // namespace vmcow::sys
