#include "vmcow/sys/proc/stat.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/file.hpp"

namespace vmcow::sys {
namespace {

// Flags of the kernel's sched.h.
constexpr std::uint64_t kExiting = 0x00000004;       // PF_EXITING
constexpr std::uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD
constexpr int kKcmpVm = 1;                           // KCMP_VM of linux/kcmp.h

// Positions of the fields behind the command's name, counted as proc(5) does.
constexpr std::size_t kState = 3;
constexpr std::size_t kParent = 4;
constexpr std::size_t kFlagsField = 9;
constexpr std::size_t kMinorFaults = 10;
constexpr std::size_t kMinorFaultsOfChildren = 11;
constexpr std::size_t kMajorFaults = 12;
constexpr std::size_t kMajorFaultsOfChildren = 13;
constexpr std::size_t kThreads = 20;
constexpr std::size_t kStartTime = 22;
constexpr std::size_t kLast = 52;
// The fields of the arguments are not among these: a program may move them when it changes its title.
constexpr std::array<std::size_t, 6> kPlacement = {26, 27, 28, 45, 46, 47};

template <class Number>
Number number_of(std::string_view text) {
    Number value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::array<std::string_view, kLast + 1> fields_behind(std::string_view text) {
    std::array<std::string_view, kLast + 1> fields;
    for (std::size_t i = kState; i <= kLast && !text.empty(); ++i) {
        const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
        fields[i] = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return fields;
}

std::string folder_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

/// The text of a file of a process. nullopt when the process is gone; any other refusal is thrown.
std::optional<std::string_view> read_unless_gone(const std::string& path, ProcText& room) {
    const auto text = try_read_proc(path, room);
    if (!text && errno != ENOENT && errno != ESRCH) throw_errno("read '" + path + "'");
    return text;
}

ProcessMemoryCounts parse_memory_counts(std::string_view text) {
    ProcessMemoryCounts counts;
    for (std::uint64_t* const count : {&counts.mapped, &counts.resident, &counts.resident_of_files}) {
        *count = number_of<std::uint64_t>(take_word(text));
    }
    return counts;
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
    // The name stands in brackets and may hold any byte, brackets too. The last closing bracket ends it.
    const std::size_t open = text.find('(');
    const std::size_t close = text.rfind(") ");
    if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
    const auto fields = fields_behind(text.substr(close + 2));
    const auto flags = number_of<std::uint64_t>(fields[kFlagsField]);
    ProcessStat stat;
    stat.pid = number_of<pid_t>(text);
    stat.command = text.substr(open + 1, close - open - 1);
    stat.state = fields[kState].empty() ? '?' : fields[kState].front();
    stat.parent = number_of<pid_t>(fields[kParent]);
    stat.kernel_thread = (flags & kKernelThread) != 0;
    stat.exiting = (flags & kExiting) != 0;
    stat.page_faults = number_of<std::uint64_t>(fields[kMinorFaults]) + number_of<std::uint64_t>(fields[kMajorFaults]);
    stat.children_page_faults = number_of<std::uint64_t>(fields[kMinorFaultsOfChildren]) +
                                number_of<std::uint64_t>(fields[kMajorFaultsOfChildren]);
    stat.threads = number_of<std::uint64_t>(fields[kThreads]);
    stat.start_ticks = number_of<std::uint64_t>(fields[kStartTime]);
    for (std::size_t i = 0; i < kPlacement.size(); ++i) {
        stat.placement[i] = number_of<std::uint64_t>(fields[kPlacement[i]]);
    }
    return stat;
}

std::optional<ProcessStat> read_stat_in(const std::string& folder) {
    ProcText room;
    const auto text = read_unless_gone(folder + "/stat", room);
    return text ? parse_process_stat(*text) : std::nullopt;
}

std::optional<ProcessStat> try_read_stat_in(const std::string& folder) {
    ProcText room;
    const auto text = try_read_proc(folder + "/stat", room);
    return text ? parse_process_stat(*text) : std::nullopt;
}

std::optional<ProcessStat> read_process_stat(pid_t pid) { return read_stat_in(folder_of(pid)); }
std::optional<ProcessStat> try_read_process_stat(pid_t pid) { return try_read_stat_in(folder_of(pid)); }

ProcessMemoryCounts read_process_memory_counts(pid_t pid) {
    ProcText room;
    const auto text = read_unless_gone(folder_of(pid) + "/statm", room);
    return text ? parse_memory_counts(*text) : ProcessMemoryCounts{};
}

std::optional<ProcessMemoryCounts> try_read_process_memory_counts(pid_t pid) {
    ProcText room;
    const auto text = try_read_proc(folder_of(pid) + "/statm", room);
    return text ? std::optional(parse_memory_counts(*text)) : std::nullopt;
}

std::optional<bool> share_memory(pid_t a, pid_t b) noexcept {
    const long order = ::syscall(SYS_kcmp, a, b, kKcmpVm, 0, 0);
    if (order < 0) return std::nullopt;
    return order == 0;
}

}  // namespace vmcow::sys
