#pragma once

#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace tests {

[[nodiscard]] inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// The errno of the std::system_error that `action` throws; 0 when it throws nothing.
template <class Action>
[[nodiscard]] int error_of(Action&& action) {
    try {
        action();
    } catch (const std::system_error& error) {
        return error.code().value();
    }
    return 0;
}

/// The message of the std::system_error that `action` throws; empty when it throws nothing.
template <class Action>
[[nodiscard]] std::string message_of(Action&& action) {
    try {
        action();
    } catch (const std::system_error& error) {
        return error.what();
    }
    return {};
}

/// How a child ended: with `exit_status`, which is -1 when `signal` ended it.
struct ChildEnd {
    int exit_status = -1;
    int signal = 0;
    bool operator==(const ChildEnd&) const = default;
};
std::ostream& operator<<(std::ostream& out, const ChildEnd& end);

inline constexpr ChildEnd kChildExitedWell{0, 0};
/// What a child returns where it may not do what the test needs, and the test is skipped.
inline constexpr int kNotHere = 77;

/// Forks, runs `body` in the child and waits until the child has ended. `body` returns the exit status. An exception is
/// printed and gives exit status 125. Assertions in the child are lost: return the result and assert it here.
[[nodiscard]] ChildEnd in_child(const std::function<int()>& body);

/// Sets the action of signal `number` in this process, which must be a child: SIG_DFL where a sanitizer has a handler,
/// SIG_IGN to get an errno in place of the signal.
void set_action(int number, void (*action)(int));

/// How a command ended and what it printed.
struct CommandResult {
    ChildEnd end;
    std::string out;
    std::string err;
};

struct CommandInput {
    std::string text;                      ///< standard input
    std::vector<std::string> environment;  ///< "NAME=value", added to the environment of this process
    std::string out_path;                  ///< file for standard output, such as "/dev/full"; empty: captured
};

/// Runs `argv`, looked up in PATH, to its end.
/// Throws: std::system_error -- posix_spawn's errno with the name.
[[nodiscard]] CommandResult run_command(const std::vector<std::string>& argv, const CommandInput& input = {});

/// A temporary directory. The destructor removes it with all that is in it.
class TemporaryDirectory {
public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

/// Lowers a soft limit until the end of this object's life.
class ScopedLimit {
public:
    ScopedLimit(int resource, rlim_t soft);
    ~ScopedLimit();
    ScopedLimit(const ScopedLimit&) = delete;
    ScopedLimit& operator=(const ScopedLimit&) = delete;

private:
    int resource_;
    rlimit previous_{};
};

/// The address space of this process, in bytes: what RLIMIT_AS limits.
[[nodiscard]] std::size_t address_space_bytes();

/// `bytes` random bytes, always the same for the same `seed`.
[[nodiscard]] std::vector<std::byte> noise(std::size_t bytes, unsigned seed = 1);

inline void sleep_ms(int ms) {
    timespec left{.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1'000'000L};
    while (::nanosleep(&left, &left) != 0) continue;
}

/// Waits until `is_so()`, at most 20 s: only a broken program takes that long.
template <class Predicate>
[[nodiscard]] bool eventually(Predicate&& is_so) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!is_so()) {
        if (std::chrono::steady_clock::now() > give_up) return false;
        sleep_ms(1);
    }
    return true;
}

/// Whether process `pid` runs. A zombie does not.
[[nodiscard]] inline bool is_running(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string stat;
    if (!std::getline(file, stat)) return false;
    const std::size_t name_end = stat.rfind(')');
    return name_end != std::string::npos && stat.size() > name_end + 2 && stat[name_end + 2] != 'Z' &&
           stat[name_end + 2] != 'X';
}

}  // namespace tests
