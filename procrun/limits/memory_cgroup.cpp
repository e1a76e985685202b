#include "procrun/limits/memory_cgroup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/cgroup.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace procrun {
namespace {

using vmcow::sys::has_controller;
using vmcow::sys::retry_interrupted;
using vmcow::sys::UniqueFd;

std::string text_of(int error) { return std::generic_category().message(error); }

// ---- the files of a cgroup, relative to the descriptor of its directory; no allocation; they return 0 or an errno

int write_file(int directory, const char* name, std::string_view text) noexcept {
    const UniqueFd fd(retry_interrupted([&] { return ::openat(directory, name, O_WRONLY | O_TRUNC | O_CLOEXEC); }));
    if (!fd) return errno;
    // In one write(2): the kernel takes each as a command.
    const ssize_t written = retry_interrupted([&] { return ::write(fd.get(), text.data(), text.size()); });
    if (written < 0) return errno;
    return static_cast<std::size_t>(written) == text.size() ? 0 : EIO;
}

using Text = std::array<char, 1024>;

/// Reads into `text`, which is null-terminated then.
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

/// The cgroup directory of this process; nullopt where it is in no mounted hierarchy; a string with the reason when the
/// files that tell cannot be read.
std::variant<std::string, std::optional<std::string>> own_directory() {
    try {
        return vmcow::sys::cgroup_directory(vmcow::sys::read_text_file("/proc/self/cgroup"),
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
    if (!has_controller(text.data(), "memory")) {
        std::string_view rest = text.data();
        const std::string_view controllers = vmcow::sys::take_line(rest);
        return fmt::format("cgroup '{}' has no memory controller (it has: {})", path,
                           controllers.empty() ? "none" : controllers);
    }
    if (const int error = read_file(directory.get(), "cgroup.subtree_control", text); error != 0) {
        return fmt::format("read '{}/cgroup.subtree_control': {}", path, text_of(error));
    }
    if (has_controller(text.data(), "memory")) return {};
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
    int error = EEXIST;  // a process that had our pid before may have left its cgroup
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
    // With memory.oom.group the kernel kills the processes that a killed one has forked as well. Linux 4.19.
    const int error = write_file(fd.get(), "memory.oom.group", "1");
    if (error != 0 && error != ENOENT) {
        return fmt::format("write '{}/memory.oom.group': {}", directory, text_of(error));
    }
    return MemoryCgroup(std::move(directory), std::move(fd));
}

MemoryCgroup::MemoryCgroup(std::string directory, UniqueFd fd) noexcept
    : directory_(std::move(directory)), fd_(std::move(fd)) {}

MemoryCgroup::MemoryCgroup(MemoryCgroup&& other) noexcept
    : directory_(std::exchange(other.directory_, {})), fd_(std::move(other.fd_)), owner_(other.owner_) {}

MemoryCgroup& MemoryCgroup::operator=(MemoryCgroup&& other) noexcept {
    if (this != &other) {
        remove();
        directory_ = std::exchange(other.directory_, {});
        fd_ = std::move(other.fd_);
        owner_ = other.owner_;
    }
    return *this;
}

MemoryCgroup::~MemoryCgroup() { remove(); }

void MemoryCgroup::remove() noexcept {
    const std::string directory = std::exchange(directory_, {});
    fd_.reset();
    if (!directory.empty() && owner_.is_this_process()) ::rmdir(directory.c_str());
}

int MemoryCgroup::add(pid_t pid) noexcept {
    const fmt::format_int text(pid);
    return write_file(fd_.get(), "cgroup.procs", {text.data(), text.size()});
}

int MemoryCgroup::limit(std::optional<std::uint64_t> bytes) noexcept {
    // ENOENT: the file is missing where there is no swap, or where the kernel does not count it.
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
