#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "procrun/program_child.hpp"

namespace procrun::detail {

/// What the launcher finds open when it begins. It is the only process on the other end of its socket, and both ends
/// are from one build: there is no version and nothing is checked twice.
inline constexpr int kLauncherSocketFd = 3;
inline constexpr int kCallerPidfd = 4;

/// The first thing that the launcher says.
struct LauncherGreeting {
    pid_t pid = -1;  ///< as it sees itself: another number than its parent's where a pid namespace lies between
};

/// One program to be started; without words, the wish that the launcher end at once.
///
/// Shape: the request, then a body, in the same message or, past the longest message, in a memfd. Of the descriptors
/// that
///        come along the first is the body's file if there is one, the next the terminal if there is one, the others
///        the sources of `moves` in their order. Those beyond kMaxMessageFds come with messages of one byte.
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
    bool watched = false;       ///< to be killed when the caller ends
    bool death_signal = false;  ///< PR_SET_PDEATHSIG as well
    std::uint16_t reserved = 0;
};
static_assert(sizeof(LaunchRequest) % 8 == 0, "the body is aligned");

/// Where things lie in a body, in bytes from its beginning. `words`, `variables`, `paths` and `directory` are numbers
/// of 64 bits, the place of a string in the body; the three lists end with a 0. In the launcher they become pointers.
struct LaunchLayout {
    std::size_t words;
    std::size_t variables;
    std::size_t paths;
    std::size_t directory;
    std::size_t moves;
    std::size_t limits;
    std::size_t fds;  ///< room for the numbers that the launcher gets
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
static_assert(sizeof(char*) == sizeof(std::uint64_t), "a place becomes a pointer where it stands");

enum class LaunchResult : int {
    started,      ///< the program runs
    not_started,  ///< `failure` says why; the process that was made for it is to be reaped
    refused,      ///< there is no process: `failure.error` says why
};

/// With it comes the pidfd, unless the launcher refused.
struct LaunchReply {
    LaunchResult result = LaunchResult::refused;
    pid_t pid = -1;
    StartFailure failure;
};

}  // namespace procrun::detail
