// Tests the guide that tells a watch in which 2 MiB ranges page faults happened.
#include "vmcow/meter/watch/fault_guide.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "tests/support/support.hpp"
#include "tests/vmcow/meter/watch/watch_actors.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/sys/proc/stat.hpp"

namespace {

using tests::Actors;
using vmcow::kHugeBytes;
using vmcow::kPageBytes;
using vmcow::meter::FaultGuide;
using vmcow::meter::ProcessFamily;
using Deed = Actors::Deed;

constexpr std::size_t kChunkPages = kHugeBytes / kPageBytes;

class FaultGuideTest : public testing::Test {
protected:
    void SetUp() override {
        if (const int error = vmcow::sys::perf_faults_error(); error != 0) {
            GTEST_SKIP() << "no page faults as perf events: " << std::strerror(error);
        }
        actors_.fork(0, 1);
        for (int i = 0; i < 10 && !faulted_chunks(); ++i) {
        }
        ASSERT_TRUE(faulted_chunks());
    }
    std::optional<std::set<std::uint64_t>> faulted_chunks() {
        std::map<pid_t, std::uint64_t> faults;
        for (const std::size_t actor : {0U, 1U}) {
            faults[actors_.pid(actor)] = vmcow::sys::read_process_stat(actors_.pid(actor))->page_faults;
        }
        return guide_.faulted_chunks(faults);
    }
    [[nodiscard]] std::uint64_t chunk(std::size_t number) const { return actors_.start() / kHugeBytes + number; }

    Actors actors_{16 * kChunkPages, Actors::Memory::small_pages};
    FaultGuide guide_;
};

TEST_F(FaultGuideTest, WritesOfParentAndChildAreWhereTheyWere) {
    actors_.write(0, 3, 1);
    actors_.write(1, 2 * kChunkPages + 7, 2);
    const auto chunks = faulted_chunks();
    ASSERT_TRUE(chunks);
    EXPECT_TRUE(chunks->contains(chunk(0)));
    EXPECT_FALSE(chunks->contains(chunk(1)));
    EXPECT_TRUE(chunks->contains(chunk(2)));
    EXPECT_FALSE(chunks->contains(chunk(3)));
    actors_.write(1, 2 * kChunkPages + 7, 2);  // already copied, so no fault
    const auto nothing = faulted_chunks();
    ASSERT_TRUE(nothing);
    EXPECT_FALSE(nothing->contains(chunk(2)));
}

/// Reporting each fault would slow down a process that faults all the time, so the guide pauses and starts again later.
TEST_F(FaultGuideTest, ManyFaultsPauseIt) {
    actors_.write(1, 0, 16 * kChunkPages);
    actors_.write(0, 0, 16 * kChunkPages);
    EXPECT_TRUE(faulted_chunks());  // these faults are still reported
    actors_.tell(1, {Deed::drop, 0, 16 * kChunkPages, 1, 0, 0});
    actors_.write(1, 0, 16 * kChunkPages);
    EXPECT_FALSE(faulted_chunks());
    bool again = false;
    for (int i = 0; i < 600 && !again; ++i) {
        ::usleep(100'000);
        again = faulted_chunks().has_value();
    }
    EXPECT_TRUE(again);
    actors_.tell(1, {Deed::drop, 0, 1, 1, 0, 0});
    actors_.write(1, 0, 1);
    const auto chunks = faulted_chunks();
    ASSERT_TRUE(chunks);
    EXPECT_TRUE(chunks->contains(chunk(0)));
}

TEST(FaultGuideRefusalTest, DescriptorsAreLeftToOthers) {
    if (vmcow::sys::perf_faults_error() != 0) GTEST_SKIP() << "no page faults as perf events";
    Actors actors(4, Actors::Memory::small_pages);
    actors.fork(0, 1);
    actors.fork(0, 2);
    FaultGuide guide;
    std::map<pid_t, std::uint64_t> faults;
    for (const std::size_t actor : {0U, 1U, 2U}) faults[actors.pid(actor)] = 0;
    const tests::ScopedLimit limit(RLIMIT_NOFILE, 8);  // perf events may take a quarter of them
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(guide.faulted_chunks(faults));
    EXPECT_EQ(guide.error(), EMFILE);
}

int refuse(perf_event_attr*, pid_t, int, int, unsigned long) {
    errno = EACCES;
    return -1;
}

TEST(FaultGuideRefusalTest, RefusedEventsAreToldAndLooksAreWhole) {
    Actors actors(64, Actors::Memory::small_pages);
    ProcessFamily family({.tree = true, .follow_faults = true, .perf_open = refuse});
    family.add(actors.pid(0));
    (void)family.look();
    actors.fork(0, 1);
    for (int i = 0; i < 6; ++i) {
        actors.write(1, 0, 8 * (static_cast<std::size_t>(i) + 1));
        (void)family.look();
    }
    EXPECT_EQ(family.cost().guided_scans, 0U);
    const auto notes = family.notes();
    EXPECT_TRUE(std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
        return note.find("the kernel does not tell where page faults are: Permission denied") != std::string::npos;
    }));
}

}  // namespace
