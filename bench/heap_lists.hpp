#pragma once

#include "bench/heap_rounds.hpp"

namespace bench {

/// Adds the rows of structures that share as a whole, beside std::vector and memcpy: `list/set_unique`, random places
/// of a list of `sizes` that nobody shares; `list/first_write_shared`, which copies it into memory that was used
/// before, and `list/first_write_fresh`, into pages that the kernel has still to give; `list/push`, from empty.
void add_list_rows(const BenchSizes& sizes, HeapRounds& rounds);

}  // namespace bench
