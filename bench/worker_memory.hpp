#pragma once

#include <optional>

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows `memory/...`: what 64 warm workers keep that have each written 256 pages of one snapshot, beyond the
/// image: their `Anonymous:` and their page tables. The label says how much that is; a row fails past its bound.
///
///     memory/64_workers            the pages lie in a part of 64 MiB
///     memory/64_workers_scattered  all over the value: for each 2 MiB written to, the kernel needs a page table
void register_memory_rows(const BenchSizes& sizes);

/// What main() asks: where the command line is the one with which these rows start this same program, makes the pool,
/// prints the bytes, and returns the exit status. A program of its own, because workers begin as copies of the process
/// that makes the pool, and a benchmark has its own figures in memory.
[[nodiscard]] std::optional<int> run_as_pool_of_workers(int argc, const char* const* argv) noexcept;

}  // namespace bench
