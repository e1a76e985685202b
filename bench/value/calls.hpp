#pragma once

#include <optional>

#include "bench/value/rows.hpp"

namespace bench {

/// Makes the pool and adds the rows about values that function processes change.
///
///     value/apply_chain       100 calls in a row, each of which changes 16 pages of the value that the call before
///                             made; every value on the way is kept
///     raw/fork_chain          the same with the value in ordinary heap pages: a process forked for each step sends the
///                             changed pages through a pipe, and the parent exchanges them with its own, which it keeps
///     memory/apply_chain      the time to run the chain in a separate program, which reports all memory that its
///                             processes hold in the end; fails if that is more than 1.1 times what has to be there:
///                             the base and each changed page once
///     map_parts/one, all      a function that computes over all pages of a value and writes to each, in one function
///                             process, and in as many as there are processors
///     raw/function_in_place   that function called in this process, in ordinary memory
void register_call_rows(const BenchSizes& sizes, const BaseValue& base);

/// Ends the pool, so that no process is left when the program ends.
void end_value_pool();

/// main() calls this first. If the command line is the one with which `memory/apply_chain` starts this program, runs
/// the chain, prints the bytes, and returns the exit status. Else nothing.
[[nodiscard]] std::optional<int> run_as_chain(int argc, const char* const* argv) noexcept;

}  // namespace bench
