#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <span>

namespace procrun {

/// What a child does between clone and exec, in this order.
enum class StartStep : int {
    die_with_parent,
    set_process_group,
    take_terminal,
    reset_signals,
    change_directory,
    place_descriptor,
    hide_descriptors,
    set_limit,
    unblock_signals,
    execute,
};

/// What a child reports before it gives up: one write to its error pipe, far below PIPE_BUF, or one store.
struct StartFailure {
    StartStep step = StartStep::execute;
    int error = 0;     ///< errno; 0 where nothing failed
    int subject = -1;  ///< for `place_descriptor` the child's number of the descriptor, for `set_limit` the resource
};

/// One descriptor of the child: `source` in the parent becomes `target`.
struct DescriptorMove {
    int target = -1;
    int source = -1;
};

/// A limit as setrlimit(2) takes it.
struct ResourceLimit {
    int resource = -1;
    rlimit value{};
};

/// The bit of `ChildPlan::ignored_signals` that stands for a signal.
[[nodiscard]] constexpr std::uint64_t signal_bit(int number) noexcept { return std::uint64_t{1} << (number - 1); }

/// All that the child needs. The parent makes it, because the child must not allocate. It lies in memory that the child
/// has a copy of or, with `failure`, shares with a parent that waits. The child changes `moves`.
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
    int terminal = -1;  ///< the child's group becomes the foreground group of this terminal; -1 for none
    std::uint64_t ignored_signals = 0;  ///< see `signal_bit`
    bool signals_are_default = false;   ///< all dispositions are default: only `ignored_signals` need to be set
    std::span<DescriptorMove> moves;
    std::span<const ResourceLimit> limits;  ///< set in this order, after the steps that a limit could make fail
    int error_fd = -1;                      ///< close-on-exec, and no target of a move
    StartFailure* failure = nullptr;        ///< instead of `error_fd`, where the memory is shared
};

/// Duplicates `fd`, close-on-exec, to the lowest free number that is above 2 and no target of `moves`. Returns -1 with
/// errno: EBADF, EMFILE.
/// After fork: may be called.
[[nodiscard]] int duplicate_beside(int fd, std::span<const DescriptorMove> moves) noexcept;

/// The child's half of a start. It ends in the new program, or with a StartFailure in the error pipe (or in
/// `plan.failure`) and exit status 127.
///
/// Pre:        all signals are blocked.
/// Invariant:  I7.
/// Source:     signal-safety(7); close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11.
[[noreturn]] void run_child(const ChildPlan& plan) noexcept;

}  // namespace procrun
