#pragma once

#include <optional>
#include <string_view>

namespace procrun {

/// What a thread was doing at one moment, as /proc/PID/task/TID/syscall tells.
struct BlockedCall {
    enum class Kind {
        none,     ///< it was running or ready to run
        reads,    ///< asleep in a call that reads from `in`
        writes,   ///< asleep in a call that writes to `out`
        moves,    ///< asleep in splice(2) or a call like it, from `in` to `out`
        polls,    ///< asleep in a call that waits for any of several descriptors
        waits,    ///< asleep, and on no descriptor: a lock, a child, a clock, a page from disk
        unclear,  ///< asleep in a call that is not known: resumed after a signal, or of a 32-bit program
        ended,    ///< a zombie
    };
    Kind kind = Kind::none;
    int in = -1;
    int out = -1;

    bool operator==(const BlockedCall&) const = default;
};

/// Parses the line of /proc/PID/task/TID/syscall; nullopt when it is no such line.
/// Source: proc(5); the kernel's proc_pid_syscall.
[[nodiscard]] std::optional<BlockedCall> parse_blocked_call(std::string_view line);

/// What a thread does, by the name of the kernel function in which it sleeps (/proc/PID/task/TID/wchan): it reads or
/// writes some pipe, or it is unclear. For threads whose call this process may not see.
[[nodiscard]] BlockedCall::Kind kind_of_kernel_function(std::string_view name);

}  // namespace procrun
