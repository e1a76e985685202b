#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Makes the pool and adds the rows `call/...`: by-value calls through warm function processes, of a value in huge
/// pages. Each function is called again and again.
///
///     call/null                 no argument, a number as the result
///     call/by_value/SIZE        the value, private; nothing is written (16 GiB: sparse)
///     call/by_value_write/N     8 bytes written to each of N scattered pages, which the function's end undoes
///     call/apply_write/N        the same, and what has changed comes back as a snapshot
///     call/moved_write/256      the same in place, the value being moved there and back
void register_pool_rows(const BenchSizes& sizes);

/// Ends the pool: no process is left when the program ends.
void end_pool();

}  // namespace bench
