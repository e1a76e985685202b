// Deadline: what is left of it, and delays beyond the range of the clock.
#include "procrun/deadline.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace {

using procrun::Deadline;
using std::chrono::hours;
using std::chrono::nanoseconds;

TEST(DeadlineTest, NeverHasNoEnd) {
    EXPECT_TRUE(Deadline::never().is_never());
    EXPECT_FALSE(Deadline::never().passed());
    EXPECT_FALSE(Deadline::never().remaining().has_value());
}

TEST(DeadlineTest, DelayBeyondTheClockIsNever) { EXPECT_TRUE(Deadline::in(nanoseconds::max()).is_never()); }

TEST(DeadlineTest, PassedDeadlineLeavesNothingAndNeverLess) {
    for (const Deadline deadline :
         {Deadline::at(Deadline::Clock::time_point::min()), Deadline::at(Deadline::Clock::now()),
          Deadline::in(nanoseconds{0}), Deadline::in(nanoseconds::min())}) {
        EXPECT_TRUE(deadline.passed());
        EXPECT_EQ(deadline.remaining(), nanoseconds{0});
    }
}

TEST(DeadlineTest, DelayAheadIsWhatIsLeftOfIt) {
    const Deadline deadline = Deadline::in(hours{1000});
    EXPECT_FALSE(deadline.is_never());
    EXPECT_FALSE(deadline.passed());
    const auto left = deadline.remaining();
    ASSERT_TRUE(left.has_value());
    EXPECT_GT(*left, nanoseconds{0});
    EXPECT_LE(*left, hours{1000});
}

TEST(DeadlineTest, LastPointOfTheClockIsNotPassed) {
    const Deadline deadline = Deadline::at(Deadline::Clock::time_point::max());
    EXPECT_FALSE(deadline.passed());
    EXPECT_GT(*deadline.remaining(), nanoseconds{0});
}

}  // namespace
