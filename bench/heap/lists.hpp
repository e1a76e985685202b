#pragma once

#include "bench/heap/rounds.hpp"

namespace bench {

/// Adds the rows of lists, which are shared as a whole, beside std::vector and memcpy.
///
///     list/set_unique            writes to random places of a list that nobody shares
///     list/push                  pushes to a list that begins empty
///     list/push_in_place         the same for at most 8192 elements, by `push_in_place`
///     list/push_lvalue_assigned  the same by `list = list.push(i)`, which copies the list each time
///     list/first_write_shared    a first write, which copies the list into memory that was used before
///     list/first_write_fresh     a first write, which copies the list into pages that are fresh from the kernel
///     raw/memcpy                 a copy of as many bytes
void add_list_rows(const BenchSizes& sizes, HeapRounds& rounds);

}  // namespace bench
