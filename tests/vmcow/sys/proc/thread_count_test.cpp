// Tests counting the threads of a process, those that run and those that are listed.
#include "vmcow/sys/proc/thread_count.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace vmcow::sys;
using tests::error_of;
using tests::IdleChild;
using tests::reaped_process;

/// A thread that does nothing until this object ends.
class OtherThread {
public:
    OtherThread() : thread_([this] { done_.wait(false); }) {}
    OtherThread(const OtherThread&) = delete;
    OtherThread& operator=(const OtherThread&) = delete;
    ~OtherThread() {
        done_ = true;
        done_.notify_one();
        thread_.join();
    }

private:
    std::atomic<bool> done_{false};
    std::thread thread_;
};

UniqueFd open_tasks(pid_t pid) { return open_file("/proc/" + std::to_string(pid) + "/task", O_PATH | O_DIRECTORY); }

class ThreadCountTest : public testing::Test {
protected:
    /// Waits until joined threads of earlier tests are no longer listed.
    ThreadCountTest() {
        EXPECT_TRUE(tests::eventually([] { return count_running_threads() == 1; }));
    }

    const std::size_t usual_ = count_listed_threads();  // a sanitizer may add a thread
};

TEST_F(ThreadCountTest, AnotherThreadIsListedAndRuns) {
    {
        const OtherThread other;
        EXPECT_EQ(count_listed_threads(), usual_ + 1);
        EXPECT_EQ(count_running_threads(), 2U);
        EXPECT_FALSE(has_one_thread());
        const OtherThread third;
        EXPECT_EQ(count_listed_threads(), usual_ + 2);
        EXPECT_EQ(count_running_threads(), 3U);
    }
    EXPECT_TRUE(tests::eventually([&] { return count_listed_threads() == usual_; }));
    EXPECT_EQ(has_one_thread(), usual_ == 1);
}

TEST_F(ThreadCountTest, EachWayToAskSaysTheSame) {
    const OtherThread other;
    const UniqueFd tasks = open_tasks(::getpid());
    EXPECT_EQ(try_count_listed_threads(::getpid()), usual_ + 1);
    EXPECT_EQ(try_count_listed_threads_in(tasks.get()), usual_ + 1);
}

// The first thread of a process stays listed until the last one has ended.
TEST_F(ThreadCountTest, ThreadThatHasEndedIsListedAndDoesNotRun) {
    EXPECT_EQ(tests::in_child([] {
                  const std::size_t alone = count_listed_threads();
                  std::thread([alone] {
                      const bool ended = tests::eventually([] { return count_running_threads() == 1; });
                      ::_exit(ended && count_listed_threads() == alone + 1 ? 0 : 1);
                  }).detach();
                  ::syscall(SYS_exit, 0);
                  return 2;
              }),
              tests::kChildExitedWell);
}

TEST_F(ThreadCountTest, ProcessThatIsNotThereHasNone) {
    IdleChild child;
    const UniqueFd tasks = open_tasks(child.pid());
    EXPECT_GE(try_count_listed_threads(child.pid()).value_or(0), 1U);
    EXPECT_EQ(try_count_listed_threads_in(tasks.get()), try_count_listed_threads(child.pid()));
    child.kill();
    const pid_t gone = child.reap();
    EXPECT_EQ(try_count_listed_threads_in(tasks.get()), 0U);
    errno = 0;
    EXPECT_EQ(try_count_listed_threads(gone), std::nullopt);
    EXPECT_EQ(errno, ENOENT);
}

TEST_F(ThreadCountTest, ClosedDescriptorIsEbadf) {
    errno = 0;
    EXPECT_EQ(try_count_listed_threads_in(-1), std::nullopt);
    EXPECT_EQ(errno, EBADF);
}

TEST_F(ThreadCountTest, ListedOnesAreCountedWithoutADescriptor) {
    const OtherThread other;
    const DescriptorLimit none(0);
    EXPECT_EQ(count_listed_threads(), usual_ + 1);
    EXPECT_EQ(try_count_listed_threads(::getpid()), usual_ + 1);
    EXPECT_FALSE(has_one_thread());
}

// A thread that cannot be looked at must not be taken for one that has ended.
TEST_F(ThreadCountTest, ThreadsThatCannotBeLookedAtAreEmfile) {
    const OtherThread other;
    {
        const DescriptorLimit none(0);
        EXPECT_EQ(error_of([] { static_cast<void>(count_running_threads()); }), EMFILE);
    }
    const DescriptorLimit one(1);
    EXPECT_EQ(count_running_threads(), 2U);
}

TEST_F(ThreadCountTest, WithoutProcItIsEnoent) {
    const tests::TemporaryDirectory empty;
    const tests::ChildEnd end = tests::in_child([&] {
        if (::chroot(empty.path().c_str()) != 0) return tests::kNotHere;
        if (has_one_thread()) return 1;
        if (error_of([] { static_cast<void>(count_running_threads()); }) != ENOENT) return 2;
        return error_of([] { static_cast<void>(count_listed_threads()); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no chroot(2) for this user";
    EXPECT_EQ(end, (tests::ChildEnd{ENOENT, 0}));
}

}  // namespace
