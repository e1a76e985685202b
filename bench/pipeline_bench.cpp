// What do starting pipelines and carrying bytes and values through them cost, beside the system calls and the shell?
//
//     pipeline_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <cstdio>
#include <exception>

#include "bench/bench_main.hpp"
#include "bench/pipeline/moves.hpp"
#include "bench/pipeline/spawns.hpp"

namespace {

int run(int argc, char** argv) {
    bench::BenchProgram program;
    program.name = "pipeline_bench";
    program.question = "What starting pipelines and carrying bytes and values through them cost.";
    program.add_rows = [](const bench::BenchSizes& sizes) {
        bench::register_spawn_rows(sizes);
        bench::register_move_rows(sizes);
    };
    program.end = [] {};
    return bench::run_benchmark(argc, argv, program);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "pipeline_bench: %s\n", error.what()));
        return 1;
    }
}
