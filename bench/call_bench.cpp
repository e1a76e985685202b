// What does a by-value call cost beside the raw system calls that it consists of, and beside what one would use
// instead?
//
//     call_bench [--value SIZE] [--repeat N] [Google Benchmark's flags]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>
#include <stdexcept>
#include <string_view>

#include "bench/peer_calls.hpp"
#include "bench/pool_calls.hpp"
#include "bench/raw_calls.hpp"
#include "bench/worker_memory.hpp"
#include "vmcow/cli/command_line.hpp"

namespace {

int run(int argc, char** argv) {
    if (const auto status = bench::run_as_peer(argc, argv)) return *status;
    if (const auto status = bench::run_as_pool_of_workers(argc, argv)) return *status;
    // Google Benchmark would answer with its own flags alone, and end.
    const std::span<char*> words(argv, static_cast<std::size_t>(argc));
    const bool asks = std::any_of(words.begin(), words.end(), [](std::string_view word) { return word == "--help"; });
    if (!asks) benchmark::Initialize(&argc, argv);
    bench::BenchSizes sizes;
    CLI::App app("What a by-value call costs, beside raw system calls and beside its peers.", "call_bench");
    vmcow::cli::add_parsed(
        app, "--value", sizes.value_bytes, "SIZE",
        [](std::string_view text) {
            const auto bytes = vmcow::cli::parse_size(text);
            if (bytes < bench::BenchSizes::kSmallestValue) throw std::invalid_argument("less than 64K");
            return bytes;
        },
        "Bytes of the value; figures count for 1G");
    vmcow::cli::add_parsed(
        app, "--repeat", sizes.most_repetitions, "N",
        [](std::string_view text) { return static_cast<int>(vmcow::cli::parse_count(text, 1)); },
        "At most this many repetitions of each row");
    app.footer("Google Benchmark's flags are taken too, such as --benchmark_filter=REGEX and --benchmark_out=FILE.");
    app.callback([&] {
        bench::register_pool_rows(sizes);
        bench::register_memory_rows(sizes);
        bench::register_raw_rows(sizes);
        bench::register_peer_rows(sizes);
        benchmark::RunSpecifiedBenchmarks();
        bench::end_pool();
        if (bench::a_row_failed()) throw vmcow::cli::Failure("a row failed");
    });
    return vmcow::cli::run_main(app, argc, argv);
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
