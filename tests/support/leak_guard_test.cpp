// Tests that the leak guard finds what a test leaves open, running or mapped, and names it.
#include "tests/support/leak_guard.hpp"

#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using tests::LeakGuard;
using tests::ProcessState;
using vmcow::sys::UniqueFd;

std::vector<std::string> differences_from(const ProcessState& before) {
    return LeakGuard::differences(before, ProcessState::now());
}

bool has(const std::vector<std::string>& lines, const std::string& text) {
    return std::any_of(lines.begin(), lines.end(),
                       [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

TEST(LeakGuardTest, NothingLeftIsNoDifference) {
    const ProcessState before = ProcessState::now();
    {
        const UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
        vmcow::Arena arena;
        arena.allocate(1);
        ASSERT_EQ(tests::in_child([] { return 0; }), tests::kChildExitedWell);
        EXPECT_FALSE(differences_from(before).empty());
    }
    EXPECT_EQ(differences_from(before), std::vector<std::string>{});
}

TEST(LeakGuardTest, OpenDescriptorIsNamed) {
    const ProcessState before = ProcessState::now();
    const UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
    const auto lines = differences_from(before);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0], "descriptor " + std::to_string(file.get()) + " (/dev/null) was left open");
}

TEST(LeakGuardTest, ClosedDescriptorOfSomeoneElseIsNamed) {
    UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
    const ProcessState before = ProcessState::now();
    file.reset();
    EXPECT_TRUE(has(differences_from(before), "(/dev/null) was closed"));
}

TEST(LeakGuardTest, NumberThatIsAnotherFileNowIsADifference) {
    UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
    const int number = file.get();
    const ProcessState before = ProcessState::now();
    file.reset();
    file = vmcow::sys::open_file("/dev/zero", O_RDONLY);
    ASSERT_EQ(file.get(), number);
    const auto lines = differences_from(before);
    EXPECT_TRUE(has(lines, "(/dev/zero) was left open"));
    EXPECT_TRUE(has(lines, "(/dev/null) was closed"));
}

TEST(LeakGuardTest, ImageMappingWithoutADescriptorIsNamed) {
    const ProcessState before = ProcessState::now();
    UniqueFd file(::memfd_create("vmcow:forgotten", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
    void* const at = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    file.reset();
    const auto lines = differences_from(before);
    EXPECT_EQ(lines.size(), 1U);
    EXPECT_TRUE(has(lines, "mapping was left behind"));
    EXPECT_TRUE(has(lines, "/memfd:vmcow:forgotten"));
    ::munmap(at, 4096);
}

TEST(LeakGuardTest, ChildThatRunsAndChildThatWasNotReapedAreNamed) {
    const ProcessState before = ProcessState::now();
    const pid_t running = ::fork();
    if (running == 0) {
        for (;;) ::pause();
    }
    const pid_t ended = ::fork();
    if (ended == 0) ::_exit(0);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT), 0);
    const auto lines = differences_from(before);
    EXPECT_EQ(lines.size(), 2U);
    EXPECT_TRUE(has(lines, "child " + std::to_string(running)));
    EXPECT_TRUE(has(lines, "child " + std::to_string(ended)));
    vmcow::sys::signal_process(running, SIGKILL);
    ::waitpid(running, nullptr, 0);
    ::waitpid(ended, nullptr, 0);
}

TEST(LeakGuardTest, RunningThreadIsNamed) {
    const ProcessState before = ProcessState::now();
    std::atomic<bool> done = false;
    std::thread thread([&] { done.wait(false); });
    const auto lines = differences_from(before);
    EXPECT_EQ(lines.size(), 1U);
    EXPECT_TRUE(has(lines, "thread "));
    done = true;
    done.notify_all();
    thread.join();
}

TEST(LeakGuardTest, LeakIsAFailureOfTheTest) {
    const testing::TestInfo& info = *testing::UnitTest::GetInstance()->current_test_info();
    LeakGuard guard;
    guard.OnTestStart(info);
    UniqueFd file = vmcow::sys::open_file("/dev/null", O_RDONLY);
    EXPECT_NONFATAL_FAILURE(guard.OnTestEnd(info), "(/dev/null) was left open");
    file.reset();
    guard.OnTestEnd(info);
}

// End to end: this program is run once more with this test alone, and the test then leaves a descriptor open.
TEST(LeakGuardTest, EveryTestOfThisProgramIsGuarded) {
    constexpr const char* kLeak = "VMCOW_TEST_LEAK";
    if (std::getenv(kLeak) != nullptr) {
        static_cast<void>(vmcow::sys::open_file("/dev/null", O_RDONLY).release());
        return;
    }
    const auto result =
        tests::run_command({"/proc/self/exe", "--gtest_filter=LeakGuardTest.EveryTestOfThisProgramIsGuarded"},
                           {.text = {}, .environment = {std::string(kLeak) + "=1"}, .out_path = {}});
    EXPECT_EQ(result.end, (tests::ChildEnd{1, 0}));
    EXPECT_NE(result.out.find("(/dev/null) was left open"), std::string::npos) << result.out;
}

}  // namespace
