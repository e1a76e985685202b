#include "procrun/observe/look_pace.hpp"

#include <algorithm>
#include <ctime>

#include "vmcow/sys/error.hpp"

namespace procrun {

using std::chrono::nanoseconds;

namespace {

constexpr int kLooksPerLife = 800;
constexpr nanoseconds kShortestInterval = std::chrono::milliseconds{1};
constexpr nanoseconds kLongestInterval = std::chrono::milliseconds{100};
constexpr nanoseconds kFreeCost = std::chrono::milliseconds{20};
constexpr int kLifePerCost = 100;

}  // namespace

LookPace::LookPace(Clock::time_point started, std::uint32_t seed)
    : started_(started), random_(seed), next_(started + kShortestInterval) {}

void LookPace::looked(Clock::time_point now, nanoseconds cost) {
    const nanoseconds by_age = std::clamp((now - started_) / kLooksPerLife, kShortestInterval, kLongestInterval);
    spent_ += cost;
    const Clock::time_point affordable = started_ + (spent_ - kFreeCost) * kLifePerCost;
    const nanoseconds interval = std::max<nanoseconds>(by_age, affordable - now);
    std::uniform_real_distribution<double> factor(0.5, 1.5);
    next_ = now + std::chrono::duration_cast<nanoseconds>(interval * factor(random_));
}

nanoseconds thread_processor_time() {
    timespec time{};
    VMCOW_ASSERT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0 && "every thread has this clock");
    return std::chrono::seconds{time.tv_sec} + nanoseconds{time.tv_nsec};
}

}  // namespace procrun
