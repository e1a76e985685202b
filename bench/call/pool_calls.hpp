#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Makes the pool and adds the rows `call/...`: calls of warm function processes with a value in huge pages, by value.
/// Each function is called again and again.
///
///     call/null                 no argument, a number as the result
///     call/by_value/SIZE        the value, mapped private; nothing is written (16 GiB: a sparse value)
///     call/by_value_write/N     8 bytes written to each of N scattered pages, and discarded when the function ends
///     call/apply_write/N        8 bytes written to each of N scattered pages, which come back as a snapshot
///     call/moved_write/256      8 bytes written in place to each of 256 pages, in a value moved there and back
void register_pool_rows(const BenchSizes& sizes);

/// Ends the pool, so that no process is left when the program ends.
void end_pool();

}  // namespace bench
