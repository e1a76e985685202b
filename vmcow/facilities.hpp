#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmcow/facilities/facility.hpp"

namespace vmcow {

/// The machine and the user for which the probes answer.
struct Host {
    std::string kernel_release;
    std::string machine;
    unsigned user_id = 0;
    /// The effective capabilities, of those that change an answer; nothing where the kernel does not tell.
    std::optional<std::vector<std::string>> capabilities;
};

[[nodiscard]] Host describe_host();

// Each probe uses its facility, on a scratch object of its own, and checks the result. No probe changes the machine,
// leaves anything behind, prints, or needs privilege. A failure is reported in the Facility; nothing but std::bad_alloc
// is thrown. All but the first two cost well below a millisecond.

/// Puts 2 MiB of a memfd into a huge page. Source: madvise(2) MADV_COLLAPSE.
[[nodiscard]] Facility probe_huge_images();
/// Forks a child that exits at once, and reaps it by its pidfd; no SIGCHLD is sent. Source: clone3(2).
[[nodiscard]] Facility probe_clone3();
/// Seals a memfd and tries to write it. Source: memfd_create(2), fcntl(2).
[[nodiscard]] Facility probe_memfd_seals();
/// Opens a pidfd of this process. Source: pidfd_open(2).
[[nodiscard]] Facility probe_pidfd();
/// Marks a descriptor close-on-exec by its range. Source: close_range(2) CLOSE_RANGE_CLOEXEC.
[[nodiscard]] Facility probe_close_range();
/// Compares the size of a page with the one that is compiled in.
[[nodiscard]] Facility probe_page_size();
/// Finds one written page of two by PAGEMAP_SCAN.
[[nodiscard]] Facility probe_page_scan();
/// Finds a page that was written to again, by userfaultfd and PAGEMAP_SCAN.
[[nodiscard]] Facility probe_written_pages();
/// Finds one written page of two by the bits of /proc/self/pagemap.
[[nodiscard]] Facility probe_pagemap_bits();
/// Sets up a ring. Source: io_uring_setup(2).
[[nodiscard]] Facility probe_io_uring();
/// Counts a page fault of this process by perf_event_open(2).
[[nodiscard]] Facility probe_perf_events();
/// Reads memory of this process by process_vm_readv(2).
[[nodiscard]] Facility probe_process_vm_readv();
/// Finds out whether this process may divide its control group of version 2, with the memory controller.
/// Source: cgroups(7).
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

/// The facilities without which nothing works.
[[nodiscard]] std::vector<Facility> probe_required();

/// All facilities, the required ones first.
[[nodiscard]] std::vector<Facility> probe_all();

}  // namespace vmcow
