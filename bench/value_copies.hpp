#pragma once

#include "bench/value_rows.hpp"

namespace bench {

/// Adds the rows about values within one process, each beside what one would do to ordinary memory.
///
///     value/copy_first/1GiB     the first copy of a value that has one handle, and one byte of the copy changed:
///     freeze,
///                               map privately, copy a page. From there on the two are independent
///     value/copy_handle/1GiB    of that, the copy alone: a counter goes up
///     value/edit_shared/1GiB    and the change alone: all that the copy has put off
///     value/copy/1GiB           a further copy of a value that was copied before, and its end
///     value/copy_and_edit/1GiB  the same with one byte of the copy changed
///     raw/memcpy/1GiB           a copy of all bytes into memory that has its pages already
///     value/diff/1GiB           where two values differ that have 256 changed pages each
///     value/merge/1GiB          both changes joined in one value
///     raw/memcmp/1GiB           two buffers compared page by page: what is needed without knowing what was written
///     value/make_small          a value of a vector of 16 numbers, made and ended
///     raw/make_vector           the same for a std::vector
///     value/push                one number more at the end of a vector in a value that nobody shares
///     raw/push                  the same for a std::vector
void register_copy_rows(const BenchSizes& sizes, const BaseValue& base);

}  // namespace bench
