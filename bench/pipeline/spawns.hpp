#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows about starting programs. The time is from the call that starts them until all have been reaped.
///
///     spawn/from_small          `true`, through a Launcher that runs already; the first of all rows, when this process
///                               has little memory
///     spawn/from_4GiB           `true`, through the Launcher, from this process with four times the value in pages of
///                               4 KiB, all touched
///     raw/fork_exec_from_4GiB   `true` from that process with fork and exec: the cost without a launcher
///     raw/vfork_exec_from_4GiB  `true` from that process with posix_spawn, which shares the memory until the exec
///     pipeline/3_true           run_pipeline of `true | true | true`, with its report
///     raw/dash_3_true           dash running `true | true | true`
void register_spawn_rows(const BenchSizes& sizes);

}  // namespace bench
