#pragma once

#include "bench/value/rows.hpp"

namespace bench {

/// Adds the rows about values within one process, each beside what one would do with ordinary memory.
///
///     value/copy_first/1GiB     the first copy of a value that has one handle, and one byte of the copy changed:
///                               freeze, map privately, copy a page. From there on the two are independent
///     value/copy_handle/1GiB    of copy_first, the copy alone: a counter goes up
///     value/edit_shared/1GiB    of copy_first, the change alone: all the work that the copy has put off
///     value/copy/1GiB           a further copy of a value that was copied before, made and destroyed
///     value/copy_and_edit/1GiB  a further copy with one byte changed, made and destroyed
///     raw/memcpy/1GiB           a copy of all bytes into memory that has its pages already
///     value/diff/1GiB           finding where two values differ that have 256 changed pages each
///     value/merge/1GiB          joining the changes of both values in one value
///     raw/memcmp/1GiB           comparing two buffers page by page, which is needed if nobody knows what was written
///     value/make_small          a value of a vector of 16 numbers, made and destroyed
///     raw/make_vector           a std::vector of 16 numbers, made and destroyed
///     value/push                appending a number to a vector in a value that nobody shares
///     raw/push                  appending a number to a std::vector
void register_copy_rows(const BenchSizes& sizes, const BaseValue& base);

}  // namespace bench
