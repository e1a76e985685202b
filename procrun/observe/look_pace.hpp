#pragma once

#include <chrono>
#include <cstdint>
#include <random>

#include "procrun/deadline.hpp"

namespace procrun {

/// When to look at the stages of a pipeline: often while the pipeline is young, then ever more seldom, so that a
/// pipeline of any length gets several hundred looks. Looking takes at most 20 ms plus a hundredth of one processor.
///
/// Two looks are 1/800 of the pipeline's age apart, at least 1 ms and at most 100 ms, times a random factor between 0.5
/// and 1.5, so that a program that repeats itself is not always seen at the same step.
class LookPace {
public:
    using Clock = Deadline::Clock;

    explicit LookPace(Clock::time_point started, std::uint32_t seed = 1);

    /// When the next look at all the stages is due.
    [[nodiscard]] Clock::time_point next_look() const noexcept { return next_; }
    [[nodiscard]] bool due(Clock::time_point now) const noexcept { return now >= next_; }

    /// Notes that a look at all stages has ended at `now` and has taken `cost` of processor time.
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
