#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "procrun/program/program_child.hpp"

namespace procrun::detail {

// The descriptors that the launcher finds open when it begins: its socket, and a pidfd of the caller. Only the caller
// is at the other end of the socket, and both ends are from one build: the protocol has no version, and the launcher
// does not check what the caller has checked.
inline constexpr int kLauncherSocketFd = 3;
inline constexpr int kCallerPidfd = 4;

/// The first message of the launcher.
struct LauncherGreeting {
    pid_t pid = -1;  ///< the launcher's own view of its pid; the caller sees another number across a pid namespace
};

/// A request to start one program. Without words it asks the launcher to end at once.
///
/// Shape: the request, then a body in the same message or, when that would be too long, in a memfd. The descriptors
///        that come with it are, in this order: the memfd of the body if there is one, the terminal if there is one,
///        and the sources of `moves`. Those beyond kMaxMessageFds come with further messages of one byte.
struct LaunchRequest {
    std::uint64_t body_bytes = 0;
    std::uint64_t ignored_signals = 0;
    std::uint32_t words = 0;
    std::uint32_t variables = 0;
    std::uint32_t paths = 0;
    std::uint32_t moves = 0;
    std::uint32_t limits = 0;
    std::uint32_t fds = 0;
    pid_t caller = -1;
    pid_t process_group = 0;
    bool body_in_file = false;
    bool has_terminal = false;
    bool has_directory = false;
    bool has_process_group = false;
    bool watched = false;       ///< the program is to be killed when the caller ends
    bool death_signal = false;  ///< PR_SET_PDEATHSIG is to be set as well
    bool take_back = false;     ///< in a request to end: kill the last program too, because its answer did not arrive
    std::uint8_t reserved = 0;
};
static_assert(sizeof(LaunchRequest) % 8 == 0, "the body is aligned");

/// Where things lie in a body, in bytes from its beginning. At `words`, `variables`, `paths` and `directory` stand
/// 64-bit numbers, each the place of a string in the body; the first three are lists that end with a 0. The launcher
/// turns the numbers into pointers.
struct LaunchLayout {
    std::size_t words;
    std::size_t variables;
    std::size_t paths;
    std::size_t directory;
    std::size_t moves;
    std::size_t limits;
    std::size_t fds;  ///< room for the descriptors' numbers in the launcher
    std::size_t strings;
};

[[nodiscard]] constexpr LaunchLayout layout_of(const LaunchRequest& request) noexcept {
    constexpr std::size_t kSlot = sizeof(std::uint64_t);
    LaunchLayout layout{};
    layout.variables = layout.words + (request.words + std::size_t{1}) * kSlot;
    layout.paths = layout.variables + (request.variables + std::size_t{1}) * kSlot;
    layout.directory = layout.paths + (request.paths + std::size_t{1}) * kSlot;
    layout.moves = layout.directory + kSlot;
    layout.limits = layout.moves + request.moves * sizeof(DescriptorMove);
    layout.fds = layout.limits + request.limits * sizeof(ResourceLimit);
    layout.strings = layout.fds + request.fds * sizeof(int);
    return layout;
}
static_assert(sizeof(DescriptorMove) % 8 == 0 && sizeof(ResourceLimit) % 8 == 0, "what follows is aligned");
static_assert(sizeof(char*) == sizeof(std::uint64_t), "a place becomes a pointer of the same size");

enum class LaunchResult : int {
    started,      ///< the program runs
    not_started,  ///< `failure` says why; the caller reaps the process that was made for the program
    refused,      ///< there is no process; `failure.error` says why
};

/// The answer to a request. The pidfd comes with it, unless the launcher refused or could not send the descriptor.
struct LaunchReply {
    LaunchResult result = LaunchResult::refused;
    pid_t pid = -1;
    StartFailure failure;
};

}  // namespace procrun::detail
