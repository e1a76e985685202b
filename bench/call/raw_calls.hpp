#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows `raw/...`: the parts of a call by value, each done by the bare system calls that one would write
/// without a library. Only these calls and the writes are timed.
///
///     raw/ping_pong         a request and its reply between two processes that both wait for them
///     raw/map_private       mapping the whole value copy-on-write, in place of the mapping before
///     raw/fork_heap         forking a process that has the value in ordinary heap pages, until it has been reaped
///     raw/cow_write/N       mapping the value copy-on-write and writing 8 bytes each to N scattered pages
///     raw/shared_write/256  writing 8 bytes each to 256 scattered pages that need not be copied or mapped
void register_raw_rows(const BenchSizes& sizes);

}  // namespace bench
