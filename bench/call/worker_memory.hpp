#pragma once

#include <optional>

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows `memory/...`: the memory that 64 warm workers keep beyond the image, when each has written 256 pages
/// of one snapshot: their `Anonymous:` and their page tables. The label says how much that is. memory/64_workers fails
/// past its bound.
///
///     memory/64_workers            the pages lie in a part of 64 MiB
///     memory/64_workers_scattered  the pages lie all over the value: the kernel needs a page table for each 2 MiB
void register_memory_rows(const BenchSizes& sizes);

/// main() calls this first. If the command line is the one with which these rows start this program, makes the pool,
/// prints the bytes, and returns the exit status. Else nothing. The pool needs a separate program, because workers
/// begin as copies of the process that makes the pool, and a benchmark has its own figures in memory.
[[nodiscard]] std::optional<int> run_as_pool_of_workers(int argc, const char* const* argv) noexcept;

}  // namespace bench
