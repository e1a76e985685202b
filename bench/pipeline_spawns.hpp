#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows about starting programs: from the call that starts them until all have been reaped.
///
///     spawn/from_small          `true`, through a Launcher that runs already; first of all rows, before this process
///                               has memory worth mentioning
///     spawn/from_4GiB           the same from this process with four times the value in pages of 4 KiB, all touched
///     raw/fork_exec_from_4GiB   the same with fork and exec: what it would cost without a launcher
///     raw/vfork_exec_from_4GiB  the same with posix_spawn, which shares the memory until the exec
///     pipeline/3_true           run_pipeline of `true | true | true`, with its report
///     raw/dash_3_true           a dash that does the same
void register_spawn_rows(const BenchSizes& sizes);

}  // namespace bench
