#pragma once

#include <chrono>
#include <cstdint>
#include <random>

#include "procrun/deadline.hpp"

namespace procrun {

/// When to look at the stages of a pipeline: often while it is young, then ever more seldom, so that any pipeline gets
/// several hundred looks, and never so often that looking takes more than 20 ms and a hundredth of one processor.
///
/// Looks are 1/800 of the pipeline's age apart, at least 1 ms and at most 100 ms, each by a random factor between a
/// half and one and a half: a program with a rhythm of its own is not always met in the same step of it.
class LookPace {
public:
    using Clock = Deadline::Clock;

    explicit LookPace(Clock::time_point started, std::uint32_t seed = 1);

    /// When the next look at all the stages is due.
    [[nodiscard]] Clock::time_point next_look() const noexcept { return next_; }
    [[nodiscard]] bool due(Clock::time_point now) const noexcept { return now >= next_; }

    /// A look at all stages ended at `now` and took `cost` of processor time.
    void looked(Clock::time_point now, std::chrono::nanoseconds cost);

private:
    Clock::time_point started_;
    std::minstd_rand random_;
    std::chrono::nanoseconds spent_{0};
    Clock::time_point next_;
};

/// Processor time that the calling thread has used. Source: clock_gettime(2) CLOCK_THREAD_CPUTIME_ID.
[[nodiscard]] std::chrono::nanoseconds thread_processor_time();

}  // namespace procrun
