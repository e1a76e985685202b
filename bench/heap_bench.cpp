// What does sharing within the heap cost, beside containers that do not share, and beside copying?
//
//     heap_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <cstdio>
#include <exception>

#include "bench/bench_main.hpp"
#include "bench/heap/blocks.hpp"
#include "bench/heap/lists.hpp"
#include "bench/heap/php.hpp"

namespace {

int run(int argc, char** argv) {
    bench::BenchProgram program;
    program.name = "heap_bench";
    program.question = "What sharing within the heap costs, beside containers that do not share.";
    program.add_rows = [](const bench::BenchSizes& sizes) {
        bench::HeapRounds rounds(sizes);
        bench::add_block_rows(sizes, rounds);
        bench::add_list_rows(sizes, rounds);
        bench::add_php_rows(sizes);
    };
    program.end = [] {};
    return bench::run_benchmark(argc, argv, program);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "heap_bench: %s\n", error.what()));
        return 1;
    }
}
