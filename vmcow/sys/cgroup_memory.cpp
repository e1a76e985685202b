#include "vmcow/sys/cgroup_memory.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>
#include <system_error>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {
namespace {

struct Hierarchy {
    std::string_view mount;
    std::string_view limit;
    std::string_view used;
};

constexpr Hierarchy kVersion2 = {"/sys/fs/cgroup", "memory.max", "memory.current"};
constexpr Hierarchy kVersion1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"};
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;  // what version 1 has for none, in whole pages, is above it

std::optional<std::uint64_t> number_in(const std::string& path) {
    std::string text;
    try {
        text = read_text_file(path);
    } catch (const std::system_error&) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;  // "max"
    return value;
}

void take_tightest(const Hierarchy& hierarchy, std::string group, std::optional<CgroupMemory>& tightest) {
    for (;;) {
        const std::string folder = std::string(hierarchy.mount) + (group == "/" ? "" : group) + "/";
        const auto limit = number_in(folder + std::string(hierarchy.limit));
        const auto used = number_in(folder + std::string(hierarchy.used));
        if (limit && used && *limit < kNoLimit) {
            const std::uint64_t left = *limit > *used ? *limit - *used : 0;
            if (!tightest || left < tightest->limit_bytes - std::min(tightest->used_bytes, tightest->limit_bytes)) {
                tightest = CgroupMemory{group, *limit, *used};
            }
        }
        if (group == "/" || group.empty()) return;
        const std::size_t slash = group.rfind('/');
        group = slash == 0 || slash == std::string::npos ? "/" : group.substr(0, slash);
    }
}

}  // namespace

std::optional<CgroupMemory> cgroup_memory(pid_t pid) {
    std::istringstream lines;
    try {
        lines.str(read_text_file("/proc/" + std::to_string(pid) + "/cgroup"));
    } catch (const std::system_error&) {
        return std::nullopt;
    }
    std::optional<CgroupMemory> tightest;
    for (std::string line; std::getline(lines, line);) {  // "4:memory:/group", "0::/group"
        const std::size_t first = line.find(':');
        const std::size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        const std::string group = line.substr(second + 1);
        if (controllers == ",,") take_tightest(kVersion2, group, tightest);
        if (controllers.find(",memory,") != std::string::npos) take_tightest(kVersion1, group, tightest);
    }
    return tightest;
}

}  // namespace vmcow::sys
