#pragma once

#include "bench/heap_rounds.hpp"

namespace bench {

/// Adds the rows of structures in blocks, beside the containers that do not share. A million elements of 8 bytes; the
/// number at the end is the leaf's bytes.
///
///     vector/get, set, iterate, push_back                what a vector needs for each of them
///     block_array/get/256, set_unique/256, iterate/256   the same of an array that nobody shares
///     block_array/build/256                              by the builder
///     block_array/set_shared/256                         every version kept; the label says what each takes, as malloc
///                                                        counts it; the row fails past 900 bytes, or 1.1 of the model
///     block_array/overhead/64, overhead/256              what it takes beyond the data is in the label, in its nodes
///     and
///                                                        as malloc counts it; the row fails past 30 % and 10 %
///     boost_unordered_map/insert, find                   keys in no order
///     block_map/insert_unique, find                      the same of a map that nobody shares
void add_block_rows(const BenchSizes& sizes, HeapRounds& rounds);

}  // namespace bench
