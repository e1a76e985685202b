// fork_call(): results, private images and their page counts, outcomes, hostile functions, and callers that run out of
// descriptors.
#include "procrun/fork_call.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/process/function_process.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/view.hpp"

namespace {

using procrun::CallOptions;
using procrun::Deadline;
using procrun::fork_call;
using procrun::OutcomeKind;
using vmcow::Arena;
using vmcow::PageCount;
using vmcow::Snapshot;
using vmcow::View;

/// An arena of `pages` pages, each filled with its own number.
Arena numbered_arena(std::size_t pages) {
    Arena arena({.name = "numbered"});
    std::byte* const at = arena.allocate(pages * vmcow::kPageBytes);
    for (std::size_t i = 0; i < pages; ++i)
        std::memset(at + i * vmcow::kPageBytes, static_cast<int>(i), vmcow::kPageBytes);
    return arena;
}

Snapshot numbered_snapshot(std::size_t pages) { return numbered_arena(pages).freeze(); }

std::byte* page_of(View& view, std::size_t page) { return view.bytes().data() + page * vmcow::kPageBytes; }

// ---- results

TEST(ForkCallTest, ResultComesBackFromAnotherProcess) {
    const auto result = fork_call([] { return ::getpid(); });
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_NE(result.value(), ::getpid());
    EXPECT_EQ(result.outcome().kind, OutcomeKind::returned);
}

TEST(ForkCallTest, VoidFunctionReturnsToo) {
    int here = 1;
    const auto result = fork_call([&] { here = 2; });
    EXPECT_TRUE(result.ok());
    EXPECT_EQ(here, 1);
}

TEST(ForkCallTest, NestedContainersArriveWhole) {
    using Rows = std::vector<std::pair<std::string, std::vector<double>>>;
    const Rows rows{{"", {}}, {"a", {1.5}}, {std::string(100, 'x'), {2, 3, 4}}};
    const auto result = fork_call([&] { return std::make_tuple(rows, 7, std::string("end")); });
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.value(), std::make_tuple(rows, 7, std::string("end")));
}

// One message has a largest size; a result has none.
TEST(ForkCallTest, ResultOfAnySizeArrives) {
    for (const std::size_t size : {std::size_t{1}, std::size_t{65'000}, std::size_t{65'536}, std::size_t{5'000'000}}) {
        const auto result = fork_call([&] { return std::vector<char>(size, 'v'); });
        ASSERT_TRUE(result.ok()) << result.outcome().describe();
        EXPECT_EQ(result.value(), std::vector<char>(size, 'v'));
    }
}

TEST(ForkCallTest, CallsNest) {
    const auto result = fork_call([] {
        const auto inner = fork_call([] { return ::getppid(); });
        return std::make_pair(::getpid(), inner.value());
    });
    EXPECT_EQ(result.value().first, result.value().second);
}

TEST(ForkCallTest, SeveralThreadsCallAtOnce) {
    std::vector<std::thread> threads;
    std::array<long, 4> sums{};
    for (std::size_t t = 0; t < sums.size(); ++t) {
        threads.emplace_back([&sums, t] {
            const Snapshot snapshot = numbered_snapshot(4);
            for (int i = 0; i < 5; ++i) {
                View view = snapshot.map_private();
                sums[t] += fork_call([&] { return static_cast<long>(*page_of(view, 3)); }).value();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(sums, (std::array<long, 4>{15, 15, 15, 15}));
}

// ---- images

TEST(ForkCallTest, ViewIsCopiedOnWriteAndCountedToThePage) {
    const Snapshot snapshot = numbered_snapshot(64);
    View view = snapshot.map_private();
    const auto result = fork_call([&] {
        *page_of(view, 3) = std::byte{99};
        *page_of(view, 9) = std::byte{98};
        *page_of(view, 10) = std::byte{10};  // rewrites the byte that is there: a copy without a change
        return static_cast<int>(*page_of(view, 3));
    });
    EXPECT_EQ(result.value(), 99);
    EXPECT_EQ(*page_of(view, 3), std::byte{3});
    EXPECT_EQ(result.cost().copied, PageCount{3});
    EXPECT_EQ(result.cost().identical, PageCount{1});
    EXPECT_EQ(result.cost().changed_bytes, 2u);
}

TEST(ForkCallTest, ArenaIsAPrivateCopyInTheChild) {
    Arena arena = numbered_arena(8);
    const auto result = fork_call([&] {
        std::memset(arena.bytes().data(), 0x55, 2 * vmcow::kPageBytes);
        return static_cast<int>(arena.bytes()[vmcow::kPageBytes]);
    });
    EXPECT_EQ(result.value(), 0x55);
    EXPECT_EQ(arena.bytes()[vmcow::kPageBytes], std::byte{1});
    EXPECT_EQ(result.cost().copied, PageCount{2});
    EXPECT_EQ(result.cost().changed_bytes, 2 * vmcow::kPageBytes);
}

// I3: a child holds no descriptor with which it could change the caller's arena.
TEST(ForkCallTest, ChildCanNeitherFreezeNorWriteTheCallersArena) {
    Arena arena = numbered_arena(2);
    const auto result = fork_call([&] {
        const char byte = 1;
        const bool written = ::pwrite(arena.fd(), &byte, 1, 0) == 1;
        try {
            (void)std::move(arena).freeze();
        } catch (const std::system_error& error) {
            return std::make_pair(written, error.code().value());
        }
        return std::make_pair(written, 0);
    });
    EXPECT_EQ(result.value(), std::make_pair(false, EPERM));
    EXPECT_EQ(arena.bytes()[0], std::byte{0});
    const Snapshot snapshot = std::move(arena).freeze();
    EXPECT_EQ(snapshot.page_count(), PageCount{2});
}

TEST(ForkCallTest, ArenaGrowsInTheChildByItself) {
    Arena arena = numbered_arena(2);
    constexpr std::size_t kMore = std::size_t{64} << 20;
    const auto result = fork_call([&] {
        std::byte* const more = arena.allocate(kMore, 1);
        const bool zeroed = more[0] == std::byte{0} && more[kMore - 1] == std::byte{0};
        more[kMore / 2] = std::byte{7};
        more[kMore - 1] = std::byte{8};  // the page that was read: some kernels have made one for that already
        const std::size_t bytes = arena.extent_bytes();
        const auto deeper = fork_call([&] { return arena.bytes()[bytes - kMore / 2] == std::byte{7}; });
        return zeroed && deeper.value() && arena.bytes()[vmcow::kPageBytes] == std::byte{1} ? bytes : 0;
    });
    EXPECT_EQ(result.value(), 2 * vmcow::kPageBytes + kMore);
    EXPECT_EQ(result.cost().copied, PageCount{2});
    EXPECT_EQ(arena.extent_bytes(), 2 * vmcow::kPageBytes);
}

TEST(ForkCallTest, WhatAFunctionProcessHasChangedItsOwnFunctionProcessesSee) {
    Arena arena = numbered_arena(4);
    const auto bytes = arena.bytes();
    const auto result = fork_call([&] {
        bytes[0] = std::byte{10};
        const auto second = fork_call([&] {
            bytes[vmcow::kPageBytes] = bytes[0];
            const auto third = fork_call([&] { return bytes[vmcow::kPageBytes] == std::byte{10}; });
            bytes[0] = std::byte{11};
            return third.value() && third.cost().copied == PageCount{};
        });
        // The child's copy of the first page came with the fork, so that only the second page is copied here.
        return second.value() && second.cost().copied == PageCount{1} && bytes[0] == std::byte{10} &&
               bytes[vmcow::kPageBytes] == std::byte{1};
    });
    EXPECT_TRUE(result.value());
    EXPECT_EQ(result.cost().copied, PageCount{1});
}

TEST(ForkCallTest, ChildSeesTheViewAsItIsAndCountsFromThere) {
    const Snapshot snapshot = numbered_snapshot(64);
    View view = snapshot.map_private();
    *page_of(view, 5) = std::byte{77};
    const auto result = fork_call([&] {
        const int seen = static_cast<int>(*page_of(view, 5));
        *page_of(view, 5) = std::byte{78};
        *page_of(view, 6) = std::byte{79};
        return seen;
    });
    EXPECT_EQ(result.value(), 77);
    EXPECT_EQ(*page_of(view, 5), std::byte{77});
    EXPECT_EQ(result.cost().changed_bytes, 2u);
    EXPECT_EQ(result.cost().copied, PageCount{1}) << "page 5 was the child's from the start";
    EXPECT_EQ(view.changes().copied, PageCount{1}) << "the call leaves the caller's view alone";
}

TEST(ForkCallTest, CapturedViewComesBackAsADelta) {
    const Snapshot snapshot = numbered_snapshot(1024);
    View view = snapshot.map_private();
    const auto result = fork_call([&] {
        for (const std::size_t page : {1u, 2u, 700u}) *page_of(view, page) = std::byte{0xee};
        return view.capture();
    });
    const Snapshot& changed = result.value();
    EXPECT_EQ(changed.delta_pages(), PageCount{3});
    EXPECT_EQ(changed.bytes()[700 * vmcow::kPageBytes], std::byte{0xee});
    EXPECT_EQ(changed.bytes()[700 * vmcow::kPageBytes + 1], snapshot.bytes()[700 * vmcow::kPageBytes + 1]);
    EXPECT_EQ(snapshot.bytes()[700 * vmcow::kPageBytes], std::byte{700 % 256});
}

TEST(ForkCallTest, LayeredSnapshotsAreReadableInTheChild) {
    const Snapshot base = numbered_snapshot(64);
    View view = base.map_private();
    for (std::size_t page = 10; page < 30; ++page) *page_of(view, page) = std::byte{0xaa};
    *page_of(view, 50) = std::byte{0xbb};
    const Snapshot layered = view.capture();
    ASSERT_EQ(layered.bytes()[50 * vmcow::kPageBytes], std::byte{0xbb});  // merged with its base before the fork
    View second = layered.map_private();
    const auto result = fork_call([&] {
        return std::make_tuple(layered.bytes()[10 * vmcow::kPageBytes], layered.bytes()[50 * vmcow::kPageBytes],
                               *page_of(second, 29), *page_of(second, 50));
    });
    EXPECT_EQ(result.value(), std::make_tuple(std::byte{0xaa}, std::byte{0xbb}, std::byte{0xaa}, std::byte{0xbb}));
    EXPECT_EQ(result.cost().copied, PageCount{0});
}

TEST(ForkCallTest, ImagesMadeInTheChildWorkThereAndComeBack) {
    const auto result = fork_call([] { return numbered_snapshot(3); });
    EXPECT_EQ(result.value().bytes()[2 * vmcow::kPageBytes], std::byte{2});
}

// ---- outcomes

TEST(ForkCallTest, ExitStatusIsAnOutcome) {
    const auto result = fork_call([]() -> int { ::_exit(3); });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::exited);
    EXPECT_EQ(result.outcome().code, 3);
    EXPECT_FALSE(result.cost().copied.has_value()) << "nobody could count, so it is unknown (I8)";
    EXPECT_THROW((void)result.value(), procrun::CallFailed);
}

TEST(ForkCallTest, ExitWithStatusZeroIsNoResult) {
    const auto result = fork_call([]() -> int { ::_exit(0); });
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(result.outcome().kind, OutcomeKind::exited);
}

TEST(ForkCallTest, SignalIsAnOutcome) {
    const auto result = fork_call([] { static_cast<void>(::raise(SIGKILL)); });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled);
    EXPECT_EQ(result.outcome().code, SIGKILL);
}

TEST(ForkCallTest, ExceptionTextIsAnOutcomeAndCopiesAreCounted) {
    const Snapshot snapshot = numbered_snapshot(4);
    View view = snapshot.map_private();
    const auto result = fork_call([&]() -> int {
        *page_of(view, 0) = std::byte{9};
        throw std::runtime_error("row 7 is bad");
    });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_EQ(result.outcome().text, "row 7 is bad");
    EXPECT_EQ(result.cost().copied, PageCount{1});
}

TEST(ForkCallTest, ThrownNonExceptionIsAnOutcome) {
    const auto result = fork_call([]() -> int { throw 7; });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_FALSE(result.outcome().text.empty());
}

TEST(ForkCallTest, LongExceptionTextIsCutNotLost) {
    const auto result = fork_call([]() -> int { throw std::runtime_error(std::string(1 << 20, 'e')); });
    EXPECT_EQ(result.outcome().kind, OutcomeKind::threw);
    EXPECT_EQ(result.outcome().text.find_first_not_of('e'), std::string::npos);
    EXPECT_GE(result.outcome().text.size(), 1000u);
}

TEST(ForkCallTest, HangingFunctionIsEndedAtItsDeadlineAndCountedBefore) {
    const Snapshot snapshot = numbered_snapshot(16);
    View view = snapshot.map_private();
    const auto result = fork_call(
        [&] {
            *page_of(view, 1) = std::byte{9};
            *page_of(view, 2) = std::byte{9};
            for (;;) ::pause();
        },
        CallOptions{.deadline = Deadline::in(std::chrono::milliseconds(400))});
    EXPECT_EQ(result.outcome().kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(result.cost().copied, PageCount{2});
    EXPECT_FALSE(result.cost().changed_bytes.has_value());
}

TEST(ForkCallTest, DeadlineThatHasPassedEndsAFunctionThatNeverReturns) {
    const auto result = fork_call(
        [] {
            for (;;) ::pause();
        },
        CallOptions{.deadline = Deadline::in(std::chrono::seconds(0))});
    EXPECT_EQ(result.outcome().kind, OutcomeKind::deadline_passed);
}

// ---- hostile functions

TEST(ForkCallTest, FunctionThatClosesEveryDescriptorIsAnOutcome) {
    const auto result = fork_call([] {
        ::close_range(0, ~0U, 0);
        return 1;
    });
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(result.outcome().kind, OutcomeKind::exited);
    EXPECT_NE(result.outcome().code, 0);
}

TEST(ForkCallTest, FunctionThatLeavesThreadsRunningReturns) {
    const auto result = fork_call([] {
        std::thread([] {
            for (;;) ::pause();
        }).detach();
        return 5;
    });
    // ThreadSanitizer ends a forked child that starts threads; the call then has a different outcome.
    if (result.ok()) {
        EXPECT_EQ(result.value(), 5);
    } else {
        EXPECT_EQ(result.outcome().kind, OutcomeKind::exited);
    }
}

// A grandchild keeps the reply socket open, and the call must end without waiting for it.
TEST(ForkCallTest, FunctionThatForksReturnsWithoutItsChild) {
    const auto result = fork_call([] {
        const pid_t grandchild = ::fork();
        if (grandchild == 0) {
            for (;;) ::pause();
        }
        return grandchild;
    });
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(vmcow::sys::try_signal_process(result.value(), SIGKILL), 0);
}

TEST(ForkCallTest, FunctionThatUnmapsItsViewIsAnOutcome) {
    const Snapshot snapshot = numbered_snapshot(4);
    View view = snapshot.map_private();
    const auto result = fork_call([&] {
        (void)vmcow::sys::unmap(view.bytes().data(), view.bytes().size());
        return static_cast<int>(*page_of(view, 0));
    });
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(*page_of(view, 2), std::byte{2});
}

// ---- the caller's own troubles

TEST(ForkCallTest, IgnoredSigchldIsRefusedBeforeTheFork) {
    struct sigaction before {};
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ASSERT_EQ(::sigaction(SIGCHLD, &ignore, &before), 0);
    try {
        (void)fork_call([] { return 1; });
        ADD_FAILURE() << "not refused";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), ECHILD);
    }
    ASSERT_EQ(::sigaction(SIGCHLD, &before, nullptr), 0);
}

// Each limit lets the call fail at another step; no step may leave anything behind.
TEST(ForkCallTest, ExhaustedDescriptorsThrowAndLeaveNothing) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const int first_free = vmcow::sys::duplicate(0).get();
    int failed = 0;
    for (rlim_t left = 0; left < 4; ++left) {
        const rlimit small{static_cast<rlim_t>(first_free) + left, before.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &small), 0);
        try {
            const auto result = fork_call([] { return 1; });
            EXPECT_TRUE(result.ok());
        } catch (const std::system_error& error) {
            EXPECT_EQ(error.code().value(), EMFILE);
            ++failed;
        }
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    }
    EXPECT_GE(failed, 2);
}

TEST(ForkCallTest, ChildHasDefaultSignalsWhateverTheCallerHas) {
    struct sigaction before {};
    struct sigaction handler {};
    handler.sa_handler = [](int) {};
    ASSERT_EQ(::sigaction(SIGUSR1, &handler, &before), 0);
    sigset_t blocked;
    sigset_t mask_before;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR1);
    ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &blocked, &mask_before), 0);
    const auto result = fork_call([] { static_cast<void>(::raise(SIGUSR1)); });
    EXPECT_EQ(::pthread_sigmask(SIG_SETMASK, &mask_before, nullptr), 0);
    EXPECT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
    EXPECT_EQ(result.outcome().kind, OutcomeKind::signaled);
    EXPECT_EQ(result.outcome().code, SIGUSR1);
}

// The caller is a process that is killed while its function runs. The function's process must end with its caller.
TEST(ForkCallTest, FunctionProcessEndsWithItsCaller) {
    pipes::Pipe alive = pipes::Pipe::open();
    procrun::Process caller = procrun::fork_function_process([&] {
        (void)fork_call([&] {
            const char here = 'x';
            (void)!::write(alive.write_end().get(), &here, 1);
            for (;;) ::pause();
        });
        return 0;
    });
    alive.take_write_end().reset();
    char here = 0;
    ASSERT_EQ(::read(alive.read_end().get(), &here, 1), 1);
    caller.kill_and_wait();
    EXPECT_EQ(::read(alive.read_end().get(), &here, 1), 0) << "the last copy of the write end closes with the function";
}

TEST(ForkCallTest, BufferedOutputIsWrittenOnce) {
    pipes::Pipe pipe = pipes::Pipe::open();
    procrun::Process writer = procrun::fork_function_process([&] {
        ::dup2(pipe.write_end().get(), STDOUT_FILENO);
        std::printf("caller ");
        (void)fork_call([] { std::printf("child "); });
        static_cast<void>(std::fflush(nullptr));
        return 0;
    });
    pipe.take_write_end().reset();
    std::array<std::byte, 64> text{};
    const std::size_t got = vmcow::sys::read_full(pipe.read_end().get(), text, "pipe");
    EXPECT_TRUE(writer.wait().outcome.ok());
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(text.data()), got), "caller child ");
}

}  // namespace
