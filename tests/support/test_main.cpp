#include <gtest/gtest.h>

#include <thread>

#include "tests/support/leak_guard.hpp"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    // The thread sanitizer starts a thread together with the first thread; starting one here keeps that thread out of
    // every test's account.
    std::thread([] {}).join();
    // Appended last: the guard then sees the end of a test before the printer does, and its failures are printed as the
    // test's.
    testing::UnitTest::GetInstance()->listeners().Append(new tests::LeakGuard);
    return RUN_ALL_TESTS();
}
