#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vmcow {

/// What a probe found. Unknown is not absent: it could not be found out here, and `detail` has the reason.
enum class FacilityState {
    present,
    limited,  ///< there, but less than what is made use of
    absent,   ///< the kernel lacks it, or refuses it to this user
    unknown,
};

/// "present", "limited", "absent", "unknown".
[[nodiscard]] const char* name_of(FacilityState state) noexcept;

/// One thing that the kernel, its settings or the limits of this process give or withhold.
struct Facility {
    std::string name;
    std::string group;  ///< "kernel", "settings" or "limits"
    FacilityState state = FacilityState::unknown;
    std::string detail = {};    ///< what was seen
    std::string used_for = {};  ///< what it is used for
    std::string without = {};   ///< what happens without it
    std::string enable = {};    ///< the command that would turn it on, or why there is none
    std::string since = {};     ///< "Linux 6.1"; empty where every supported kernel has it
    bool required = false;
};

/// Who asks, and where. Capabilities are the effective ones of those that change an answer; nothing where the kernel
/// would not tell.
struct Host {
    std::string kernel_release;
    std::string machine;
    unsigned user_id = 0;
    std::optional<std::vector<std::string>> capabilities;
};

[[nodiscard]] Host describe_host();

// Each probe does the thing in question, on a scratch object of its own, and looks at the result. None of them changes
// the machine, leaves anything behind, prints, or needs privilege; what goes wrong is in the Facility, nothing but
// std::bad_alloc is thrown. All but the first two cost well below a millisecond.

/// Puts 2 MiB of a memfd into a huge page. Source: madvise(2) MADV_COLLAPSE.
[[nodiscard]] Facility probe_huge_images();
/// Forks a child that exits at once, and reaps it by its pidfd; no SIGCHLD is sent. Source: clone3(2).
[[nodiscard]] Facility probe_clone3();
/// Seals a memfd and tries to write it. Source: memfd_create(2), fcntl(2).
[[nodiscard]] Facility probe_memfd_seals();
/// Opens itself as a pidfd. Source: pidfd_open(2).
[[nodiscard]] Facility probe_pidfd();
/// Marks a descriptor close-on-exec by its range. Source: close_range(2) CLOSE_RANGE_CLOEXEC.
[[nodiscard]] Facility probe_close_range();
/// Compares the size of a page with the one that is compiled in.
[[nodiscard]] Facility probe_page_size();
/// Finds one written page of two by PAGEMAP_SCAN.
[[nodiscard]] Facility probe_page_scan();
/// Finds one written page of two by the bits of /proc/self/pagemap.
[[nodiscard]] Facility probe_pagemap_bits();
/// Sets up a ring. Source: io_uring_setup(2).
[[nodiscard]] Facility probe_io_uring();
/// Counts a page fault of this process by perf_event_open(2).
[[nodiscard]] Facility probe_perf_events();
/// Reads memory of this process by process_vm_readv(2).
[[nodiscard]] Facility probe_process_vm_readv();
/// Looks whether our control group of version 2 is ours to divide, with its memory controller. Source: cgroups(7).
[[nodiscard]] Facility probe_cgroup();

/// Asks a pipe for 1 MiB. Source: pipe(7).
[[nodiscard]] Facility probe_pipe_buffers();
/// Reads transparent_hugepage/shmem_enabled.
[[nodiscard]] Facility probe_shmem_huge_setting();
/// Reads vm.max_map_count.
[[nodiscard]] Facility probe_map_count();
/// Reads vm.overcommit_memory.
[[nodiscard]] Facility probe_overcommit();
/// Reads kernel.yama.ptrace_scope.
[[nodiscard]] Facility probe_ptrace_scope();
/// Reads RLIMIT_NOFILE.
[[nodiscard]] Facility probe_descriptor_limit();
/// Reads RLIMIT_AS.
[[nodiscard]] Facility probe_address_space_limit();
/// Reads MemTotal and MemAvailable.
[[nodiscard]] Facility probe_memory();
/// Counts the processors that this process may run on.
[[nodiscard]] Facility probe_processors();

/// Those without which nothing works.
[[nodiscard]] std::vector<Facility> probe_required();

/// All of them, the required ones first.
[[nodiscard]] std::vector<Facility> probe_all();

}  // namespace vmcow
