#pragma once

#include <sys/resource.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace tests {

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

/// What the std::system_error says that `action` throws; empty when it throws nothing.
template <class Action>
[[nodiscard]] std::string message_of(Action&& action) {
    try {
        action();
    } catch (const std::system_error& error) {
        return error.what();
    }
    return {};
}

/// How a child ended: `exit_status`, or -1 where `signal` ended it.
struct ChildEnd {
    int exit_status = -1;
    int signal = 0;
    bool operator==(const ChildEnd&) const = default;
};
std::ostream& operator<<(std::ostream& out, const ChildEnd& end);

inline constexpr ChildEnd kChildExitedWell{0, 0};

/// Forks, runs `body` in the child and waits for its end. `body` returns the exit status; an exception is printed and
/// is exit status 125. Assertions in the child are lost: return what is to be asserted.
[[nodiscard]] ChildEnd in_child(const std::function<int()>& body);

/// Sets what `number` does to this process, a child: SIG_DFL where a sanitizer has its handler, SIG_IGN for an errno in
/// place of the signal.
void set_action(int number, void (*action)(int));

/// What a command printed and how it ended.
struct CommandResult {
    ChildEnd end;
    std::string out;
    std::string err;
};

struct CommandInput {
    std::string text;                      ///< what it reads from its standard input
    std::vector<std::string> environment;  ///< "NAME=value", added to that of this process
    std::string out_path;                  ///< where its standard output goes, as in "/dev/full"; empty: captured
};

/// Runs `argv`, looked up in PATH, to its end.
/// Throws: std::system_error -- posix_spawn's errno with the name.
[[nodiscard]] CommandResult run_command(const std::vector<std::string>& argv, const CommandInput& input = {});

/// A folder that goes with all that is in it.
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

/// Lowers a soft limit for as long as it lives.
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

/// A reproducible stream of bytes.
[[nodiscard]] std::vector<std::byte> noise(std::size_t bytes, unsigned seed = 1);

}  // namespace tests
