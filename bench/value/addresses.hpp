#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds the rows about slots: what a range of addresses costs when many others are taken.
///
///     addresses/churn/10        giving up one of 10 slots with room to grow, and reserving another one
///     addresses/churn/1000      the same with 1000 slots
///     addresses/churn/100000    the same with 100 000 slots, all of which share their room
///     raw/reserve               reserving a range and giving it back: mmap and munmap without access
void register_address_rows(const BenchSizes& sizes);

}  // namespace bench
