#pragma once

#include "bench/bench_support.hpp"

namespace bench {

/// Adds rows about a value of which very many versions are kept, each with one more page changed: by edits, and by
/// calls of a pool.
void add_version_rows(const BenchSizes& sizes);

/// Ends what the rows share.
void end_version_rows();

}  // namespace bench
