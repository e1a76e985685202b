#pragma once

#include <chrono>
#include <optional>

namespace procrun {

/// A point in time at which waiting ends, or never.
class Deadline {
public:
    using Clock = std::chrono::steady_clock;

    [[nodiscard]] static Deadline never() { return Deadline{}; }
    [[nodiscard]] static Deadline at(Clock::time_point when) { return Deadline{when}; }
    /// `delay` from now; a delay beyond the clock's range is never.
    [[nodiscard]] static Deadline in(std::chrono::nanoseconds delay);

    [[nodiscard]] bool is_never() const noexcept { return !when_; }
    [[nodiscard]] bool passed() const { return when_ && Clock::now() >= *when_; }
    /// The time that is left, never negative; nullopt for never.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> remaining() const;

private:
    Deadline() = default;
    explicit Deadline(Clock::time_point when) : when_(when) {}

    std::optional<Clock::time_point> when_;
};

}  // namespace procrun
