// Tests which functions a fault sampler blames for copied pages, against a program whose writes are known.
#include "vmcow/meter/stacks/fault_sampler.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "tests/support/support.hpp"
#include "tests/vmcow/meter/stacks/copying_program.hpp"
#include "vmcow/meter/stacks/copy_stacks.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using meter::FaultSampler;
using meter::FaultVerdict;
using tests::CopyingProgram;

constexpr std::size_t kPages = 1024;

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
}

/// A judge that takes exactly the faults of `writer` in the program's memory as copies.
class Known : public meter::CopyJudge {
public:
    Known(const CopyingProgram& program, pid_t writer) : program_(program), writer_(writer) {}

    FaultVerdict verdict(pid_t pid, std::uint64_t page) const override {
        if (not_looked_at.contains(pid)) return FaultVerdict::not_settled;
        return pid == writer_ && in_memory(page) ? FaultVerdict::copied : FaultVerdict::not_copied;
    }
    bool has_private_page(pid_t pid, std::uint64_t page) const override {
        return !not_looked_at.contains(pid) && in_memory(page);
    }

    std::set<pid_t> not_looked_at;

private:
    bool in_memory(std::uint64_t page) const {
        return page >= program_.first_page() && page < program_.first_page() + program_.pages();
    }

    const CopyingProgram& program_;
    pid_t writer_;
};

FaultSampler::Options every_fault() {
    FaultSampler::Options options;
    options.events.period = 1;
    return options;
}

std::map<std::string, std::uint64_t> pages_by_function(FaultSampler& sampler) {
    std::map<std::string, std::uint64_t> pages;
    for (const auto& function : meter::copies_by_function(sampler.copies(), sampler.symbols())) {
        pages[function.name.function] += function.copied_pages;
    }
    return pages;
}

class FaultSamplerTest : public testing::Test {
protected:
    void SetUp() override {
        if (const int error = sys::perf_faults_error(); error != 0) {
            GTEST_SKIP() << "no page faults as perf events: " << std::strerror(error);
        }
    }

    /// Runs the program until it has written, and settles its faults.
    static void run(CopyingProgram& program, FaultSampler& sampler, bool parent_writes = false) {
        ASSERT_EQ(sampler.follow(program.pid()), 0);
        program.fork();
        program.write();
        sampler.drain();
        sampler.settle(Known(program, parent_writes ? program.pid() : program.child()), now_ns());
    }

    /// Runs the program to its end, and settles its faults as if no look had seen the pages of its child.
    static void run_unseen_child(CopyingProgram& program, FaultSampler& sampler) {
        ASSERT_EQ(sampler.follow(program.pid()), 0);
        program.fork();
        program.write();
        Known judge(program, -1);
        judge.not_looked_at.insert(program.child());
        program.leave();
        sampler.drain();
        sampler.settle(judge, now_ns());
    }
};

/// At least 99 % of the known copies must be attributed to the function that made them.
TEST_F(FaultSamplerTest, CopiesAreAttributedToTheFunctionsThatWrote) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    auto pages = pages_by_function(sampler);
    const std::map<std::string, std::uint64_t> expected{
        {"write_first(char*, unsigned long)", kPages / 2},
        {"write_second(char*, unsigned long)", kPages / 4},
        {"inlined_write(char*, unsigned long)", kPages / 4},
    };
    std::uint64_t right = 0;
    for (const auto& [function, count] : expected) {
        EXPECT_LE(pages[function], count);
        right += pages[function];
    }
    EXPECT_GE(right, kPages * 99 / 100);
    EXPECT_EQ(sampler.counts().copied, right);
    EXPECT_EQ(sampler.counts().lost_records, 0U);
}

TEST_F(FaultSamplerTest, LinesAreThoseOfTheWrites) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    const auto functions = meter::copies_by_function(sampler.copies(), sampler.symbols());
    ASSERT_FALSE(functions.empty());
    EXPECT_EQ(functions.front().name.function, "write_first(char*, unsigned long)");
    EXPECT_EQ(functions.front().name.object, COPYING_FUNCTIONS);
    ASSERT_TRUE(functions.front().name.file && functions.front().name.line);
    EXPECT_TRUE(functions.front().name.file->ends_with("copying_functions.cpp"));
    EXPECT_NEAR(functions.front().share, 0.5, 0.01);
}

TEST_F(FaultSamplerTest, StacksNameTheCallersAndWhatWasInlined) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    const std::string folded = meter::folded_stacks(sampler.copies(), sampler.symbols(), "prog");
    EXPECT_NE(folded.find(";main;write_all(char*, unsigned long);write_first(char*, unsigned long) 512\n"),
              std::string::npos)
        << folded;
    EXPECT_NE(folded.find(";write_all(char*, unsigned long);call_inlined(char*, unsigned long);"
                          "inlined_write(char*, unsigned long) 256\n"),
              std::string::npos)
        << folded;
    EXPECT_TRUE(folded.starts_with("prog;"));
}

TEST_F(FaultSamplerTest, StrippedProgramIsNamedByOffsets) {
    CopyingProgram program(STRIPPED_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    std::uint64_t pages = 0;
    for (const auto& function : meter::copies_by_function(sampler.copies(), sampler.symbols())) {
        EXPECT_TRUE(function.name.function.starts_with("stripped_functions+0x")) << function.name.function;
        EXPECT_FALSE(function.name.line);
        EXPECT_EQ(function.name.object, STRIPPED_FUNCTIONS);
        pages += function.copied_pages;
    }
    EXPECT_GE(pages, kPages * 99 / 100);
}

#if defined(__x86_64__)
TEST_F(FaultSamplerTest, GeneratedCodeIsNamedByItsPerfMap) {
    CopyingProgram program(COPYING_FUNCTIONS, "generated", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    EXPECT_GE(pages_by_function(sampler)["generated_write"], kPages * 99 / 100);
    program.leave();  // removes its perf map
}

TEST_F(FaultSamplerTest, GeneratedCodeWithoutMapIsUnknown) {
    CopyingProgram program(COPYING_FUNCTIONS, "unnamed", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    EXPECT_GE(pages_by_function(sampler)["unknown"], kPages * 99 / 100);
}
#endif

TEST_F(FaultSamplerTest, CopiesOfTheParentAreItsOwn) {
    CopyingProgram program(COPYING_FUNCTIONS, "parent", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler, true);
    EXPECT_GE(pages_by_function(sampler)["write_first(char*, unsigned long)"], kPages * 99 / 100);
}

TEST_F(FaultSamplerTest, AllocatedPagesAreNoCopies) {
    CopyingProgram program(COPYING_FUNCTIONS, "new", kPages);
    FaultSampler sampler(every_fault());
    ASSERT_EQ(sampler.follow(program.pid()), 0);
    program.fork();
    program.write();
    sampler.drain();
    sampler.settle(Known(program, -1), now_ns());
    EXPECT_EQ(sampler.counts().copied, 0U);
    EXPECT_TRUE(sampler.copies().empty());
    EXPECT_GE(sampler.counts().not_copied, kPages);
}

TEST_F(FaultSamplerTest, NamesAreKnownWhenTheProgramIsGone) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run(program, sampler);
    program.leave();
    EXPECT_GE(pages_by_function(sampler)["write_first(char*, unsigned long)"], kPages / 2 * 99 / 100);
}

/// A child that lived between two looks must not be lost: its faults in pages shared with the parent can only be
/// copies.
TEST_F(FaultSamplerTest, CopiesOfAChildThatNobodyLookedAtAreInferred) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler sampler(every_fault());
    run_unseen_child(program, sampler);
    EXPECT_GE(sampler.counts().inferred, kPages * 99 / 100);
    EXPECT_LE(sampler.counts().inferred, kPages);
    EXPECT_GE(pages_by_function(sampler)["write_first(char*, unsigned long)"], kPages / 2 * 99 / 100);
    EXPECT_FALSE(meter::notes_on(sampler.counts()).empty());
}

TEST_F(FaultSamplerTest, CopiesBesideAChildThatNobodyLookedAtAreInferred) {
    CopyingProgram program(COPYING_FUNCTIONS, "parent", kPages);
    FaultSampler sampler(every_fault());
    run_unseen_child(program, sampler);
    EXPECT_GE(sampler.counts().inferred, kPages * 99 / 100);
}

TEST_F(FaultSamplerTest, FaultsOfChildrenAreLeftOutWhereTheyAreNotWanted) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler::Options options = every_fault();
    options.with_children = false;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_EQ(sampler.counts().copied, 0U);
}

TEST_F(FaultSamplerTest, SampledFaultsStandForAll) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", 8 * kPages);
    FaultSampler::Options options;
    options.events.period = 16;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_NEAR(static_cast<double>(sampler.counts().copied), 8.0 * kPages, 0.01 * 8 * kPages);
}

/// When the kernel chooses which faults to sample, their weights must add up to about the number of copies.
TEST_F(FaultSamplerTest, WeightsOfTheKernelsChoiceAddUp) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", 32 * kPages);
    FaultSampler::Options options;
    options.events.period = 0;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_NEAR(static_cast<double>(sampler.counts().copied), 32.0 * kPages, 0.15 * 32 * kPages);
}

TEST_F(FaultSamplerTest, WhatFindsNoRoomIsCounted) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler::Options options = every_fault();
    options.most_pending = 100;
    options.most_chains = 1;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_GE(sampler.counts().dropped, kPages - 100);
    const auto& counts = sampler.counts();
    EXPECT_EQ(counts.seen, counts.copied + counts.not_copied + counts.unsettled + counts.dropped);
}

TEST_F(FaultSamplerTest, TooManyChainsLeaveTheInnermostPlace) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler::Options options = every_fault();
    options.most_chains = 1;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_GE(sampler.counts().shortened, kPages / 2);
    EXPECT_GE(sampler.counts().copied, kPages * 99 / 100);
    EXPECT_LE(sampler.copies().size(), 3U);
}

/// Makes a process and the children that it forks run on one processor.
void keep_on_one_processor(pid_t pid) {
    cpu_set_t usable;
    ASSERT_EQ(::sched_getaffinity(pid, sizeof(usable), &usable), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t i = 0; CPU_COUNT(&one) == 0; ++i) {
        if (CPU_ISSET(i, &usable)) CPU_SET(i, &one);
    }
    ASSERT_EQ(::sched_setaffinity(pid, sizeof(one), &one), 0);
}

TEST_F(FaultSamplerTest, RingThatOverflowsIsReported) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", 16 * kPages);
    // Each processor has its own ring, and a ring reports lost records only with a later record.
    keep_on_one_processor(program.pid());
    FaultSampler::Options options = every_fault();
    options.events.ring_bytes = std::size_t{64} << 10;
    FaultSampler sampler(options);
    run(program, sampler);
    // The kernel reports lost records with the next fault that finds room: here one at the end of the program.
    program.leave();
    sampler.drain();
    EXPECT_GT(sampler.counts().lost_records, 0U);
    EXPECT_LT(sampler.counts().copied, 16 * kPages);
}

int refused(perf_event_attr*, pid_t, int, int, unsigned long) {
    errno = EACCES;
    return -1;
}

int without_kernel(perf_event_attr* attributes, pid_t thread, int cpu, int group, unsigned long flags) {
    if (attributes->exclude_kernel == 0) return refused(attributes, thread, cpu, group, flags);
    return sys::perf_event_open(attributes, thread, cpu, group, flags);
}

TEST_F(FaultSamplerTest, SystemCallsAreLeftOutWhereTheKernelRefusesThem) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", kPages);
    FaultSampler::Options options = every_fault();
    options.events.open = without_kernel;
    FaultSampler sampler(options);
    run(program, sampler);
    EXPECT_TRUE(sampler.leaves_out_system_calls());
    EXPECT_GE(sampler.counts().copied, kPages * 99 / 100);
}

TEST_F(FaultSamplerTest, DescriptorsThatRunOutAreAnErrorThatLeavesNothing) {
    CopyingProgram program(COPYING_FUNCTIONS, "functions", 8);
    FaultSampler sampler(every_fault());
    const int lowest = ::dup(STDERR_FILENO);
    ::close(lowest);
    {
        // The one descriptor left is for listing the program's threads.
        const tests::ScopedLimit limit(RLIMIT_NOFILE, static_cast<rlim_t>(lowest) + 1);
        EXPECT_EQ(sampler.follow(program.pid()), EMFILE);
    }
    EXPECT_EQ(sampler.follow(program.pid()), 0);
}

TEST(FaultSamplerRefusalTest, RefusedEventsAreAnErrno) {
    FaultSampler::Options options;
    options.events.open = refused;
    FaultSampler sampler(options);
    EXPECT_EQ(sampler.follow(::getpid()), EACCES);
    sampler.drain();
    EXPECT_TRUE(sampler.descriptors().empty());
    EXPECT_EQ(sampler.counts().seen, 0U);
}

TEST(FaultSamplerRefusalTest, ProcessThatIsGoneIsNoSuchProcess) {
    FaultSampler sampler(every_fault());
    EXPECT_EQ(sampler.follow(0x3fffffff), ESRCH);
}

}  // namespace
