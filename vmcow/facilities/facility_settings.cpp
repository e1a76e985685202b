// The facilities that are settings of the machine and limits of this process. Most are read, few are tried out.

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "vmcow/facilities.hpp"
#include "vmcow/facilities/look_for.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/cgroup.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace vmcow {
namespace {

using sys::read_text_file;
using sys::throw_errno;
using sys::UniqueFd;

constexpr std::uint64_t kKibi = 1024;
constexpr std::uint64_t kMebi = kKibi * 1024;

/// The first line of a small file of the kernel.
std::string read_setting(const std::string& path) {
    const std::string text = read_text_file(path);
    return text.substr(0, text.find('\n'));
}

/// The number that `text`, the content of the file `name`, begins with, after blanks.
/// Throws: std::system_error -- EPROTO when there is none.
std::uint64_t leading_number(std::string_view text, const std::string& name) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    std::uint64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) {
        sys::throw_error(EPROTO, "read a number from '" + name + "'");
    }
    return value;
}

std::uint64_t read_number(const std::string& path) { return leading_number(read_text_file(path), path); }

/// The bytes of a line "NAME:   123 kB" of /proc/meminfo.
std::uint64_t meminfo_bytes(const std::string& meminfo, const std::string& name) {
    const auto field = sys::proc_field(meminfo, name);
    if (!field) sys::throw_error(ENODATA, "find " + name + " in '/proc/meminfo'");
    return leading_number(*field, "/proc/meminfo") * kKibi;
}

bool may_write(const std::string& path) { return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0; }

Sighting look_at_cgroup() {
    const std::string mountinfo = read_text_file("/proc/self/mountinfo");
    if (!sys::has_cgroup2_mount(mountinfo)) {
        return {FacilityState::absent, "no cgroup2 file system is mounted", "mount -t cgroup2 none /sys/fs/cgroup"};
    }
    const auto own = sys::cgroup_directory(read_text_file("/proc/self/cgroup"), mountinfo);
    if (!own) sys::throw_error(ENODATA, "find the group of this process in '/proc/self/cgroup'");
    const std::string& folder = *own;
    if (!sys::has_controller(read_text_file(folder + "/cgroup.controllers"), "memory")) {
        return {FacilityState::limited, folder + " has no memory controller",
                "boot with systemd.unified_cgroup_hierarchy=1, or delegate the controller from the group above"};
    }
    if (!may_write(folder) || !may_write(folder + "/cgroup.procs") || !may_write(folder + "/cgroup.subtree_control")) {
        return {FacilityState::limited, folder + " may not be divided by this user"};
    }
    return {FacilityState::present, folder + " may be divided by this user, with its memory controller"};
}

Sighting grow_pipe() {
    constexpr int kWantedBytes = 1 << 20;
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("pipe");
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    // A refusal is no error: the pipe keeps the size that it has, and that size is reported.
    (void)::fcntl(writer.get(), F_SETPIPE_SZ, kWantedBytes);
    const int granted = ::fcntl(writer.get(), F_GETPIPE_SZ);
    if (granted < 0) throw_errno("F_GETPIPE_SZ");
    const std::string folder = "/proc/sys/fs/";
    const std::string detail = "asked for 1024 KiB, granted " + std::to_string(granted / 1024) +
                               " KiB; pipe-max-size " + read_setting(folder + "pipe-max-size") +
                               ", pipe-user-pages-soft " + read_setting(folder + "pipe-user-pages-soft") + ", hard " +
                               read_setting(folder + "pipe-user-pages-hard");
    return {granted >= kWantedBytes ? FacilityState::present : FacilityState::limited, detail};
}

Sighting look_at_shmem_setting() {
    const std::string setting = read_setting("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    const std::size_t open = setting.find('[');
    const std::size_t close = setting.find(']');
    if (open == std::string::npos || close < open) sys::throw_error(EPROTO, "read shmem_enabled");
    const std::string chosen = setting.substr(open + 1, close - open - 1);
    if (chosen == "deny") return {FacilityState::absent, "'deny', which also forbids MADV_COLLAPSE"};
    return {FacilityState::present, "'" + chosen + "'; images are collapsed whatever it says, except for 'deny'"};
}

/// "1024" or "unlimited".
std::string limit_text(rlim_t limit) { return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit); }

rlimit read_limit(__rlimit_resource resource, const std::string& name) {
    rlimit limit{};
    if (::getrlimit(resource, &limit) != 0) throw_errno("getrlimit " + name);
    return limit;
}

Sighting look_at_descriptor_limit() {
    constexpr rlim_t kComfortable = 1024;
    const rlimit limit = read_limit(RLIMIT_NOFILE, "RLIMIT_NOFILE");
    const bool enough = limit.rlim_cur >= kComfortable;
    return {enough ? FacilityState::present : FacilityState::limited,
            "at most " + limit_text(limit.rlim_cur) + " descriptors open at once; the limit may be raised to " +
                limit_text(limit.rlim_max),
            "ulimit -n " + limit_text(std::max(limit.rlim_max, limit.rlim_cur))};
}

Sighting look_at_address_space() {
    const rlimit limit = read_limit(RLIMIT_AS, "RLIMIT_AS");
    if (limit.rlim_cur == RLIM_INFINITY) return {FacilityState::present, "unlimited"};
    return {FacilityState::limited, limit_text(limit.rlim_cur) + " bytes"};
}

Sighting look_at_ptrace_scope() {
    const std::string path = "/proc/sys/kernel/yama/ptrace_scope";
    if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return {FacilityState::present, "no Yama here"};
    const std::uint64_t scope = read_number(path);
    const auto held = describe_host().capabilities.value_or(std::vector<std::string>{});
    const bool may_trace = std::find(held.begin(), held.end(), "CAP_SYS_PTRACE") != held.end();
    const std::string detail = "ptrace_scope " + std::to_string(scope);
    if (scope == 0) return {FacilityState::present, detail + ": any process of this user"};
    if (scope < 3 && may_trace) return {FacilityState::present, detail + ", and this process holds CAP_SYS_PTRACE"};
    if (scope == 1) return {FacilityState::limited, detail + ": only processes that this process started"};
    if (scope == 2) return {FacilityState::absent, detail + ": only with CAP_SYS_PTRACE"};
    return {FacilityState::absent, detail + ": nobody, until the next boot", "none: reboot with a lower ptrace_scope"};
}

Sighting count_processors() {
    std::array<cpu_set_t, 8> allowed{};  // 8192 processors, as many as Linux can be built for
    if (::sched_getaffinity(0, sizeof(allowed), allowed.data()) != 0) throw_errno("sched_getaffinity");
    const int count = CPU_COUNT_S(sizeof(allowed), allowed.data());
    const std::string detail = std::to_string(count) + " may run this process, " +
                               std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)) + " are online";
    return {count > 1 ? FacilityState::present : FacilityState::limited, detail};
}

}  // namespace

Facility probe_cgroup() {
    Facility facility{.name = "cgroup v2 delegated",
                      .group = "kernel",
                      .used_for = "memory limits that the kernel enforces on function processes and their children",
                      .without = "memory limits are polled every few milliseconds, and the result says so",
                      .enable = "systemd-run --user --scope -p Delegate=yes COMMAND",
                      .since = "Linux 4.5"};
    return look_for(std::move(facility), {}, look_at_cgroup);
}

Facility probe_pipe_buffers() {
    Facility facility{.name = "pipe buffers",
                      .group = "settings",
                      .used_for = "large pipes between programs, which wake each other less often",
                      .without = "pipes stay small: the same bytes, more switches between processes",
                      .enable = "sysctl fs.pipe-max-size=1048576 fs.pipe-user-pages-soft=0",
                      .since = "Linux 2.6.35"};
    return look_for(std::move(facility), {}, grow_pipe);
}

Facility probe_shmem_huge_setting() {
    Facility facility{.name = "huge pages for memfds",
                      .group = "settings",
                      .used_for = "whether the kernel gives huge pages to images at all",
                      .without = "images keep small pages: the same results, filled and read more slowly",
                      .enable = "echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
                      .since = "Linux 4.8"};
    return look_for(std::move(facility), {ENOENT}, look_at_shmem_setting);
}

Facility probe_map_count() {
    constexpr std::uint64_t kDefault = 65530;
    Facility facility{.name = "vm.max_map_count",
                      .group = "settings",
                      .used_for = "one mapping for each run of changed pages that is laid over an image",
                      .without = "more of the changed pages are copied where they could have been mapped",
                      .enable = "sysctl vm.max_map_count=65530"};
    return look_for(std::move(facility), {}, []() -> Sighting {
        const std::uint64_t count = read_number("/proc/sys/vm/max_map_count");
        return {count >= kDefault ? FacilityState::present : FacilityState::limited,
                std::to_string(count) + " mappings in a process"};
    });
}

Facility probe_overcommit() {
    Facility facility{.name = "vm.overcommit_memory",
                      .group = "settings",
                      .used_for = "private mappings of values that are larger than the free memory",
                      .without = "a large value is refused (ENOMEM), even if few of its pages would be written",
                      .enable = "sysctl vm.overcommit_memory=0"};
    return look_for(std::move(facility), {}, []() -> Sighting {
        const std::uint64_t mode = read_number("/proc/sys/vm/overcommit_memory");
        if (mode == 2) return {FacilityState::limited, "2: every private mapping counts in full"};
        return {FacilityState::present, std::to_string(mode) + ": MAP_NORESERVE is honoured"};
    });
}

Facility probe_ptrace_scope() {
    Facility facility{.name = "ptrace scope",
                      .group = "settings",
                      .used_for = "nothing yet; meant for counting pages of processes that others started",
                      .without = "nothing is lost: function processes of a caller can always be measured",
                      .enable = "sysctl kernel.yama.ptrace_scope=0"};
    return look_for(std::move(facility), {}, look_at_ptrace_scope);
}

Facility probe_descriptor_limit() {
    Facility facility{.name = "RLIMIT_NOFILE",
                      .group = "limits",
                      .used_for = "a descriptor for each image, pipe end and process that is held",
                      .without = "long pipelines and many images end in 'Too many open files'"};
    return look_for(std::move(facility), {}, look_at_descriptor_limit);
}

Facility probe_address_space_limit() {
    Facility facility{.name = "RLIMIT_AS",
                      .group = "limits",
                      .used_for = "slots: address ranges that are reserved for values, at no cost of memory",
                      .without = "a value as large as the limit cannot be mapped, however little of it is written",
                      .enable = "ulimit -v unlimited"};
    return look_for(std::move(facility), {}, look_at_address_space);
}

Facility probe_memory() {
    constexpr std::uint64_t kComfortable = 512 * kMebi;  // the default workload of `measure`, and as much again
    Facility facility{.name = "memory",
                      .group = "limits",
                      .used_for = "images and copied pages, which all lie in memory",
                      .without = "values of some hundred MiB do not fit: choose smaller ones",
                      .enable = "none: end other programs, or add memory"};
    return look_for(std::move(facility), {}, []() -> Sighting {
        const std::string meminfo = read_text_file("/proc/meminfo");
        const std::uint64_t total = meminfo_bytes(meminfo, "MemTotal");
        const std::uint64_t available = meminfo_bytes(meminfo, "MemAvailable");
        return {available >= kComfortable ? FacilityState::present : FacilityState::limited,
                std::to_string(available / kMebi) + " MiB available of " + std::to_string(total / kMebi) + " MiB"};
    });
}

Facility probe_processors() {
    Facility facility{.name = "processors",
                      .group = "limits",
                      .used_for = "running a caller and its function process at the same time",
                      .without = "they take turns on one processor, and each call pays for the switches",
                      .enable = "taskset -p ffffffff $$ (where the machine has more than one)"};
    return look_for(std::move(facility), {}, count_processors);
}

}  // namespace vmcow
