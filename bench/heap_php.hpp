#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the row `php/first_write_fresh`, where there is a PHP: the first write to an array of a million that another
/// variable shares, which copies it. PHP asks the kernel for the copy's memory each time, and gives it back, so that
/// its pages are fresh; `list/first_write_fresh` has such pages too.
void add_php_rows(const BenchSizes& sizes);

}  // namespace bench
