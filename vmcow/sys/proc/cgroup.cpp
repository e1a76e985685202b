#include "vmcow/sys/proc/cgroup.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/file.hpp"

namespace vmcow::sys {
namespace {

/// Whether `name` is a word of a comma-separated list.
bool lists(std::string_view list, std::string_view name) noexcept {
    while (!list.empty()) {
        const std::string_view word = list.substr(0, list.find(','));
        if (word == name) return true;
        list.remove_prefix(std::min(word.size() + 1, list.size()));
    }
    return false;
}

/// A hierarchy of control groups, and the names of its memory files.
struct Hierarchy {
    std::string_view type;        ///< of the file system
    std::string_view controller;  ///< empty for version 2, where all controllers are in one hierarchy
    std::string_view limit;
    std::string_view used;
};

constexpr Hierarchy kVersion2 = {"cgroup2", "", "memory.max", "memory.current"};
constexpr Hierarchy kVersion1 = {"cgroup", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"};
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;  // version 1 shows "no limit" as more, in whole pages

/// Undoes the escapes of a mountinfo field, in which a space, tab, line feed or backslash is a backslash and three
/// octal digits.
std::string unescape(std::string_view field) {
    const auto is_octal = [](char digit) { return digit >= '0' && digit <= '7'; };
    std::string text;
    while (!field.empty()) {
        const bool escaped =
            field.size() >= 4 && field[0] == '\\' && std::all_of(field.begin() + 1, field.begin() + 4, is_octal);
        unsigned value = static_cast<unsigned char>(field[0]);
        if (escaped) std::from_chars(field.data() + 1, field.data() + 4, value, 8);
        text.push_back(static_cast<char>(value));
        field.remove_prefix(escaped ? 4 : 1);
    }
    return text;
}

struct Mount {
    std::string root;  ///< the part of the hierarchy that is mounted
    std::string point;
};

/// Parses a mountinfo line: ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE OPTIONS. nullopt for a mount of
/// anything but `hierarchy`.
std::optional<Mount> mount_of(const Hierarchy& hierarchy, std::string_view line) {
    for (int skipped = 0; skipped < 3; ++skipped) take_word(line);
    const std::string_view root = take_word(line);
    const std::string_view point = take_word(line);
    std::string_view word = take_word(line);
    if (word.empty() || word == "-") return std::nullopt;
    while (!word.empty() && word != "-") word = take_word(line);
    if (take_word(line) != hierarchy.type) return std::nullopt;
    take_word(line);  // the source
    if (!hierarchy.controller.empty() && !lists(take_word(line), hierarchy.controller)) return std::nullopt;
    return Mount{unescape(root), unescape(point)};
}

/// The rest of `path` below `root`: empty, or beginning with a slash. nullopt when `path` is not below `root`.
std::optional<std::string_view> below(std::string_view path, std::string_view root) {
    if (root == "/") return path == "/" ? std::string_view{} : path;
    if (path.substr(0, root.size()) != root) return std::nullopt;
    path.remove_prefix(root.size());
    if (!path.empty() && path.front() != '/') return std::nullopt;
    return path;
}

/// The path of a process's group in a hierarchy, from its line in /proc/PID/cgroup: "4:memory:/PATH", or "0::/PATH" for
/// version 2.
std::optional<std::string_view> path_in(const Hierarchy& hierarchy, std::string_view cgroup) {
    while (!cgroup.empty()) {
        std::string_view line = take_line(cgroup);
        line.remove_prefix(std::min(line.find(':'), line.size()));
        const std::size_t second = line.find(':', 1);
        if (second == std::string_view::npos) continue;
        const std::string_view controllers = line.substr(1, second - 1);
        const bool is_it =
            hierarchy.controller.empty() ? controllers.empty() : lists(controllers, hierarchy.controller);
        if (is_it) return line.substr(second + 1);
    }
    return std::nullopt;
}

/// Where a group lies: `point` is the directory of the mount, and `group` the path below `point`, empty or beginning
/// with a slash.
struct Place {
    std::string point;
    std::string group;
};

std::optional<Place> place_in(const Hierarchy& hierarchy, std::string_view cgroup, std::string_view mountinfo) {
    const std::optional<std::string_view> path = path_in(hierarchy, cgroup);
    // A group above the root of our cgroup namespace is written "/../NAME", and is not mounted here.
    if (!path || path->substr(0, 3) == "/..") return std::nullopt;
    std::optional<Place> found;
    std::size_t found_root = 0;
    while (!mountinfo.empty()) {
        const std::optional<Mount> mount = mount_of(hierarchy, take_line(mountinfo));
        if (!mount) continue;
        const std::optional<std::string_view> rest = below(*path, mount->root);
        // Of several mounts, the one with the shortest root shows the most groups above the process. Of equal ones, the
        // later lies on top.
        if (!rest || (found && mount->root.size() > found_root)) continue;
        found = Place{mount->point, std::string(*rest)};
        found_root = mount->root.size();
    }
    return found;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
    ProcText room;
    const auto text = try_read_proc(path, room);
    if (!text) return std::nullopt;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc()) return std::nullopt;  // "max"
    return value;
}

std::uint64_t left_of(const CgroupMemory& memory) noexcept {
    return memory.limit_bytes - std::min(memory.used_bytes, memory.limit_bytes);
}

void take_tightest(const Hierarchy& hierarchy, Place place, std::optional<CgroupMemory>& tightest) {
    for (;;) {
        const std::string folder = place.point + place.group + "/";
        const auto limit = number_in(folder + std::string(hierarchy.limit));
        const auto used = number_in(folder + std::string(hierarchy.used));
        if (limit && used && *limit < kNoLimit) {
            CgroupMemory memory{place.group.empty() ? "/" : place.group, *limit, *used};
            if (!tightest || left_of(memory) < left_of(*tightest)) tightest = std::move(memory);
        }
        if (place.group.empty()) return;
        const std::size_t slash = place.group.rfind('/');
        place.group.resize(slash == std::string::npos ? 0 : slash);
    }
}

}  // namespace

bool has_cgroup2_mount(std::string_view mountinfo) {
    while (!mountinfo.empty()) {
        if (mount_of(kVersion2, take_line(mountinfo))) return true;
    }
    return false;
}

std::optional<std::string> cgroup_directory(std::string_view cgroup, std::string_view mountinfo) {
    const auto place = place_in(kVersion2, cgroup, mountinfo);
    return place ? std::optional(place->point + place->group) : std::nullopt;
}

bool has_controller(std::string_view controllers, std::string_view name) noexcept {
    std::string_view rest = take_line(controllers);
    std::string_view word = take_word(rest);
    while (!word.empty() && word != name) word = take_word(rest);
    return !word.empty();
}

std::optional<CgroupMemory> cgroup_memory(std::string_view cgroup, std::string_view mountinfo) {
    std::optional<CgroupMemory> tightest;
    for (const Hierarchy& hierarchy : {kVersion2, kVersion1}) {
        if (auto place = place_in(hierarchy, cgroup, mountinfo)) take_tightest(hierarchy, *std::move(place), tightest);
    }
    return tightest;
}

std::optional<CgroupMemory> cgroup_memory(pid_t pid) {
    try {
        return cgroup_memory(read_text_file("/proc/" + std::to_string(pid) + "/cgroup"),
                             read_text_file("/proc/self/mountinfo"));
    } catch (const std::system_error&) {
        return std::nullopt;
    }
}

}  // namespace vmcow::sys
