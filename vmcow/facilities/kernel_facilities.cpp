#include "vmcow/facilities.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "vmcow/facilities/look_for.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/sys/process/size_signal.hpp"
#include "vmcow/sys/written_pages.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

using sys::throw_errno;
using sys::UniqueFd;

/// A range of scratch address space. The destructor gives it back.
class ScratchRange {
public:
    explicit ScratchRange(std::size_t bytes) : start_(sys::reserve(bytes)), bytes_(bytes) {
        if (start_ == nullptr) throw_errno("reserve " + std::to_string(bytes) + " bytes of address space");
    }
    ScratchRange(const ScratchRange&) = delete;
    ScratchRange& operator=(const ScratchRange&) = delete;
    ~ScratchRange() { (void)sys::unmap(start_, bytes_); }

    /// Makes the range anonymous memory.
    void allow_writing() {
        if (::mprotect(start_, bytes_, PROT_READ | PROT_WRITE) != 0) throw_errno("mprotect scratch memory");
    }
    [[nodiscard]] std::byte* start() const noexcept { return start_; }
    [[nodiscard]] std::uintptr_t address() const noexcept { return reinterpret_cast<std::uintptr_t>(start_); }
    /// Writes the first byte, which takes a page fault when there is no page yet.
    void touch() noexcept { *const_cast<volatile std::byte*>(start_) = std::byte{1}; }

private:
    std::byte* start_;
    std::size_t bytes_;
};

Sighting find_written_page(sys::PageScanMethod method) {
    ScratchRange range(2 * kPageBytes);
    range.allow_writing();
    range.touch();
    std::vector<PageRun> runs;
    sys::PageScanner(method).private_pages(range.address(), 2 * kPageBytes, runs);
    if (runs == std::vector<PageRun>{{PageIndex{0}, PageCount{1}}}) {
        return {FacilityState::present, "found the one written page of two"};
    }
    return {FacilityState::limited, "found " + std::to_string(sys::total_pages(runs).value) + " written pages, not 1"};
}

Sighting find_page_written_again() {
    if (const int error = sys::WrittenPages::error(); error != 0) sys::throw_error(error, "open userfaultfd");
    ScratchRange range(2 * kPageBytes);
    range.allow_writing();
    range.touch();
    const auto written = sys::WrittenPages::watch(range.address(), 2 * kPageBytes);
    if (!written) throw_errno("watch two pages");
    std::vector<PageRun> runs;
    written->take(runs);
    range.touch();
    runs.clear();
    written->take(runs);
    if (runs == std::vector<PageRun>{{PageIndex{0}, PageCount{1}}}) {
        return {FacilityState::present, "found the page that was written again"};
    }
    return {FacilityState::limited, "found " + std::to_string(sys::total_pages(runs).value) + " written pages, not 1"};
}

/// Forks a child that shares only its exit with this process. No signal tells of its end, so a SIGCHLD handler of the
/// program does not see it.
Sighting fork_and_reap() {
    int pidfd = -1;
    clone_args arguments{};
    arguments.flags = CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
    const long pid = ::syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0) ::_exit(0);
    if (pid < 0) throw_errno("clone3");
    const UniqueFd child(pidfd);
    siginfo_t end{};
    const auto wait_by_pidfd = [&] {
        return ::waitid(P_PIDFD, static_cast<id_t>(child.get()), &end, WEXITED | __WALL);
    };
    if (sys::retry_interrupted(wait_by_pidfd) != 0) {
        const int error = errno;
        const auto wait_by_number = [&] { return ::waitpid(static_cast<pid_t>(pid), nullptr, __WALL); };
        (void)sys::retry_interrupted(wait_by_number);
        sys::throw_error(error, "wait for a pidfd");
    }
    return {FacilityState::present, "forked a child with a pidfd and reaped it by the pidfd"};
}

Sighting collapse_image() {
    const UniqueFd image = sys::create_memfd("probe");
    sys::resize_memfd(image.get(), kHugeBytes, "probe");
    ScratchRange range(kHugeBytes);
    if (const int error = sys::map_file_at(range.start(), kHugeBytes, sys::MapMode::shared_write, image.get(), 0)) {
        sys::throw_error(error, "map a memfd");
    }
    range.touch();
    if (const int error = sys::collapse(range.start(), kHugeBytes)) {
        if (error != ENOMEM && error != EAGAIN && error != EBUSY) sys::throw_error(error, "MADV_COLLAPSE");
        return {FacilityState::limited, "no huge page is free just now: " + std::system_category().message(error),
                "sysctl vm.compact_memory=1"};
    }
    if (sys::read_smaps(range.address(), kHugeBytes).huge_mapped_bytes == kHugeBytes) {
        return {FacilityState::present, "2 MiB of a memfd put into a huge page"};
    }
    return {FacilityState::limited, "collapsed, but not mapped by a huge page"};
}

Sighting seal_and_write() {
    const UniqueFd image = sys::create_memfd("probe");
    sys::resize_memfd(image.get(), kPageBytes, "probe");
    sys::seal_memfd(image.get(), "probe");
    if (sys::without_size_signal([&] { return ::pwrite(image.get(), "x", 1, 0); }) < 0 && errno == EPERM) {
        return {FacilityState::present, "a sealed image could not be written"};
    }
    return {FacilityState::absent, "a sealed image could be written"};
}

Sighting open_self() {
    const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    if (!self) throw_errno("pidfd_open");
    if (::syscall(SYS_pidfd_send_signal, self.get(), 0, nullptr, 0) != 0) throw_errno("pidfd_send_signal");
    return {FacilityState::present, "opened a pidfd of this process and signalled by it"};
}

Sighting mark_range() {
    const UniqueFd opened = sys::open_file("/dev/null", O_RDONLY);
    const auto number = static_cast<unsigned>(opened.get());
    if (::fcntl(opened.get(), F_SETFD, 0) != 0) throw_errno("F_SETFD");
    if (::syscall(SYS_close_range, number, number, CLOSE_RANGE_CLOEXEC) != 0) {
        throw_errno("close_range with CLOSE_RANGE_CLOEXEC");
    }
    if ((::fcntl(opened.get(), F_GETFD) & FD_CLOEXEC) != 0) {
        return {FacilityState::present, "marked a range of descriptors close-on-exec"};
    }
    return {FacilityState::absent, "close_range left a descriptor as it was"};
}

Sighting set_up_ring() {
    io_uring_params parameters{};
    const UniqueFd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 4, &parameters)));
    if (!ring) throw_errno("io_uring_setup");
    return {FacilityState::present, "set up a ring of " + std::to_string(parameters.sq_entries) + " entries"};
}

Sighting count_fault() {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_PAGE_FAULTS;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    ScratchRange range(kPageBytes);
    range.allow_writing();
    const UniqueFd event(static_cast<int>(
        ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, static_cast<unsigned long>(PERF_FLAG_FD_CLOEXEC))));
    if (!event) throw_errno("perf_event_open");
    range.touch();
    std::array<std::uint64_t, 1> faults{};
    if (sys::read_full(event.get(), std::as_writable_bytes(std::span(faults)), "perf event") != sizeof(faults)) {
        return {FacilityState::limited, "the counter of page faults could not be read in full"};
    }
    if (faults[0] == 0) return {FacilityState::limited, "the counter missed a page fault"};
    return {FacilityState::present, "counted a page fault"};
}

Sighting read_self() {
    const std::uint64_t here = 0x766d636f77;
    std::uint64_t there = 0;
    const iovec local{&there, sizeof(there)};
    const iovec remote{const_cast<std::uint64_t*>(&here), sizeof(here)};
    if (::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) < 0) throw_errno("process_vm_readv");
    if (there != here) return {FacilityState::limited, "read other bytes than are there"};
    return {FacilityState::present, "read 8 bytes of this process"};
}

std::optional<std::vector<std::string>> effective_capabilities() {
    struct Known {
        unsigned bit;
        const char* name;
    };
    constexpr std::array<Known, 5> kKnown = {{{CAP_IPC_LOCK, "CAP_IPC_LOCK"},
                                              {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
                                              {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                              {CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE"},
                                              {CAP_PERFMON, "CAP_PERFMON"}}};
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return std::nullopt;
    std::vector<std::string> held;
    for (const Known& capability : kKnown) {
        if ((data[capability.bit / 32].effective >> (capability.bit % 32) & 1) != 0) held.emplace_back(capability.name);
    }
    return held;
}

}  // namespace

const char* name_of(FacilityState state) noexcept {
    switch (state) {
        case FacilityState::present:
            return "present";
        case FacilityState::limited:
            return "limited";
        case FacilityState::absent:
            return "absent";
        case FacilityState::unknown:
            break;
    }
    return "unknown";
}

Host describe_host() {
    utsname names{};
    const bool named = ::uname(&names) == 0;
    return {named ? names.release : "unknown", named ? names.machine : "unknown", ::geteuid(),
            effective_capabilities()};
}

Facility probe_memfd_seals() {
    Facility facility{
        .name = "memfd seals",
        .group = "kernel",
        .used_for = "snapshots: images of a value that nobody can change any more",
        .without = "nothing works; a value could change under a process that reads it",
        .enable = "sysctl vm.memfd_noexec=1 where that is 2; else a container that lets memfd_create through",
        .since = "Linux 3.17",
        .required = true};
    // EACCES comes from vm.memfd_noexec=2, which refuses a memfd that does not ask for the noexec seal.
    return look_for(std::move(facility), {ENOSYS, EPERM, EACCES}, seal_and_write);
}

Facility probe_pidfd() {
    Facility facility{.name = "pidfd",
                      .group = "kernel",
                      .used_for = "waiting for and signalling processes, whose numbers are used again",
                      .without = "nothing works; a signal could reach another process",
                      .enable = "none: it takes Linux 5.3, or a container that lets pidfd_open through",
                      .since = "Linux 5.3",
                      .required = true};
    return look_for(std::move(facility), {ENOSYS, EPERM, EINVAL}, open_self);
}

Facility probe_clone3() {
    Facility facility{.name = "clone3",
                      .group = "kernel",
                      .used_for = "starting a process and getting its pidfd in one step, and waiting by the pidfd",
                      .without = "nothing works; no function process and no program can be started",
                      .enable = "none: it takes Linux 5.4, or a container that lets clone3 through",
                      .since = "Linux 5.4",
                      .required = true};
    return look_for(std::move(facility), {ENOSYS, EPERM, EINVAL}, fork_and_reap);
}

Facility probe_close_range() {
    Facility facility{.name = "close_range",
                      .group = "kernel",
                      .used_for = "keeping descriptors of the caller out of the programs that are started",
                      .without = "no program is started; a child could hold a pipe open for ever",
                      .enable = "none: it takes Linux 5.11, or a container that lets close_range through",
                      .since = "Linux 5.11",
                      .required = true};
    return look_for(std::move(facility), {ENOSYS, EPERM, EINVAL}, mark_range);
}

Facility probe_page_size() {
    const long bytes = ::sysconf(_SC_PAGESIZE);
    const bool fits = bytes == static_cast<long>(kPageBytes);
    return {.name = "4 KiB pages",
            .group = "kernel",
            .state = fits ? FacilityState::present : FacilityState::absent,
            .detail = "a page has " + std::to_string(bytes) + " bytes",
            .used_for = "every count of pages, and every offset in an image",
            .without = "nothing works; this build is for pages of 4096 bytes",
            .enable = "none: boot a kernel that is built for pages of 4 KiB",
            .required = true};
}

Facility probe_huge_images() {
    Facility facility{.name = "MADV_COLLAPSE",
                      .group = "kernel",
                      .used_for = "huge pages under images: filling and freezing 1 GiB in a fraction of the time",
                      .without = "images keep small pages: the same results, filled and read more slowly",
                      .enable = "none: it takes Linux 6.1 with transparent huge pages, and shmem_enabled not at 'deny'",
                      .since = "Linux 6.1"};
    return look_for(std::move(facility), {EINVAL, ENOSYS, EPERM}, collapse_image);
}

Facility probe_page_scan() {
    Facility facility{.name = "PAGEMAP_SCAN",
                      .group = "kernel",
                      .used_for = "finding the pages that were copied, without reading an entry for every page",
                      .without = "bit 61 of pagemap is read instead: the same counts, more slowly",
                      .enable = "none: it takes Linux 6.7",
                      .since = "Linux 6.7"};
    return look_for(std::move(facility), {ENOTTY, EINVAL, ENOSYS, EPERM},
                    [] { return find_written_page(sys::PageScanMethod::pagemap_scan); });
}

Facility probe_pagemap_bits() {
    Facility facility{.name = "pagemap bit 61",
                      .group = "kernel",
                      .used_for = "finding the pages that were copied, where there is no PAGEMAP_SCAN",
                      .without = "nothing is lost while PAGEMAP_SCAN is there; without both no page can be counted",
                      .enable = "none: it takes CONFIG_PROC_PAGE_MONITOR, and /proc in the container",
                      .since = "Linux 3.5"};
    return look_for(std::move(facility), {EPERM, EACCES},
                    [] { return find_written_page(sys::PageScanMethod::pagemap_bits); });
}

Facility probe_written_pages() {
    Facility facility{.name = "userfaultfd that protects by itself",
                      .group = "kernel",
                      .used_for = "versions: finding the few pages that were written to, among thousands of a value's",
                      .without = "all pages that a value has copied are compared for each version: the same results",
                      .enable = "none: it takes Linux 6.7, or a container that lets userfaultfd through",
                      .since = "Linux 6.7"};
    return look_for(std::move(facility), {ENOTTY, EINVAL, ENOSYS, EPERM}, find_page_written_again);
}

Facility probe_io_uring() {
    Facility facility{.name = "io_uring",
                      .group = "kernel",
                      .used_for = "writing images to disk, many blocks at a time, while their checksums are computed",
                      .without = "images are written one block after the other by pwritev, and the report says so",
                      .enable = "none: it takes Linux 5.10, or a container that lets io_uring_setup through",
                      .since = "Linux 5.10"};
    facility = look_for(std::move(facility), {ENOSYS, EPERM}, set_up_ring);
    if (facility.state == FacilityState::absent && ::access("/proc/sys/kernel/io_uring_disabled", F_OK) == 0) {
        facility.enable = "sysctl kernel.io_uring_disabled=0 (in a container its seccomp profile may refuse it too)";
    }
    return facility;
}

Facility probe_perf_events() {
    Facility facility{.name = "perf_event_open",
                      .group = "kernel",
                      .used_for = "nothing yet; meant for counting the page faults of a process while it runs",
                      .without = "nothing is lost: getrusage has the faults of a whole process",
                      .enable = "sysctl kernel.perf_event_paranoid=2 (a container's seccomp profile may refuse it too)",
                      .since = "Linux 2.6.31"};
    return look_for(std::move(facility), {ENOSYS, EPERM, EACCES, ENOENT, EOPNOTSUPP}, count_fault);
}

Facility probe_process_vm_readv() {
    Facility facility{.name = "process_vm_readv",
                      .group = "kernel",
                      .used_for = "nothing yet; meant for comparing pages of another process with their image",
                      .without = "nothing is lost: copied pages of another process are counted all the same",
                      .enable = "none: it takes CONFIG_CROSS_MEMORY_ATTACH, or a container that lets it through",
                      .since = "Linux 3.2"};
    return look_for(std::move(facility), {ENOSYS, EPERM}, read_self);
}

std::vector<Facility> probe_required() {
    return {probe_memfd_seals(), probe_pidfd(), probe_clone3(), probe_close_range(), probe_page_size()};
}

std::vector<Facility> probe_all() {
    std::vector<Facility> all = probe_required();
    for (const auto probe :
         {probe_huge_images, probe_page_scan, probe_written_pages, probe_pagemap_bits, probe_io_uring,
          probe_perf_events, probe_process_vm_readv, probe_cgroup, probe_shmem_huge_setting, probe_map_count,
          probe_overcommit, probe_pipe_buffers, probe_ptrace_scope, probe_descriptor_limit, probe_address_space_limit,
          probe_memory, probe_processors}) {
        all.push_back(probe());
    }
    return all;
}

}  // namespace vmcow
