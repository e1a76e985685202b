#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows `raw/...`: what a call by value consists of, each by the bare system calls that one would write
/// without a library. What is timed is nothing but these and the writes.
///
///     raw/ping_pong         a request and its reply between two processes that both wait for them
///     raw/map_private       mapping the whole value copy-on-write, in place of the mapping before
///     raw/fork_heap         a process forked to see the value in ordinary heap pages, until it has been reaped
///     raw/cow_write/N       mapping the value copy-on-write and writing 8 bytes each to N scattered pages
///     raw/shared_write/256  the same writes where no page has to be copied or mapped: the writes themselves
void register_raw_rows(const BenchSizes& sizes);

}  // namespace bench
