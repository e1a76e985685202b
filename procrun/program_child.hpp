#pragma once

#include <sys/types.h>

#include <span>

namespace procrun {

/// What a child does between clone and exec, in this order.
enum class StartStep : int {
    die_with_parent,
    set_process_group,
    reset_signals,
    change_directory,
    place_descriptor,
    hide_descriptors,
    unblock_signals,
    execute,
};

/// What a child writes to its error pipe before it gives up: one write, far below PIPE_BUF.
struct StartFailure {
    StartStep step = StartStep::execute;
    int error = 0;
    int descriptor = -1;  ///< the child's number, for `place_descriptor`
};

/// One descriptor of the child: `source` in the parent becomes `target`.
struct DescriptorMove {
    int target = -1;
    int source = -1;
};

/// All that the child needs, made by the parent: the child must not allocate. It lies in memory that the child has a
/// copy of, and the child changes `moves`.
///
/// Shape: `argv`, `environment` and `paths` end with a null pointer, as execve(2) takes them; `paths` are tried in
///        turn; `moves` are sorted by target, each target once; `directory` and `process_group` may be null.
struct ChildPlan {
    const char* const* argv = nullptr;
    const char* const* environment = nullptr;
    const char* const* paths = nullptr;
    const char* directory = nullptr;
    const pid_t* process_group = nullptr;
    bool die_with_parent = false;
    pid_t parent = -1;
    std::span<DescriptorMove> moves;
    int error_fd = -1;  ///< close-on-exec, and no target of a move
};

/// A close-on-exec duplicate of `fd` that is above 2 and is no target of `moves`: the lowest such number that is free.
/// Returns -1 with errno: EBADF, EMFILE.
/// After fork: may be called.
[[nodiscard]] int duplicate_beside(int fd, std::span<const DescriptorMove> moves) noexcept;

/// The child's half of a start: ends in the new program, or with a StartFailure in the error pipe and exit status 127.
///
/// Pre:        all signals are blocked.
/// Invariant:  I7.
/// Source:     signal-safety(7); close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11.
[[noreturn]] void run_child(const ChildPlan& plan) noexcept;

}  // namespace procrun
