#include "pipes/pump/pump_engine.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <vector>

#include "vmcow/sys/error.hpp"

namespace pipes {

timespec time_until(PumpEngine::Clock::time_point when) {
    const auto left = std::max(when - PumpEngine::Clock::now(), PumpEngine::Clock::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    return {.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
}

namespace {

class PollEngine final : public PumpEngine {
public:
    void wait(std::span<Watch* const> watches, std::optional<Clock::time_point> until) override {
        entries_.clear();
        for (const Watch* const watch : watches) entries_.push_back({watch->fd, watch->events, 0});
        int ready = 0;
        do {
            const timespec timeout = until ? time_until(*until) : timespec{};
            ready = ::ppoll(entries_.data(), entries_.size(), until ? &timeout : nullptr, nullptr);
        } while (ready < 0 && errno == EINTR);
        if (ready < 0) vmcow::sys::throw_errno("wait for the ends of a pump");
        for (std::size_t i = 0; i < watches.size(); ++i) watches[i]->found = entries_[i].revents;
    }

    void forget(Watch& watch) noexcept override { watch.found = 0; }

private:
    std::vector<pollfd> entries_;
};

}  // namespace

std::unique_ptr<PumpEngine> make_poll_engine() { return std::make_unique<PollEngine>(); }

}  // namespace pipes
