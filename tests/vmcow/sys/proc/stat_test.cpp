// Tests reading /proc/PID/stat and statm, and whether two processes share memory.
#include "vmcow/sys/proc/stat.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow::sys;
using tests::error_of;
using tests::IdleChild;
using tests::in_child;
using tests::kChildExitedWell;
using tests::reaped_process;
using vmcow::kPageBytes;

/// A line in the kernel's format. Each field is 100 times its position, except the flags, which are `flags`.
std::string line_of(const std::string& command, char state, unsigned flags = 0) {
    std::string line = "42 (" + command + ") " + state;
    for (int position = 4; position <= 52; ++position) {
        line += " " + std::to_string(position == 9 ? flags : static_cast<unsigned>(position) * 100);
    }
    return line + "\n";
}

// ---- the line

TEST(ProcessStatTest, FieldsAreFoundByTheirPositions) {
    const auto stat = parse_process_stat(line_of("cat", 'S'));
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->pid, 42);
    EXPECT_EQ(stat->command, "cat");
    EXPECT_EQ(stat->state, 'S');
    EXPECT_EQ(stat->parent, 400);
    EXPECT_EQ(stat->page_faults, 1000U + 1200U);
    EXPECT_EQ(stat->children_page_faults, 1100U + 1300U);
    EXPECT_EQ(stat->threads, 2000U);
    EXPECT_EQ(stat->start_ticks, 2200U);
    EXPECT_EQ(stat->placement, (std::array<std::uint64_t, 6>{2600, 2700, 2800, 4500, 4600, 4700}));
    EXPECT_FALSE(stat->kernel_thread || stat->exiting);
}

TEST(ProcessStatTest, FlagsTellKernelThreadsAndThoseOnTheirWayOut) {
    EXPECT_TRUE(parse_process_stat(line_of("kthreadd", 'S', 0x00208040)).value().kernel_thread);
    EXPECT_FALSE(parse_process_stat(line_of("kthreadd", 'S', 0x00208040)).value().exiting);
    EXPECT_TRUE(parse_process_stat(line_of("cat", 'Z', 0x0040840c)).value().exiting);
    EXPECT_FALSE(parse_process_stat(line_of("cat", 'Z', 0x0040840c)).value().kernel_thread);
}

TEST(ProcessStatTest, NameMayHoldAnything) {
    for (const char* const name : {"", " ", ")", "(", ") R 7", "a (b) c)", "line\nfeed", "0 0 0 0"}) {
        const auto stat = parse_process_stat(line_of(name, 'T'));
        ASSERT_TRUE(stat.has_value()) << name;
        EXPECT_EQ(stat->command, name);
        EXPECT_EQ(stat->state, 'T') << name;
        EXPECT_EQ(stat->parent, 400) << name;
    }
}

TEST(ProcessStatTest, WhatIsMissingIsZero) {
    const auto stat = parse_process_stat("7 (a) R 3");
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->parent, 3);
    EXPECT_EQ(stat->page_faults, 0U);
    EXPECT_EQ(stat->threads, 0U);
    EXPECT_EQ(parse_process_stat("7 (a) ").value().state, '?');
}

TEST(ProcessStatTest, AnotherTextIsNothing) {
    for (const char* const text : {"", "7", "7 (a", "7 a) R 3", ") (", "7 (a)R"}) {
        EXPECT_FALSE(parse_process_stat(text).has_value()) << text;
    }
}

// ---- processes

TEST(ProcessStatTest, ThisProcessIsAsItKnowsItself) {
    const auto stat = read_process_stat(::getpid());
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->pid, ::getpid());
    EXPECT_EQ(stat->parent, ::getppid());
    EXPECT_EQ(stat->state, 'R');
    EXPECT_GE(stat->threads, 1U);
    EXPECT_GT(stat->start_ticks, 0U);
    EXPECT_FALSE(stat->exiting || stat->kernel_thread);
    EXPECT_EQ(read_stat_in("/proc/self").value().start_ticks, stat->start_ticks);
}

TEST(ProcessStatTest, ForkedChildIsPlacedAsItsParent) {
    const IdleChild child;
    const auto stat = read_process_stat(child.pid());
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->parent, ::getpid());
    EXPECT_EQ(stat->placement, read_process_stat(::getpid()).value().placement);
}

TEST(ProcessStatTest, FaultsOfChildrenCountOnceTheyHaveBeenReaped) {
    constexpr std::size_t kPages = 300;
    void* const memory =
        ::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    static_cast<void>(::madvise(memory, kPages * kPageBytes, MADV_NOHUGEPAGE));
    auto* const at = static_cast<volatile std::byte*>(memory);
    const auto touch = [&] {
        for (std::size_t page = 0; page < kPages; ++page) at[page * kPageBytes] = std::byte{1};
        return 0;
    };
    const auto before = read_process_stat(::getpid()).value();
    EXPECT_EQ(in_child(touch), kChildExitedWell);
    const auto between = read_process_stat(::getpid()).value();
    EXPECT_GE(between.children_page_faults - before.children_page_faults, kPages);
    touch();
    EXPECT_GE(read_process_stat(::getpid()).value().page_faults - between.page_faults, kPages);
    ::munmap(memory, kPages * kPageBytes);
}

TEST(ProcessStatTest, ZombieIsThereUntilItIsReaped) {
    IdleChild child;
    child.kill();
    const auto stat = read_process_stat(child.pid());
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->state, 'Z');
    EXPECT_TRUE(stat->exiting);
    EXPECT_LE(stat->threads, 1U);
    const pid_t gone = child.reap();
    EXPECT_FALSE(read_process_stat(gone).has_value());
    EXPECT_FALSE(try_read_process_stat(gone).has_value());
    EXPECT_FALSE(read_process_stat(-1).has_value());
}

TEST(ProcessStatTest, ThreadHasANumberAndANameOfItsOwn) {
    std::optional<ProcessStat> stat;
    pid_t thread = 0;
    std::thread([&] {
        name_thread("of the test");
        thread = ::gettid();
        stat = read_stat_in("/proc/self/task/" + std::to_string(thread));
    }).join();
    ASSERT_TRUE(stat.has_value());
    EXPECT_EQ(stat->pid, thread);
    EXPECT_EQ(stat->command, "of the test");
    EXPECT_EQ(stat->parent, ::getppid());
    EXPECT_GE(stat->threads, 2U);
}

TEST(ProcessStatTest, NoDescriptorLeftIsEmfileOrNothing) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { static_cast<void>(read_process_stat(::getpid())); }), EMFILE);
    EXPECT_FALSE(try_read_process_stat(::getpid()).has_value());
    EXPECT_FALSE(try_read_stat_in("/proc/self").has_value());
}

// ---- memory

TEST(ProcessMemoryCountsTest, TouchedPagesAreResident) {
    constexpr std::size_t kPages = 2000;
    void* const memory =
        ::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    const ProcessMemoryCounts before = read_process_memory_counts(::getpid());
    auto* const at = static_cast<volatile std::byte*>(memory);
    for (std::size_t page = 0; page < kPages; ++page) at[page * kPageBytes] = std::byte{1};
    const ProcessMemoryCounts after = read_process_memory_counts(::getpid());
    // The kernel's counts lag: those of a processor since its last batch are missing.
    EXPECT_GE(after.resident_of_files, before.resident_of_files + kPages / 2);
    EXPECT_GE(after.mapped, after.resident);
    ::munmap(memory, kPages * kPageBytes);
}

TEST(ProcessMemoryCountsTest, ProcessWithoutMemoryHasZeros) {
    IdleChild child;
    EXPECT_GT(read_process_memory_counts(child.pid()).resident, 0U);
    child.kill();
    EXPECT_EQ(read_process_memory_counts(child.pid()), ProcessMemoryCounts{});
    EXPECT_EQ(try_read_process_memory_counts(child.pid()), ProcessMemoryCounts{});
    const pid_t gone = child.reap();
    EXPECT_EQ(read_process_memory_counts(gone), ProcessMemoryCounts{});
    EXPECT_EQ(try_read_process_memory_counts(gone), std::nullopt);
}

TEST(ProcessMemoryCountsTest, NoDescriptorLeftIsEmfileOrNothing) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { static_cast<void>(read_process_memory_counts(::getpid())); }), EMFILE);
    EXPECT_EQ(try_read_process_memory_counts(::getpid()), std::nullopt);
}

TEST(ShareMemoryTest, ForkedChildHasMemoryOfItsOwn) {
    const auto own = share_memory(::getpid(), ::getpid());
    if (!own) GTEST_SKIP() << "the kernel does not compare processes (CONFIG_KCMP, ptrace(2) rights)";
    EXPECT_TRUE(*own);
    const IdleChild child;
    EXPECT_EQ(share_memory(::getpid(), child.pid()), false);
    EXPECT_EQ(share_memory(::getpid(), reaped_process()), std::nullopt);
}

}  // namespace
