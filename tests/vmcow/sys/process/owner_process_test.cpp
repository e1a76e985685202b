// Tests whether an object is used in the process that made it, and owners that rely on this.
#include "vmcow/sys/process/owner_process.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "tests/support/support.hpp"
#include "vmcow/sys/process/forked_child.hpp"
#include "vmcow/sys/replaced_file.hpp"

namespace {

using tests::in_child;
using tests::kChildExitedWell;
using vmcow::sys::OwnerProcess;

/// Forks without running the handlers of pthread_atfork(3), and into new namespaces if `flags` asks for them.
pid_t bare_fork(unsigned long flags = 0) {
    return static_cast<pid_t>(::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0UL));
}

int status_of(pid_t pid) {
    int status = 0;
    return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(OwnerProcessTest, IsTheProcessThatHasMadeIt) {
    const OwnerProcess owner;
    const OwnerProcess copy = owner;
    EXPECT_TRUE(owner.is_this_process());
    EXPECT_TRUE(copy.has_this_memory());
}

TEST(OwnerProcessTest, ForkedChildIsAnotherAtAnyDepth) {
    EXPECT_EQ(in_child([] {
                  const OwnerProcess parents;
                  return in_child([&] {
                             const OwnerProcess own;
                             if (parents.is_this_process() || !own.is_this_process()) return 1;
                             return in_child([&] {
                                        const OwnerProcess childs;
                                        const bool foreign = !parents.is_this_process() && !own.is_this_process();
                                        return foreign && childs.is_this_process() ? 0 : 1;
                                    }) == kChildExitedWell
                                        ? 0
                                        : 2;
                         }) == kChildExitedWell
                             ? 0
                             : 3;
              }),
              kChildExitedWell);
}

TEST(OwnerProcessTest, ChildWithoutForkHandlersIsAnother) {
    EXPECT_EQ(in_child([] {
                  const OwnerProcess owner;
                  const pid_t child = bare_fork();
                  if (child == 0) ::_exit(owner.is_this_process() || owner.has_this_memory() ? 1 : 0);
                  return status_of(child);
              }),
              kChildExitedWell);
}

TEST(OwnerProcessTest, ChildThatSharesTheMemoryIsAnother) {
    const OwnerProcess owner;
    const pid_t child = ::vfork();
    if (child == 0) ::_exit(owner.is_this_process() ? 1 : 0);
    EXPECT_EQ(status_of(child), 0);
}

// Both processes have number 1, each in its own namespace.
TEST(OwnerProcessTest, ProcessOfTheSameNumberIsAnother) {
    const int status = in_child([] {
                           if (::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) return tests::kNotHere;
                           const pid_t first = bare_fork();
                           if (first == 0) {
                               const OwnerProcess owner;
                               const pid_t second = bare_fork(CLONE_NEWPID);
                               if (second < 0) ::_exit(tests::kNotHere);
                               if (second == 0) ::_exit(::getpid() == 1 && !owner.is_this_process() ? 0 : 1);
                               ::_exit(::getpid() == 1 ? status_of(second) : 2);
                           }
                           return first < 0 ? 77 : status_of(first);
                       }).exit_status;
    if (status == tests::kNotHere) GTEST_SKIP() << "no pid namespaces for this user";
    EXPECT_EQ(status, 0);
}

// ---- owners

TEST(OwnerProcessTest, CopyOfAFileOnItsWayLeavesItAlone) {
    const tests::TemporaryDirectory folder;
    vmcow::sys::ReplacedFile file(folder.path() / "a", vmcow::sys::UnfinishedFile::Way::named);
    EXPECT_EQ(in_child([&] {
                  file.~ReplacedFile();
                  return 0;
              }),
              kChildExitedWell);
    file.rename(false);
    EXPECT_TRUE(std::filesystem::exists(folder.path() / "a"));
}

TEST(OwnerProcessTest, CopyOfAForkedChildLeavesItAlone) {
    std::optional<vmcow::sys::ForkedChild> child(std::in_place, [] {
        ::usleep(100'000);
        return 5;
    });
    EXPECT_EQ(in_child([&] {
                  child.reset();
                  return 0;
              }),
              kChildExitedWell);
    const std::optional<int> status = child->wait();
    ASSERT_TRUE(status.has_value());
    EXPECT_EQ(*status, 5 << 8);
}

}  // namespace
