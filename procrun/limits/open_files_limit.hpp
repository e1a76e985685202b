#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

namespace procrun {

/// While this lives, the process can open only `more` descriptors beyond those that were open at first. It lowers the
/// soft RLIMIT_NOFILE, and the destructor puts it back. RLIMIT_NOFILE bounds the number of a descriptor and not how
/// many there are. The kernel hands out the lowest free number, so the limit is set where `more` numbers below it are
/// free. It guards against mistakes only: a process can raise its own soft limit again.
///
///     OpenFilesLimit files(limits.open_files);
///     try {
///         function();
///     } catch (const std::system_error& error) {
///         if (files.is_reason_of(error)) …  // limit exceeded: OpenFilesLimit::reason(…)
///     }
///
/// Pre:     no other thread opens or closes descriptors meanwhile.
/// Cost:    two system calls and an fcntl(2) for each number below the new limit. poll(2) of many at once would be
///          faster, but it takes O_PATH descriptors for closed ones; reading /proc/self/fd takes a descriptor itself.
/// Threads: the limit is one of the whole process.
/// After fork: async-signal-safe, no allocation (I7); a child forked meanwhile inherits the limit.
/// Source:  getrlimit(2) and setrlimit(2), which are plain system calls in glibc.
class OpenFilesLimit {
public:
    /// nullopt: no limit; the constructor does nothing.
    explicit OpenFilesLimit(std::optional<std::uint32_t> more) noexcept;
    ~OpenFilesLimit();
    OpenFilesLimit(const OpenFilesLimit&) = delete;
    OpenFilesLimit& operator=(const OpenFilesLimit&) = delete;

    /// 0, or the errno with which the kernel refused the limit.
    [[nodiscard]] int error() const noexcept { return error_; }
    /// Whether the limit was lowered. False also when the soft limit allows no more than `more` anyway.
    [[nodiscard]] bool in_force() const noexcept { return in_force_; }
    /// Whether an error of the function comes from this limit.
    [[nodiscard]] bool is_reason_of(const std::system_error& error) const noexcept;

    /// The text of the outcome when the limit is exceeded: "open files: at most 16".
    [[nodiscard]] static std::string reason(std::uint32_t more);

private:
    rlim_t previous_ = 0;
    int error_ = 0;
    bool in_force_ = false;
};

}  // namespace procrun
