// Tests the probes of kernel facilities: what they report here, under limits and refusals, and that they leave nothing
// behind.
#include "vmcow/facilities.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace {

using vmcow::Facility;
using vmcow::FacilityState;

std::map<std::string, Facility> by_name(const std::vector<Facility>& facilities) {
    std::map<std::string, Facility> named;
    for (const Facility& facility : facilities) named.emplace(facility.name, facility);
    return named;
}

TEST(FacilitiesTest, WhatIsRequiredIsPresentHere) {
    const std::vector<Facility> required = vmcow::probe_required();
    EXPECT_EQ(required.size(), 5);
    for (const Facility& facility : required) {
        EXPECT_TRUE(facility.required) << facility.name;
        EXPECT_EQ(facility.state, FacilityState::present) << facility.name << ": " << facility.detail;
    }
}

TEST(FacilitiesTest, NamesAreDifferentAndTextsComplete) {
    const std::vector<Facility> all = vmcow::probe_all();
    EXPECT_EQ(by_name(all).size(), all.size());
    for (const Facility& facility : all) {
        EXPECT_FALSE(facility.detail.empty()) << facility.name;
        EXPECT_FALSE(facility.used_for.empty()) << facility.name;
        EXPECT_FALSE(facility.without.empty()) << facility.name;
        EXPECT_FALSE(facility.enable.empty()) << facility.name;
    }
}

TEST(FacilitiesTest, OutOfDescriptorsIsUnknownAndNeverAbsent) {
    const auto before = by_name(vmcow::probe_all());
    std::vector<Facility> starved;
    {
        const DescriptorLimit limit(0);
        starved = vmcow::probe_all();
    }
    for (const Facility& facility : starved) {
        if (facility.name == "RLIMIT_NOFILE") continue;  // reports the limit itself
        const Facility& known = before.at(facility.name);
        EXPECT_TRUE(facility.state == FacilityState::unknown || facility.state == known.state)
            << facility.name << ": " << facility.detail;
    }
    for (const char* name : {"memfd seals", "pidfd", "clone3", "close_range", "pagemap bit 61", "pipe buffers"}) {
        const Facility facility = by_name(starved).at(name);
        EXPECT_EQ(facility.state, FacilityState::unknown) << name;
        EXPECT_NE(facility.detail.find("Too many open files"), std::string::npos) << facility.detail;
    }
}

// A facility that the kernel lacks or refuses is absent; a probe that failed for another reason leaves it unknown (I8).
TEST(FacilitiesTest, ARefusedCallIsAbsentAndAFailedOneIsUnknown) {
    struct Case {
        int call;
        Facility (*probe)();
        int refusal;
    };
    constexpr int kNoFilter = 124;
    for (const Case& each :
         {Case{SYS_memfd_create, vmcow::probe_memfd_seals, ENOSYS}, Case{SYS_pidfd_open, vmcow::probe_pidfd, ENOSYS},
          Case{SYS_clone3, vmcow::probe_clone3, ENOSYS}, Case{SYS_close_range, vmcow::probe_close_range, EINVAL},
          Case{SYS_madvise, vmcow::probe_huge_images, EINVAL}, Case{SYS_ioctl, vmcow::probe_page_scan, ENOTTY},
          Case{SYS_userfaultfd, vmcow::probe_written_pages, EPERM},
          Case{SYS_io_uring_setup, vmcow::probe_io_uring, EPERM},
          Case{SYS_perf_event_open, vmcow::probe_perf_events, EACCES},
          Case{SYS_process_vm_readv, vmcow::probe_process_vm_readv, EPERM}}) {
        const auto state_with = [&](int error) {
            return tests::in_child([&] {
                       if (!tests::forbid_call(each.call, error)) return kNoFilter;
                       return static_cast<int>(each.probe().state);
                   })
                .exit_status;
        };
        const int refused = state_with(each.refusal);
        if (refused == kNoFilter) GTEST_SKIP() << "seccomp filters are missing";
        EXPECT_EQ(refused, static_cast<int>(FacilityState::absent)) << each.probe().name;
        EXPECT_EQ(state_with(EIO), static_cast<int>(FacilityState::unknown)) << each.probe().name;
    }
}

TEST(FacilitiesTest, NoHugePageToBeHadIsALimit) {
    const auto end = tests::in_child([] {
        if (!tests::forbid_call(SYS_madvise, ENOMEM)) return 124;
        return static_cast<int>(vmcow::probe_huge_images().state);
    });
    if (end.exit_status == 124) GTEST_SKIP() << "seccomp filters are missing";
    EXPECT_EQ(end.exit_status, static_cast<int>(FacilityState::limited));
}

TEST(FacilitiesTest, ProbesThatFailHalfwayLeaveNothingOpen) {
    for (std::size_t free = 0; free < 4; ++free) {
        const std::size_t before = tests::descriptors();
        {
            const DescriptorLimit limit(free);
            (void)vmcow::probe_all();
        }
        EXPECT_EQ(tests::descriptors(), before) << free << " descriptors free";
        EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1) << free << " descriptors free";
    }
}

TEST(FacilitiesTest, ProbesLeaveNoDescriptorChildOrImageBehind) {
    const std::size_t before = tests::descriptors();
    (void)vmcow::probe_all();
    EXPECT_EQ(tests::descriptors(), before);
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
    EXPECT_EQ(errno, ECHILD);
    EXPECT_EQ(vmcow::sys::read_text_file("/proc/self/maps").find("memfd:vmcow:probe"), std::string::npos);
}

volatile std::sig_atomic_t child_signals = 0;

// A program that reaps its children in a SIGCHLD handler must not reap the child of a probe.
TEST(FacilitiesTest, TheProbesChildSendsNoSigchld) {
    struct sigaction counting {};
    struct sigaction previous {};
    counting.sa_handler = [](int) { child_signals = child_signals + 1; };
    ASSERT_EQ(sigaction(SIGCHLD, &counting, &previous), 0);
    const Facility clone3 = vmcow::probe_clone3();
    ASSERT_EQ(sigaction(SIGCHLD, &previous, nullptr), 0);
    EXPECT_EQ(clone3.state, FacilityState::present) << clone3.detail;
    EXPECT_EQ(child_signals, 0);
}

TEST(FacilitiesTest, PageScanIsPresentWhereTheScannerChoosesIt) {
    const bool chosen = vmcow::sys::best_page_scan() == vmcow::sys::PageScanMethod::pagemap_scan;
    EXPECT_EQ(vmcow::probe_page_scan().state == FacilityState::present, chosen);
}

TEST(FacilitiesTest, SettingsAreThoseInProc) {
    const std::string maps = vmcow::sys::read_text_file("/proc/sys/vm/max_map_count");
    EXPECT_TRUE(vmcow::probe_map_count().detail.starts_with(maps.substr(0, maps.find('\n')) + " "));
    const std::string overcommit = vmcow::sys::read_text_file("/proc/sys/vm/overcommit_memory");
    const Facility facility = vmcow::probe_overcommit();
    EXPECT_EQ(facility.detail.front(), overcommit.front());
    EXPECT_EQ(facility.state == FacilityState::limited, overcommit.front() == '2');
}

TEST(FacilitiesTest, AFewDescriptorsAreALimitWithTheCommandThatRaisesIt) {
    rlimit previous{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &previous), 0);
    const tests::ScopedLimit limit(RLIMIT_NOFILE, 200);
    const Facility facility = vmcow::probe_descriptor_limit();
    EXPECT_EQ(facility.state, FacilityState::limited);
    EXPECT_NE(facility.detail.find("at most 200 "), std::string::npos) << facility.detail;
    const std::string most = previous.rlim_max == RLIM_INFINITY ? "unlimited" : std::to_string(previous.rlim_max);
    EXPECT_EQ(facility.enable, "ulimit -n " + most);
}

TEST(FacilitiesTest, ALimitedAddressSpaceIsSaid) {
    // 2^50 bytes: more than a sanitizer reserves, and more than the 47 address bits of any processor can use.
    const tests::ScopedLimit limit(RLIMIT_AS, rlim_t{1} << 50);
    const Facility facility = vmcow::probe_address_space_limit();
    EXPECT_EQ(facility.state, FacilityState::limited);
    EXPECT_NE(facility.detail.find("1125899906842624"), std::string::npos) << facility.detail;
}

TEST(FacilitiesTest, TheHostIsTheOneThatUnameTells) {
    const std::string release = vmcow::sys::read_text_file("/proc/sys/kernel/osrelease");
    const vmcow::Host host = vmcow::describe_host();
    EXPECT_EQ(host.kernel_release + "\n", release);
    EXPECT_EQ(host.user_id, geteuid());
    EXPECT_TRUE(host.capabilities.has_value());
}

TEST(FacilitiesTest, StatesHaveNamesOfTheirOwn) {
    EXPECT_STREQ(name_of(FacilityState::present), "present");
    EXPECT_STREQ(name_of(FacilityState::limited), "limited");
    EXPECT_STREQ(name_of(FacilityState::absent), "absent");
    EXPECT_STREQ(name_of(FacilityState::unknown), "unknown");
}

}  // namespace
