#include "vmcow/sys/process_stat.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <system_error>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc_field.hpp"

namespace vmcow::sys {
namespace {

constexpr std::uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD of the kernel's sched.h
constexpr int kKcmpVm = 1;                           // KCMP_VM of linux/kcmp.h

// Positions in the line, counted as proc(5) does, of what stands behind the command's name.
constexpr std::size_t kState = 3;
constexpr std::size_t kParent = 4;
constexpr std::size_t kFlags = 9;
constexpr std::size_t kMinorFaults = 10;
constexpr std::size_t kMinorFaultsOfChildren = 11;
constexpr std::size_t kMajorFaults = 12;
constexpr std::size_t kMajorFaultsOfChildren = 13;
constexpr std::size_t kStartTime = 22;
constexpr std::size_t kLast = 52;
// Not those of the arguments, which a program may move when it changes its title.
constexpr std::array<std::size_t, 6> kPlacement = {26, 27, 28, 45, 46, 47};

template <class Number>
Number number_of(std::string_view text) {
    Number value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

/// The text of a file in /proc, or nothing where the process is gone.
std::optional<std::string> text_of(const std::string& path) {
    try {
        return read_text_file(path);
    } catch (const std::system_error& error) {
        if (error.code().value() == ENOENT || error.code().value() == ESRCH) return std::nullopt;
        throw;
    }
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

}  // namespace

std::optional<ProcessStat> read_process_stat(pid_t pid) {
    const std::optional<std::string> text = text_of("/proc/" + std::to_string(pid) + "/stat");
    if (!text) return std::nullopt;
    // The name stands in brackets and may hold any byte, brackets too: the last one ends it.
    const std::size_t open = text->find('(');
    const std::size_t close = text->rfind(") ");
    if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
    const auto fields = fields_behind(std::string_view(*text).substr(close + 2));
    ProcessStat stat;
    stat.pid = pid;
    stat.command = text->substr(open + 1, close - open - 1);
    stat.state = fields[kState].empty() ? '?' : fields[kState].front();
    stat.parent = number_of<pid_t>(fields[kParent]);
    stat.kernel_thread = (number_of<std::uint64_t>(fields[kFlags]) & kKernelThread) != 0;
    stat.page_faults = number_of<std::uint64_t>(fields[kMinorFaults]) + number_of<std::uint64_t>(fields[kMajorFaults]);
    stat.children_page_faults = number_of<std::uint64_t>(fields[kMinorFaultsOfChildren]) +
                                number_of<std::uint64_t>(fields[kMajorFaultsOfChildren]);
    stat.start_ticks = number_of<std::uint64_t>(fields[kStartTime]);
    for (std::size_t i = 0; i < kPlacement.size(); ++i) {
        stat.placement[i] = number_of<std::uint64_t>(fields[kPlacement[i]]);
    }
    return stat;
}

ProcessMemoryCounts read_process_memory_counts(pid_t pid) {
    const std::optional<std::string> text = text_of("/proc/" + std::to_string(pid) + "/statm");
    ProcessMemoryCounts counts;
    if (text) std::istringstream(*text) >> counts.mapped >> counts.resident >> counts.resident_of_files;
    return counts;
}

std::vector<pid_t> list_processes() {
    std::vector<pid_t> pids;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename().string();
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error == std::errc() && end == name.data() + name.size()) pids.push_back(pid);
    }
    return pids;
}

std::optional<pid_t> process_of_thread(pid_t thread) {
    const std::optional<std::string> text = text_of("/proc/" + std::to_string(thread) + "/status");
    if (!text) return std::nullopt;
    constexpr std::string_view kKey = "\nTgid:\t";
    const std::size_t at = text->find(kKey);
    if (at == std::string::npos) return std::nullopt;
    return number_of<pid_t>(std::string_view(*text).substr(at + kKey.size()));
}

std::optional<bool> share_memory(pid_t a, pid_t b) noexcept {
    const long order = ::syscall(SYS_kcmp, a, b, kKcmpVm, 0, 0);
    if (order < 0) return std::nullopt;
    return order == 0;
}

}  // namespace vmcow::sys
