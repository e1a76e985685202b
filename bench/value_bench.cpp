// What does a value cost, beside copying, forking, writing and comparing its bytes?
//
//     value_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <cstdio>
#include <exception>

#include "bench/bench_main.hpp"
#include "bench/value/addresses.hpp"
#include "bench/value/calls.hpp"
#include "bench/value/copies.hpp"
#include "bench/value/files.hpp"
#include "bench/value/rows.hpp"

namespace {

int run(int argc, char** argv) {
    if (const auto status = bench::run_as_chain(argc, argv)) return *status;
    bench::BenchProgram program;
    program.name = "value_bench";
    program.question = "What a value costs, beside copying, forking, writing and comparing its bytes.";
    program.add_rows = [](const bench::BenchSizes& sizes) {
        const bench::BaseValue base(sizes.value_bytes);
        bench::register_copy_rows(sizes, base);
        bench::register_call_rows(sizes, base);
        bench::register_file_rows(sizes, base);
        bench::register_address_rows(sizes);
    };
    program.end = [] {
        bench::end_files();
        bench::end_value_pool();
    };
    return bench::run_benchmark(argc, argv, program);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "value_bench: %s\n", error.what()));
        return 1;
    }
}
