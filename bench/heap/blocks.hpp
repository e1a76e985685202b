#pragma once

#include "bench/heap/rounds.hpp"

namespace bench {

/// Adds the rows of structures in blocks, beside containers that do not share. Each has a million elements of 8 bytes.
/// The number at the end of a row's name is the size of a leaf in bytes.
///
///     vector/get, set, iterate, push_back                what a vector needs for each of these
///     block_array/get/256, set_unique/256, iterate/256   the same for an array that nobody shares
///     block_array/build/256                              an array made by the builder
///     block_array/set_shared/256                         every version kept; the label says what each takes, as malloc
///                                                        counts it; the row fails past 900 bytes, or 1.1 of the model
///     block_array/overhead/64, overhead/256              the label says what an array takes beyond its data, in its
///                                                        nodes and as malloc counts it; fails past 30 % and 10 %
///     boost_unordered_map/insert, find                   random keys
///     block_map/insert_unique, find                      the same for a map that nobody shares
void add_block_rows(const BenchSizes& sizes, HeapRounds& rounds);

}  // namespace bench
