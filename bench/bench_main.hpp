#pragma once

#include <functional>
#include <string>

#include "bench/bench_support.hpp"

namespace bench {

/// A benchmark program: its name, its question and how its rows are added.
struct BenchProgram {
    std::string name;
    std::string question;
    /// Adds the rows.
    std::function<void(const BenchSizes&)> add_rows;
    /// Releases what outlives a row, before the program ends.
    std::function<void()> end;
};

/// Runs the rows as `--value SIZE`, `--repeat N` and Google Benchmark's flags say; returns the exit status.
int run_benchmark(int argc, char** argv, const BenchProgram& program);

}  // namespace bench
