#pragma once

#include <functional>
#include <string>

#include "bench/bench_support.hpp"

namespace bench {

/// What a benchmark with rows of its own choosing is, beside its rows.
struct BenchProgram {
    std::string name;
    std::string question;
    /// Adds the rows.
    std::function<void(const BenchSizes&)> add_rows;
    /// Gives back what outlives a row, before the program ends.
    std::function<void()> end;
};

/// Takes `--value SIZE`, `--repeat N` and Google Benchmark's flags, and runs the rows; returns the exit status.
int run_benchmark(int argc, char** argv, const BenchProgram& program);

}  // namespace bench
