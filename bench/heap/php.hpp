#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the row `php/first_write_fresh` if PHP is installed: the first write to an array of a million that another
/// variable shares, which copies the array. PHP gets the memory of each copy from the kernel and returns it, so that
/// the pages are fresh. `list/first_write_fresh` copies into fresh pages too.
void add_php_rows(const BenchSizes& sizes);

}  // namespace bench
