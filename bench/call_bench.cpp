// What does a by-value call cost beside the raw system calls that it consists of, and beside what one would use
// instead?
//
//     call_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <cstdio>
#include <exception>

#include "bench/bench_main.hpp"
#include "bench/call/peer_calls.hpp"
#include "bench/call/pool_calls.hpp"
#include "bench/call/raw_calls.hpp"
#include "bench/call/worker_memory.hpp"

namespace {

int run(int argc, char** argv) {
    if (const auto status = bench::run_as_peer(argc, argv)) return *status;
    if (const auto status = bench::run_as_pool_of_workers(argc, argv)) return *status;
    bench::BenchProgram program;
    program.name = "call_bench";
    program.question = "What a by-value call costs, beside raw system calls and beside its peers.";
    program.add_rows = [](const bench::BenchSizes& sizes) {
        bench::register_pool_rows(sizes);
        bench::register_memory_rows(sizes);
        bench::register_raw_rows(sizes);
        bench::register_peer_rows(sizes);
    };
    program.end = bench::end_pool;
    return bench::run_benchmark(argc, argv, program);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "call_bench: %s\n", error.what()));
        return 1;
    }
}
