// Tests listing processes, threads and children.
#include "vmcow/sys/proc/tasks.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"

// Glibc's clone(2) under its other name: the thread sanitizer takes the first one for a fork.
// NOLINTNEXTLINE(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace {

using namespace vmcow::sys;
using tests::error_of;
using tests::IdleChild;
using tests::reaped_process;

bool has(const std::optional<std::vector<pid_t>>& pids, pid_t pid) {
    return pids && std::count(pids->begin(), pids->end(), pid) == 1;
}

[[gnu::no_sanitize("address", "undefined", "thread")]] int end_at_once(void*) {
    ::syscall(SYS_exit, 0);
    return 0;
}

/// Makes a zombie. The child runs in this process's memory, because a fork would copy its page tables.
pid_t make_zombie(std::byte* stack_end) {
    return __clone(end_at_once, stack_end, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
}

TEST(ProcTasksTest, ProcessesAreListedEachOnce) {
    IdleChild child;
    EXPECT_TRUE(has(list_processes(), ::getpid()));
    EXPECT_TRUE(has(try_list_processes(), child.pid()));
    child.kill();
    EXPECT_TRUE(has(list_processes(), child.pid())) << "a zombie is one";
    const pid_t gone = child.reap();
    EXPECT_FALSE(has(list_processes(), gone));
}

TEST(ProcTasksTest, ThreadsAreListedEachOnce) {
    std::atomic<pid_t> thread{0};
    std::atomic<bool> done{false};
    std::thread other([&] {
        thread = ::gettid();
        while (!done) std::this_thread::yield();
    });
    while (thread == 0) std::this_thread::yield();
    for (const auto& threads : {try_list_threads(::getpid()), try_list_own_threads()}) {
        EXPECT_TRUE(has(threads, ::getpid()));
        EXPECT_TRUE(has(threads, thread));
    }
    EXPECT_EQ(process_of_thread(thread), ::getpid());
    done = true;
    other.join();
    EXPECT_TRUE(tests::eventually([&] { return !has(try_list_own_threads(), thread); }));
}

TEST(ProcTasksTest, ProcessThatIsNotThereHasNoThreadsAndNoChildren) {
    const pid_t gone = reaped_process();
    EXPECT_EQ(try_list_threads(gone), std::nullopt);
    EXPECT_EQ(errno, ENOENT);
    errno = 0;
    EXPECT_EQ(try_list_children(gone, gone), std::nullopt);
    EXPECT_EQ(errno, ENOENT);
    EXPECT_EQ(process_of_thread(gone), std::nullopt);
}

TEST(ProcTasksTest, ChildrenAreThoseThatWereNotReaped) {
    if (!has_children_files()) GTEST_SKIP() << "the kernel does not list children (CONFIG_PROC_CHILDREN)";
    const pid_t self = ::getpid();
    EXPECT_EQ(try_list_children(self, self), std::vector<pid_t>());
    IdleChild first;
    IdleChild second;
    EXPECT_EQ(try_list_children(self, self), (std::vector{first.pid(), second.pid()}));
    EXPECT_EQ(try_list_children(first.pid(), first.pid()), std::vector<pid_t>());
    first.kill();
    EXPECT_TRUE(has(try_list_children(self, self), first.pid())) << "a zombie is one";
    first.reap();
    EXPECT_EQ(try_list_children(self, self), std::vector{second.pid()});
}

// The kernel writes the list page by page.
TEST(ProcTasksTest, MoreChildrenThanFitOnAPageAreListed) {
    if (!has_children_files()) GTEST_SKIP() << "the kernel does not list children (CONFIG_PROC_CHILDREN)";
    constexpr std::size_t kChildren = 1100;  // their numbers, with a blank each, take more than 4096 bytes
    constexpr std::size_t kStackBytes = 65536;
    const auto stack = std::make_unique<std::byte[]>(kStackBytes);
    std::vector<pid_t> made;
    for (std::size_t i = 0; i < kChildren; ++i) {
        const pid_t pid = make_zombie(stack.get() + kStackBytes);
        if (pid > 0) made.push_back(pid);
    }
    const auto listed = try_list_children(::getpid(), ::getpid());
    for (const pid_t pid : made) ::waitpid(pid, nullptr, 0);
    if (made.size() < kChildren) GTEST_SKIP() << "a lower limit of processes (RLIMIT_NPROC, pids.max)";
    EXPECT_EQ(listed, made);
}

TEST(ProcTasksTest, NoDescriptorLeftIsEmfile) {
    const bool has_files = has_children_files();
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { static_cast<void>(list_processes()); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(process_of_thread(::getpid())); }), EMFILE);
    for (const auto& list : {try_list_processes(), try_list_threads(::getpid()), try_list_own_threads(),
                             try_list_children(::getpid(), ::getpid())}) {
        EXPECT_EQ(list, std::nullopt);
    }
    errno = 0;
    static_cast<void>(try_list_own_threads());
    EXPECT_EQ(errno, EMFILE);
    errno = 0;
    static_cast<void>(try_list_children(::getpid(), ::getpid()));
    EXPECT_EQ(errno, EMFILE);
    EXPECT_EQ(has_children_files(), has_files) << "which takes no descriptor";
}

TEST(ProcTasksTest, ThreadOfAnotherProcessIsFound) {
    const IdleChild child;
    EXPECT_EQ(process_of_thread(child.pid()), child.pid());
    EXPECT_EQ(process_of_thread(::gettid()), ::getpid());
}

}  // namespace
