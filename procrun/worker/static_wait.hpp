#pragma once

#include <sys/types.h>

#include <string_view>

namespace procrun::detail {

/// The outcome's text for a call that uses a static variable of a function which the caller was still initializing when
/// it forked the worker.
inline constexpr std::string_view kStaticIsNotThere =
    "a static variable of a function, which holds the pool that runs this call, is not there yet in the pool's own "
    "processes: make it a global variable, or a member of one, to call through it here";

/// Whether a process has one thread, and this thread waits for ever for a static variable of a function: the thread
/// that was initializing the variable at the fork exists in the parent alone. False where the kernel does not tell.
///
/// Libstdc++ throws instead of waiting where there never was a second thread, before the fork or after it. Where there
/// was one, the process itself cannot notice that it waits in vain, so its parent has to look.
///
/// Cost:   15 µs, two files of /proc.
/// Source: proc(5) /proc/PID/syscall, which wants the right to ptrace it; the Itanium C++ ABI's one-time construction
///         guard as libstdc++ waits for it: futex(2) FUTEX_WAIT, not private, for a word whose bits 8 and 16 are set.
[[nodiscard]] bool waits_for_static_variable(pid_t pid) noexcept;

}  // namespace procrun::detail
