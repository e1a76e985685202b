// Limits of a call: processor time, memory and copied pages, which LimitWatch measures, and open files, which
// OpenFilesLimit sets.
#include "procrun/limits.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/limits/limit_reasons.hpp"
#include "procrun/limits/limit_watch.hpp"
#include "procrun/limits/open_files_limit.hpp"
#include "procrun/limits/process_counters.hpp"
#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using procrun::CallLimits;
using procrun::CallStart;
using procrun::Deadline;
using procrun::LimitWatch;
using procrun::OpenFilesLimit;
using procrun::Process;
using procrun::ProcessCounters;
using tests::error_of;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::sys::UniqueFd;

constexpr std::uint64_t kMiB = 1 << 20;
/// Far longer than anything that a test waits for.
constexpr std::chrono::seconds kTooLong{60};

std::pair<UniqueFd, UniqueFd> make_pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) == -1) vmcow::sys::throw_errno("pipe2");
    return {UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

/// A warm process that runs `step` for each command in turn.
class WorkerHandle {
public:
    explicit WorkerHandle(const std::function<void(char)>& step) {
        auto [command_read, command_write] = make_pipe();
        auto [done_read, done_write] = make_pipe();
        process_ = procrun::fork_function_process([&, &in = command_read, &out = done_write, &mine = command_write] {
            mine.reset();
            char command = 0;
            while (read(in.get(), &command, 1) == 1) {
                step(command);
                if (write(out.get(), &command, 1) != 1) return 1;
            }
            return 0;
        });
        command_ = std::move(command_write);
        done_ = std::move(done_read);
    }

    /// Returns true when the step is done, false when the process ended in it.
    bool run(char command) const {
        begin(command);
        return read(done_.get(), &command, 1) == 1;
    }
    void begin(char command) const {
        if (write(command_.get(), &command, 1) != 1) vmcow::sys::throw_errno("write a command");
    }
    void end() {
        command_.reset();
        static_cast<void>(process_.wait_ended(Deadline::never()));
    }

    [[nodiscard]] Process& process() noexcept { return process_; }

private:
    UniqueFd command_;
    UniqueFd done_;
    Process process_;
};

void spin_for_processor_time(std::chrono::nanoseconds time) {
    timespec now{};
    do {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    } while (std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec} < time);
}

/// Touches fresh memory page by page.
void take_memory(std::size_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) _exit(99);
    for (std::size_t at = 0; at < bytes; at += kPageBytes) static_cast<volatile char*>(memory)[at] = 1;
}

/// An image that is mapped privately at an address where a forked child has it too.
class PrivateMapping {
public:
    explicit PrivateMapping(std::size_t pages) : bytes_(pages * kPageBytes), fd_(vmcow::sys::create_memfd("limits")) {
        if (ftruncate(fd_.get(), static_cast<off_t>(bytes_)) == -1) vmcow::sys::throw_errno("ftruncate");
        map(0);
    }
    ~PrivateMapping() { munmap(address_, bytes_); }
    PrivateMapping(const PrivateMapping&) = delete;
    PrivateMapping& operator=(const PrivateMapping&) = delete;

    /// Replaces the mapping, as a warm process does to give its pages back.
    void map_again() { map(MAP_FIXED); }
    void write_pages(std::size_t first, std::size_t count) const {
        for (std::size_t i = first; i < first + count; ++i) static_cast<volatile char*>(address_)[i * kPageBytes] = 1;
    }
    [[nodiscard]] vmcow::WritableRange range() const {
        return {reinterpret_cast<std::uintptr_t>(address_), bytes_, {}};
    }

private:
    void map(int flags) {
        address_ = mmap(address_, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, fd_.get(), 0);
        if (address_ == MAP_FAILED) vmcow::sys::throw_errno("mmap");
    }

    std::size_t bytes_;
    UniqueFd fd_;
    void* address_ = nullptr;
};

/// Polls as a caller does, until a limit is exceeded or the process has ended.
std::optional<std::string> watch_to_the_end(LimitWatch& watch, const Process& process) {
    const Deadline give_up = Deadline::in(kTooLong);
    while (!give_up.passed()) {
        if (process.wait_ended(watch.next_look())) return std::nullopt;
        if (auto reason = watch.exceeded()) return reason;
    }
    return "neither a reason nor an end";
}

bool starts_with(const std::optional<std::string>& text, std::string_view start) {
    return text && text->substr(0, start.size()) == start;
}

bool ends_with(const std::optional<std::string>& text, std::string_view end) {
    return text && text->size() >= end.size() && text->substr(text->size() - end.size()) == end;
}

// ---- CallLimits

TEST(CallLimitsTest, OnlyOpenFilesNeedsNoLooks) {
    EXPECT_FALSE(CallLimits{}.any());
    const CallLimits files{.open_files = 3};
    EXPECT_TRUE(files.any());
    EXPECT_FALSE(files.polled());
    EXPECT_TRUE(CallLimits{.processor_time = std::chrono::seconds{1}}.polled());
    EXPECT_TRUE(CallLimits{.copied_pages = PageCount{1}}.polled());
    EXPECT_TRUE(CallLimits{.memory_bytes = 1}.polled());
}

TEST(CallLimitsTest, WaysOfLimitingMemoryHaveNames) {
    EXPECT_STREQ(name_of(procrun::MemoryLimitBy::cgroup), "cgroup");
    EXPECT_STREQ(name_of(procrun::MemoryLimitBy::polling), "polling");
    EXPECT_EQ(procrun::cgroup_limit_reason(64 * kMiB), "memory: more than 64.0 MiB (cgroup)");
    EXPECT_EQ(procrun::cgroup_limit_reason(4096), "memory: more than 4.0 KiB (cgroup)");
}

// ---- ProcessCounters

// Without privileges, opening the pagemap of a zombie fails with EACCES instead.
TEST(ProcessCountersTest, EndedProcessIsEsrchHoweverTheKernelSaysIt) {
    const PrivateMapping image(8);
    WorkerHandle warm([](char) {});
    ProcessCounters counters(warm.process().pid());
    warm.end();
    EXPECT_EQ(error_of([&] { static_cast<void>(counters.private_pages({image.range()})); }), ESRCH);
    EXPECT_EQ(error_of([&] { static_cast<void>(counters.faults()); }), ESRCH);
    EXPECT_EQ(error_of([&] { static_cast<void>(counters.anonymous_bytes()); }), ESRCH);
    EXPECT_EQ(error_of([&] { static_cast<void>(counters.processor_time()); }), 0) << "a zombie's is still known";
    static_cast<void>(warm.process().wait());
    EXPECT_EQ(error_of([&] { static_cast<void>(counters.processor_time()); }), ESRCH);
}

// ---- LimitWatch

TEST(LimitWatchTest, ProcessorTimeOfASpinningProcessIsExceeded) {
    const Process process = procrun::fork_function_process([] {
        spin_for_processor_time(std::chrono::hours{1});
        return 0;
    });
    ProcessCounters counters(process.pid());
    LimitWatch watch(counters, {.processor_time = std::chrono::milliseconds{20}}, {}, CallStart::forked);
    const auto reason = watch_to_the_end(watch, process);
    EXPECT_TRUE(starts_with(reason, "processor time: ")) << reason.value_or("ended");
    // A very early poll prints decimals, so that only the rest of the message is fixed.
    EXPECT_NE(reason.value_or("").find(" ms of at most 20"), std::string::npos) << reason.value_or("ended");
    EXPECT_GT(watch.processor_time(), std::chrono::milliseconds{20});
}

TEST(LimitWatchTest, WaitingTakesNoProcessorTime) {
    WorkerHandle warm([](char) {});
    ProcessCounters counters(warm.process().pid());
    LimitWatch watch(counters, {.processor_time = std::chrono::milliseconds{50}}, {}, CallStart::resident);
    for (int look = 0; look < 20; ++look) {
        ASSERT_FALSE(warm.process().wait_ended(watch.next_look()));
        ASSERT_EQ(watch.exceeded(), std::nullopt);
    }
}

TEST(LimitWatchTest, ProcessorTimeOfEarlierCallsIsNotThisCalls) {
    WorkerHandle warm([](char) { spin_for_processor_time(std::chrono::milliseconds{100}); });
    ASSERT_TRUE(warm.run('s'));
    ProcessCounters counters(warm.process().pid());
    const CallLimits limits{.processor_time = std::chrono::milliseconds{90}};
    LimitWatch own(counters, limits, {}, CallStart::forked);
    EXPECT_TRUE(own.exceeded());
    LimitWatch later(counters, limits, {}, CallStart::resident);
    EXPECT_EQ(later.exceeded(), std::nullopt);
    EXPECT_LT(later.processor_time(), std::chrono::milliseconds{90});
}

TEST(LimitWatchTest, MemoryOfAProcessThatTouchesPagesIsExceeded) {
    WorkerHandle warm([](char) { take_memory(40 * kMiB); });
    ProcessCounters counters(warm.process().pid());
    LimitWatch watch(counters, {.memory_bytes = 32 * kMiB}, {}, CallStart::forked);
    EXPECT_EQ(watch.exceeded(), std::nullopt);
    ASSERT_TRUE(warm.run('t'));
    const auto reason = watch.exceeded();
    EXPECT_TRUE(starts_with(reason, "memory: 4")) << reason.value_or("nothing");
    EXPECT_TRUE(ends_with(reason, " MiB of at most 32.0 MiB (polled)")) << reason.value_or("nothing");
    EXPECT_TRUE(watch.unknown().empty());
}

TEST(LimitWatchTest, MemoryOfAProcessThatGoesOnTakingItIsSeenInTime) {
    const Process process = procrun::fork_function_process([] {
        for (int i = 0; i < 64; ++i) take_memory(kMiB);
        for (;;) pause();
        return 0;
    });
    ProcessCounters counters(process.pid());
    LimitWatch watch(counters, {.memory_bytes = 8 * kMiB}, {}, CallStart::forked);
    EXPECT_TRUE(starts_with(watch_to_the_end(watch, process), "memory: "));
}

TEST(LimitWatchTest, MemoryOfEarlierCallsIsNotThisCalls) {
    WorkerHandle warm([](char) { take_memory(24 * kMiB); });
    ASSERT_TRUE(warm.run('t'));
    ProcessCounters counters(warm.process().pid());
    for (int call = 0; call < 3; ++call) {  // every call uses the same descriptors
        LimitWatch watch(counters, {.memory_bytes = 32 * kMiB}, {}, CallStart::resident);
        ASSERT_TRUE(warm.run('t'));
        EXPECT_EQ(watch.exceeded(), std::nullopt);
    }
}

TEST(LimitWatchTest, CopiedPagesAreExceededByOnePage) {
    const PrivateMapping image(64);
    WorkerHandle warm([&](char command) { image.write_pages(command == 'a' ? 0 : 40, command == 'a' ? 10 : 1); });
    ProcessCounters counters(warm.process().pid());
    LimitWatch watch(counters, {.copied_pages = PageCount{10}}, {image.range()}, CallStart::forked);
    ASSERT_TRUE(warm.run('a'));
    EXPECT_EQ(watch.exceeded(), std::nullopt);
    ASSERT_TRUE(warm.run('b'));
    EXPECT_EQ(watch.exceeded(), "copied pages: 11 of at most 10");
}

TEST(LimitWatchTest, FaultsOutsideTheImagesAreNoCopies) {
    const PrivateMapping image(64);
    WorkerHandle warm([&](char) { take_memory(kMiB); });
    ProcessCounters counters(warm.process().pid());
    LimitWatch watch(counters, {.copied_pages = PageCount{10}}, {image.range()}, CallStart::forked);
    for (int step = 0; step < 3; ++step) {
        ASSERT_TRUE(warm.run('t'));
        EXPECT_EQ(watch.exceeded(), std::nullopt);
    }
    EXPECT_TRUE(watch.unknown().empty());
}

TEST(LimitWatchTest, ResidentPagesAreNotThisCalls) {
    const PrivateMapping first(64);
    const PrivateMapping second(64);
    WorkerHandle warm([&](char command) {
        first.write_pages(0, command == 'a' ? 20 : 30);
        second.write_pages(0, command == 'a' ? 5 : 6);
    });
    ASSERT_TRUE(warm.run('a'));
    ProcessCounters counters(warm.process().pid());
    const std::vector<vmcow::WritableRange> images{first.range(), second.range()};
    LimitWatch enough(counters, {.copied_pages = PageCount{11}}, images, CallStart::resident);
    LimitWatch too_few(counters, {.copied_pages = PageCount{10}}, images, CallStart::resident);
    ASSERT_TRUE(warm.run('b'));
    EXPECT_EQ(enough.exceeded(), std::nullopt);
    EXPECT_EQ(too_few.exceeded(), "copied pages: 11 of at most 10");
}

TEST(LimitWatchTest, PagesOfARemappedImageAreAllThisCalls) {
    PrivateMapping image(64);
    WorkerHandle warm([&](char command) {
        if (command == 'm') image.map_again();
        image.write_pages(0, 20);
    });
    ASSERT_TRUE(warm.run('a'));
    ProcessCounters counters(warm.process().pid());
    LimitWatch watch(counters, {.copied_pages = PageCount{19}}, {image.range()}, CallStart::remapped);
    EXPECT_EQ(watch.exceeded(), std::nullopt) << "the earlier call's pages, before the image is mapped again";
    ASSERT_TRUE(warm.run('m'));
    EXPECT_EQ(watch.exceeded(), "copied pages: 20 of at most 19");
}

// The ranges and the pages placed in them come from the images of a fork, as for fork_call.
TEST(LimitWatchTest, PagesThatAForkPlacesInAViewAreNotTheCalls) {
    vmcow::View view = tests::zeros(64).map_private();
    tests::write_pages(view, {1, 2, 3});
    const auto run = [&](std::uint64_t most) {
        std::vector<vmcow::WritableRange> ranges;
        auto [read_end, write_end] = make_pipe();
        Process process;
        {
            vmcow::ImagesInFork images;
            ranges = images.writable();
            process = procrun::fork_function_process([&, &out = write_end] {
                if (images.map_again() != 0) return 1;
                tests::write_pages(view, {10, 11, 12, 13});
                if (write(out.get(), "x", 1) != 1) return 2;
                for (;;) pause();
                return 0;
            });
        }
        write_end.reset();
        char written = 0;
        if (read(read_end.get(), &written, 1) != 1) return std::optional<std::string>("no image in the child");
        ProcessCounters counters(process.pid());
        LimitWatch watch(counters, {.copied_pages = PageCount{most}}, ranges, CallStart::forked);
        return watch.exceeded();
    };
    EXPECT_EQ(run(4), std::nullopt);
    EXPECT_EQ(run(3), "copied pages: 4 of at most 3");
}

TEST(LimitWatchTest, NextLookIsNeverFarOffAndNeverWithoutAPolledLimit) {
    WorkerHandle warm([](char) {});
    ProcessCounters counters(warm.process().pid());
    EXPECT_TRUE(LimitWatch(counters, {.open_files = 1}, {}, CallStart::forked).next_look().is_never());
    LimitWatch watch(counters,
                     {.processor_time = std::chrono::hours{1}, .copied_pages = PageCount{1}, .memory_bytes = 1 << 30},
                     {}, CallStart::forked);
    for (int look = 0; look < 8; ++look) {
        ASSERT_LE(watch.next_look().remaining(), std::chrono::milliseconds{10});
        ASSERT_EQ(watch.exceeded(), std::nullopt);
    }
}

TEST(LimitWatchTest, ProcessThatHasEndedHasExceededNothingAndHidesNothing) {
    const PrivateMapping image(8);
    const CallLimits limits{
        .processor_time = std::chrono::hours{1}, .copied_pages = PageCount{1}, .memory_bytes = kMiB};
    for (const bool is_looked_at_before : {true, false}) {
        WorkerHandle warm([](char) {});
        ASSERT_TRUE(warm.run('x'));
        ProcessCounters counters(warm.process().pid());
        LimitWatch watch(counters, limits, {image.range()}, CallStart::resident);
        if (is_looked_at_before) {
            EXPECT_EQ(watch.exceeded(), std::nullopt);
        }
        warm.end();
        EXPECT_EQ(watch.exceeded(), std::nullopt) << "a zombie";
        EXPECT_TRUE(watch.processor_time().has_value()) << "a zombie";
        ProcessCounters never_opened(warm.process().pid());
        ProcessCounters fresh(warm.process().pid());
        LimitWatch late(fresh, limits, {image.range()}, CallStart::resident);
        EXPECT_EQ(late.exceeded(), std::nullopt) << "a zombie";
        static_cast<void>(warm.process().wait());
        EXPECT_EQ(watch.exceeded(), std::nullopt) << "reaped";
        EXPECT_EQ(late.exceeded(), std::nullopt) << "reaped";
        EXPECT_EQ(watch.processor_time(), std::nullopt) << "reaped";
        LimitWatch too_late(never_opened, limits, {image.range()}, CallStart::forked);
        EXPECT_EQ(too_late.exceeded(), std::nullopt) << "reaped";
        EXPECT_EQ(too_late.unknown(), std::vector<std::string>{});
        EXPECT_EQ(watch.unknown(), std::vector<std::string>{});
        EXPECT_EQ(late.unknown(), std::vector<std::string>{});
    }
}

TEST(LimitWatchTest, WithoutDescriptorsOnlyProcessorTimeIsWatchedAndTheRestSaidToBeUnknown) {
    const PrivateMapping image(64);
    WorkerHandle warm([&](char) {
        image.write_pages(0, 20);
        take_memory(8 * kMiB);
        spin_for_processor_time(std::chrono::milliseconds{30});
    });
    ProcessCounters counters(warm.process().pid());
    const CallLimits no_time{
        .processor_time = std::chrono::hours{1}, .copied_pages = PageCount{1}, .memory_bytes = kMiB};
    std::optional<LimitWatch> watch;
    {
        const DescriptorLimit none(0);
        watch.emplace(counters, no_time, std::vector{image.range()}, CallStart::forked);
        LimitWatch time(counters, {.processor_time = std::chrono::milliseconds{5}}, {}, CallStart::forked);
        ASSERT_TRUE(warm.run('x'));
        EXPECT_EQ(watch->exceeded(), std::nullopt);
        const std::string start = "/proc/" + std::to_string(warm.process().pid());
        EXPECT_EQ(watch->unknown(),
                  (std::vector<std::string>{"memory: open '" + start + "/status': Too many open files",
                                            "copied pages: open '" + start + "/stat': Too many open files"}));
        EXPECT_TRUE(starts_with(time.exceeded(), "processor time: "));
        EXPECT_TRUE(time.unknown().empty());
    }
    EXPECT_EQ(watch->exceeded(), "copied pages: 20 of at most 1") << "what a fork begins with is known without a look";
    ASSERT_EQ(watch->unknown().size(), 1u) << "what the process had before can no longer be known";
    EXPECT_TRUE(starts_with(watch->unknown().front(), "memory: "));
}

TEST(LimitWatchTest, WithoutADescriptorForThePageScanCopiesAreUnknown) {
    const PrivateMapping image(64);
    WorkerHandle warm([&](char) { image.write_pages(0, 20); });
    ProcessCounters counters(warm.process().pid());
    const DescriptorLimit one(1);
    LimitWatch watch(counters, {.copied_pages = PageCount{1}}, {image.range()}, CallStart::remapped);
    ASSERT_TRUE(watch.unknown().empty());
    ASSERT_TRUE(warm.run('x'));
    EXPECT_EQ(watch.exceeded(), std::nullopt);
    ASSERT_EQ(watch.unknown().size(), 1u);
    EXPECT_NE(watch.unknown().front().find("pagemap': Too many open files"), std::string::npos);
}

TEST(LimitWatchTest, WhatWasUsedInAllIsComparedAtTheEnd) {
    ProcessCounters counters(getpid());
    const LimitWatch watch(counters, {.processor_time = std::chrono::milliseconds{100}, .copied_pages = PageCount{16}},
                           {}, CallStart::resident);
    using Time = std::chrono::microseconds;
    EXPECT_EQ(watch.exceeded_at_end(Time{100'000}, PageCount{16}), std::nullopt);
    EXPECT_EQ(watch.exceeded_at_end(std::nullopt, std::nullopt), std::nullopt);
    EXPECT_EQ(watch.exceeded_at_end(Time{112'000}, PageCount{99}), "processor time: 112 ms of at most 100 ms");
    EXPECT_EQ(watch.exceeded_at_end(Time{100'020}, std::nullopt), "processor time: 100.02 ms of at most 100.00 ms");
    EXPECT_EQ(watch.exceeded_at_end(std::nullopt, PageCount{17}), "copied pages: 17 of at most 16");
    const LimitWatch longer(counters, {.processor_time = std::chrono::milliseconds{12'500}}, {}, CallStart::resident);
    EXPECT_EQ(longer.exceeded_at_end(Time{13'000'000}, PageCount{99}), "processor time: 13.0 s of at most 12.5 s");
    const LimitWatch none(counters, {}, {}, CallStart::resident);
    EXPECT_EQ(none.exceeded_at_end(std::chrono::hours{1}, PageCount{1}), std::nullopt);
}

// ---- OpenFilesLimit

/// Opens descriptors until that fails, and leaves them open. Returns how many there were.
int open_all() {
    int opened = 0;
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) ++opened;
    return errno == EMFILE ? opened : 200;
}

rlim_t soft_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

TEST(OpenFilesLimitTest, ExactlySoManyMoreCanBeOpened) {
    for (const std::uint32_t more : {0u, 1u, 16u, 100u}) {
        EXPECT_EQ(tests::in_child([more] {
                      const OpenFilesLimit limit(more);
                      return limit.in_force() && limit.error() == 0 ? open_all() : 201;
                  }).exit_status,
                  static_cast<int>(more));
    }
}

TEST(OpenFilesLimitTest, HolesAndHighNumbersAreCountedAsTheyAre) {
    EXPECT_EQ(tests::in_child([] {
                  for (const int number : {30, 31, 33, 40, 500, 501}) {
                      if (dup2(STDERR_FILENO, number) == -1) return 202;
                  }
                  if (open("/", O_PATH | O_CLOEXEC) == -1) return 203;  // poll(2) takes such a descriptor for closed
                  const OpenFilesLimit limit(60);
                  return open_all();
              }).exit_status,
              60);
}

TEST(OpenFilesLimitTest, DescriptorsThatTheFunctionClosesMayBeOpenedAgain) {
    EXPECT_EQ(tests::in_child([] {
                  const int held = open("/dev/null", O_RDONLY | O_CLOEXEC);
                  const OpenFilesLimit limit(5);
                  close(held);
                  return open_all();
              }).exit_status,
              6);
}

// dup2(2) and poll(2) obey RLIMIT_NOFILE too, not only the calls that open.
TEST(OpenFilesLimitTest, DescriptorsThatAreOpenCanBeUsedAsBefore) {
    EXPECT_EQ(tests::in_child([] {
                  for (int number = 0; number < 8; ++number) {
                      if (dup2(STDERR_FILENO, number) == -1) return 1;
                  }
                  const OpenFilesLimit limit(0);
                  if (dup2(STDERR_FILENO, 7) == -1) return 2;
                  std::array<pollfd, 3> standard{pollfd{0, 0, 0}, pollfd{1, 0, 0}, pollfd{2, 0, 0}};
                  return poll(standard.data(), standard.size(), 0) == -1 ? 3 : open_all();
              }),
              tests::kChildExitedWell);
}

TEST(OpenFilesLimitTest, EndPutsThePreviousLimitBack) {
    const rlim_t before = soft_limit();
    {
        const OpenFilesLimit limit(8);
        EXPECT_TRUE(limit.in_force());
        EXPECT_LT(soft_limit(), before);
    }
    EXPECT_EQ(soft_limit(), before);
}

TEST(OpenFilesLimitTest, EndKeepsWithinAHardLimitThatTheFunctionHasLowered) {
    EXPECT_EQ(tests::in_child([] {
                  {
                      const OpenFilesLimit limit(8);
                      const rlimit lower{.rlim_cur = 10, .rlim_max = 100};
                      if (setrlimit(RLIMIT_NOFILE, &lower) == -1) return 1;
                  }
                  return soft_limit() == 100 ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

TEST(OpenFilesLimitTest, AStricterLimitOfTheProcessStays) {
    EXPECT_EQ(tests::in_child([] {
                  const rlimit lower{.rlim_cur = 64, .rlim_max = 64};
                  if (setrlimit(RLIMIT_NOFILE, &lower) == -1) return 1;
                  for (const std::uint32_t more : {64u, 1'000'000u}) {
                      const OpenFilesLimit limit(more);
                      if (limit.in_force() || limit.error() != 0 || soft_limit() != 64) return 2;
                  }
                  const OpenFilesLimit nearly(63);  // some of the 64 are open
                  return nearly.in_force() || soft_limit() != 64 ? 3 : 0;
              }),
              tests::kChildExitedWell);
}

TEST(OpenFilesLimitTest, NoLimitDoesNothing) {
    const rlim_t before = soft_limit();
    const OpenFilesLimit limit(std::nullopt);
    EXPECT_FALSE(limit.in_force());
    EXPECT_EQ(soft_limit(), before);
}

TEST(OpenFilesLimitTest, ErrorOfAFunctionThatOpensTooManyIsRecognised) {
    const OpenFilesLimit limit(2);
    std::vector<UniqueFd> files;
    try {
        for (;;) files.push_back(vmcow::sys::open_file("/dev/null", O_RDONLY));
    } catch (const std::system_error& error) {
        EXPECT_TRUE(limit.is_reason_of(error));
        EXPECT_FALSE(OpenFilesLimit(std::nullopt).is_reason_of(error));
    }
    EXPECT_EQ(files.size(), 2u);
    EXPECT_FALSE(limit.is_reason_of(std::system_error(ENFILE, std::generic_category())));
    EXPECT_EQ(OpenFilesLimit::reason(16), "open files: at most 16");
}

}  // namespace
