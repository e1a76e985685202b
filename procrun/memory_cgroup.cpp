#include "procrun/memory_cgroup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <limits>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace procrun {
namespace {

using vmcow::sys::retry_interrupted;
using vmcow::sys::UniqueFd;

std::string text_of(int error) { return std::generic_category().message(error); }

/// Words between single spaces or ends of lines.
std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
        if (end > 0) words.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
}

bool has_memory(std::string_view controllers) {
    const std::vector<std::string_view> words = words_of(controllers);
    return std::find(words.begin(), words.end(), "memory") != words.end();
}

// ---- the files of a cgroup, relative to its directory's descriptor; without allocation, 0 or an errno

int write_file(int directory, const char* name, std::string_view text) noexcept {
    const UniqueFd fd(retry_interrupted([&] { return ::openat(directory, name, O_WRONLY | O_TRUNC | O_CLOEXEC); }));
    if (!fd) return errno;
    // In one write: each is a command of its own.
    const ssize_t written = retry_interrupted([&] { return ::write(fd.get(), text.data(), text.size()); });
    if (written < 0) return errno;
    return static_cast<std::size_t>(written) == text.size() ? 0 : EIO;
}

using Text = std::array<char, 1024>;

/// The text is null-terminated.
int read_file(int directory, const char* name, Text& text) noexcept {
    const UniqueFd fd(retry_interrupted([&] { return ::openat(directory, name, O_RDONLY | O_CLOEXEC); }));
    if (!fd) return errno;
    const ssize_t got = retry_interrupted([&] { return ::read(fd.get(), text.data(), text.size() - 1); });
    if (got < 0) return errno;
    text[static_cast<std::size_t>(got)] = '\0';
    return 0;
}

std::optional<std::uint64_t> number_at(const char* text) noexcept {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), number);
    if (error != std::errc{}) return std::nullopt;
    return number;
}

// ---- finding the place

/// Field of a mountinfo line: a space, tab, line feed or backslash is written as three octal digits.
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

/// A line of mountinfo: ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE OPTIONS.
std::optional<Mount> cgroup2_mount(std::string_view line) {
    constexpr std::size_t kRoot = 3;
    constexpr std::size_t kPoint = 4;
    const std::vector<std::string_view> words = words_of(line);
    const auto separator = std::find(words.begin(), words.end(), "-");
    if (std::distance(words.begin(), separator) <= static_cast<std::ptrdiff_t>(kPoint)) return std::nullopt;
    if (separator == words.end() || std::next(separator) == words.end()) return std::nullopt;
    if (*std::next(separator) != "cgroup2") return std::nullopt;
    return Mount{unescape(words[kRoot]), unescape(words[kPoint])};
}

/// The rest of `path` below `root`: empty or with a slash in front; nullopt when it is not below.
std::optional<std::string_view> below(std::string_view path, std::string_view root) {
    if (root == "/") return path == "/" ? std::string_view{} : path;
    if (path.substr(0, root.size()) != root) return std::nullopt;
    path.remove_prefix(root.size());
    if (!path.empty() && path.front() != '/') return std::nullopt;
    return path;
}

/// The path in a line "0::/PATH", the one of cgroup v2; the other lines are of v1.
std::optional<std::string_view> unified_path(std::string_view cgroup) {
    constexpr std::string_view kUnified = "0::";
    while (!cgroup.empty()) {
        const std::string_view line = cgroup.substr(0, cgroup.find('\n'));
        if (line.substr(0, kUnified.size()) == kUnified) return line.substr(kUnified.size());
        cgroup.remove_prefix(std::min(line.size() + 1, cgroup.size()));
    }
    return std::nullopt;
}

/// Where this process is; the reason when that cannot be found.
std::variant<std::string, std::optional<std::string>> own_directory() {
    try {
        return detail::cgroup_directory(vmcow::sys::read_text_file("/proc/self/cgroup"),
                                        vmcow::sys::read_text_file("/proc/self/mountinfo"));
    } catch (const std::system_error& error) {
        return std::string(error.what());
    }
}

UniqueFd open_directory(const std::string& path) noexcept {
    return UniqueFd(retry_interrupted([&] { return ::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC); }));
}

/// Why a cgroup for memory cannot be made below `path`; empty when it can.
std::string why_not_below(const std::string& path) {
    const UniqueFd directory = open_directory(path);
    if (!directory) return fmt::format("open '{}': {}", path, text_of(errno));
    Text text{};
    if (const int error = read_file(directory.get(), "cgroup.controllers", text); error != 0) {
        return error == ENOENT ? fmt::format("'{}' is no cgroup v2 directory", path)
                               : fmt::format("read '{}/cgroup.controllers': {}", path, text_of(error));
    }
    if (!has_memory(text.data())) {
        return fmt::format(
            "cgroup '{}' has no memory controller (it has: {})", path,
            words_of(text.data()).empty() ? "none" : fmt::format("{}", fmt::join(words_of(text.data()), " ")));
    }
    if (const int error = read_file(directory.get(), "cgroup.subtree_control", text); error != 0) {
        return fmt::format("read '{}/cgroup.subtree_control': {}", path, text_of(error));
    }
    if (has_memory(text.data())) return {};
    const int error = write_file(directory.get(), "cgroup.subtree_control", "+memory");
    if (error == EBUSY) {
        return fmt::format(
            "cgroup '{}' has processes itself, so the kernel allows no memory controller below it: move them into a "
            "cgroup below and name this one",
            path);
    }
    return error == 0 ? "" : fmt::format("enable the memory controller below cgroup '{}': {}", path, text_of(error));
}

}  // namespace

namespace detail {

std::optional<std::string> cgroup_directory(std::string_view cgroup, std::string_view mountinfo) {
    const std::optional<std::string_view> path = unified_path(cgroup);
    // What lies above the root of our cgroup namespace is written "/../NAME", and not mounted here.
    if (!path || path->substr(0, 3) == "/..") return std::nullopt;
    std::optional<std::string> found;
    std::size_t found_root = 0;
    while (!mountinfo.empty()) {
        const std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
        mountinfo.remove_prefix(std::min(line.size() + 1, mountinfo.size()));
        const std::optional<Mount> mount = cgroup2_mount(line);
        if (!mount) continue;
        const std::optional<std::string_view> rest = below(*path, mount->root);
        // Of several, the one with the most above the process; where they are alike, the later one lies on top.
        if (!rest || (found && mount->root.size() > found_root)) continue;
        found = mount->point + std::string(*rest);
        found_root = mount->root.size();
    }
    return found;
}

}  // namespace detail

std::variant<MemoryCgroup, std::string> MemoryCgroup::make(const std::string& directory) {
    std::string place = directory;
    if (place.empty()) {
        const auto own = own_directory();
        if (const auto* const reason = std::get_if<std::string>(&own)) return *reason;
        const auto& found = std::get<std::optional<std::string>>(own);
        if (!found) return std::string("no cgroup v2 hierarchy is mounted that this process is in");
        place = *found;
    }
    if (std::string reason = why_not_below(place); !reason.empty()) return reason;
    static std::atomic<unsigned> made = 0;
    std::string path;
    int error = EEXIST;  // of a process that had our number before
    while (error == EEXIST) {
        path = fmt::format("{}/procrun-{}-{}", place, ::getpid(), made++);
        error = ::mkdir(path.c_str(), 0755) == -1 ? errno : 0;
    }
    if (error != 0) return fmt::format("make cgroup '{}': {}", path, text_of(error));
    auto cgroup = adopt(path);
    if (std::holds_alternative<std::string>(cgroup)) ::rmdir(path.c_str());
    return cgroup;
}

std::variant<MemoryCgroup, std::string> MemoryCgroup::adopt(std::string directory) {
    UniqueFd fd = open_directory(directory);
    if (!fd) return fmt::format("open '{}': {}", directory, text_of(errno));
    for (const char* const name : {"cgroup.procs", "memory.max", "memory.current", "memory.events"}) {
        const bool is_written = name == std::string_view("cgroup.procs") || name == std::string_view("memory.max");
        if (::faccessat(fd.get(), name, is_written ? W_OK : R_OK, AT_EACCESS) == -1) {
            return fmt::format("use '{}/{}': {}", directory, name, text_of(errno));
        }
    }
    // Processes that a killed one has forked go with it. Linux 4.19.
    const int error = write_file(fd.get(), "memory.oom.group", "1");
    if (error != 0 && error != ENOENT) {
        return fmt::format("write '{}/memory.oom.group': {}", directory, text_of(error));
    }
    return MemoryCgroup(std::move(directory), std::move(fd));
}

MemoryCgroup::MemoryCgroup(std::string directory, UniqueFd fd) noexcept
    : directory_(std::move(directory)), fd_(std::move(fd)) {}

MemoryCgroup::MemoryCgroup(MemoryCgroup&& other) noexcept
    : directory_(std::exchange(other.directory_, {})), fd_(std::move(other.fd_)) {}

MemoryCgroup& MemoryCgroup::operator=(MemoryCgroup&& other) noexcept {
    if (this != &other) {
        remove();
        directory_ = std::exchange(other.directory_, {});
        fd_ = std::move(other.fd_);
    }
    return *this;
}

MemoryCgroup::~MemoryCgroup() { remove(); }

void MemoryCgroup::remove() noexcept {
    const std::string directory = std::exchange(directory_, {});
    fd_.reset();
    if (!directory.empty()) ::rmdir(directory.c_str());
}

int MemoryCgroup::add(pid_t pid) noexcept {
    const fmt::format_int text(pid);
    return write_file(fd_.get(), "cgroup.procs", {text.data(), text.size()});
}

int MemoryCgroup::limit(std::optional<std::uint64_t> bytes) noexcept {
    // There is no such file where there is no swap, or where it is not counted.
    const int swap_error = write_file(fd_.get(), "memory.swap.max", bytes ? "0" : "max");
    if (swap_error != 0 && swap_error != ENOENT) return swap_error;
    if (!bytes) return write_file(fd_.get(), "memory.max", "max");
    Text text{};
    if (const int error = read_file(fd_.get(), "memory.current", text); error != 0) return error;
    const std::optional<std::uint64_t> current = number_at(text.data());
    if (!current) return EIO;
    const std::uint64_t left = std::numeric_limits<std::uint64_t>::max() - *current;
    if (*bytes > left) return write_file(fd_.get(), "memory.max", "max");
    const fmt::format_int most(*current + *bytes);
    return write_file(fd_.get(), "memory.max", {most.data(), most.size()});
}

std::optional<std::uint64_t> MemoryCgroup::oom_kills() const noexcept {
    Text text{};
    if (read_file(fd_.get(), "memory.events", text) != 0) return std::nullopt;
    constexpr std::string_view kName = "\noom_kill ";  // never the first line
    const char* const found = std::strstr(text.data(), kName.data());
    return found == nullptr ? std::nullopt : number_at(found + kName.size());
}

}  // namespace procrun
