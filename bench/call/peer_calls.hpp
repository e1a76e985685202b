#pragma once

#include <optional>

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows `peer/...`: what one would use instead of a warm function process to pass a value to another process.
///
///     peer/fork_call         a process forked for one call by value; it writes one page
///     peer/posix_spawn_pipe  a program started for one call; all bytes of the value go through a pipe
///     peer/message_queue     a process that runs already; all bytes go through a Boost.Interprocess message queue
///
/// A receiver of bytes reads them into one small buffer again and again, and answers with a count. If it kept the
/// value, it would also have to find memory for it.
void register_peer_rows(const BenchSizes& sizes);

/// main() calls this first. If the command line is the one with which `peer/posix_spawn_pipe` starts this program,
/// reads the value from standard input, answers on standard output, and returns the exit status. Else nothing.
[[nodiscard]] std::optional<int> run_as_peer(int argc, const char* const* argv) noexcept;

}  // namespace bench
