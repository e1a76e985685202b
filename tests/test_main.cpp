#include <gtest/gtest.h>

#include <thread>

#include "tests/leak_guard.hpp"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    // With the first thread the thread sanitizer starts one of its own, which no test is to be blamed for.
    std::thread([] {}).join();
    // Appended, so that it sees the end of a test before the printer does, and its failures are printed as the test's.
    testing::UnitTest::GetInstance()->listeners().Append(new tests::LeakGuard);
    return RUN_ALL_TESTS();
}
