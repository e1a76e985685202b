#include "procrun/deadline.hpp"

namespace procrun {

Deadline Deadline::in(std::chrono::nanoseconds delay) {
    const Clock::time_point now = Clock::now();
    if (delay > Clock::time_point::max() - now) return never();
    return at(now + delay);
}

std::optional<std::chrono::nanoseconds> Deadline::remaining() const {
    if (!when_) return std::nullopt;
    const Clock::time_point now = Clock::now();
    // Compared first: the difference to a point far in the past would overflow.
    if (*when_ <= now) return std::chrono::nanoseconds{0};
    return *when_ - now;
}

}  // namespace procrun
