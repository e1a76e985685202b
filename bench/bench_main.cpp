#include "bench/bench_main.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <span>
#include <stdexcept>
#include <string_view>

#include "vmcow/cli/kit/command_line.hpp"

namespace bench {

int run_benchmark(int argc, char** argv, const BenchProgram& program) {
    // Google Benchmark would answer --help with its own flags alone, and exit.
    const std::span<char*> words(argv, static_cast<std::size_t>(argc));
    const bool asks = std::any_of(words.begin(), words.end(), [](std::string_view word) { return word == "--help"; });
    if (!asks) benchmark::Initialize(&argc, argv);
    BenchSizes sizes;
    CLI::App app(program.question, program.name);
    vmcow::cli::add_parsed(
        app, "--value", sizes.value_bytes, "SIZE",
        [](std::string_view text) {
            const auto bytes = vmcow::cli::parse_size(text);
            if (bytes < BenchSizes::kSmallestValue) throw std::invalid_argument("less than 4M");
            return bytes;
        },
        "Size of the value; the bars hold for 1G");
    vmcow::cli::add_parsed(
        app, "--repeat", sizes.most_repetitions, "N",
        [](std::string_view text) { return static_cast<int>(vmcow::cli::parse_count(text, 1)); },
        "At most this many repetitions of each row");
    app.footer("Google Benchmark's flags work too, such as --benchmark_filter=REGEX and --benchmark_out=FILE.");
    app.callback([&] {
        program.add_rows(sizes);
        benchmark::RunSpecifiedBenchmarks();
        program.end();
        if (a_row_failed()) throw vmcow::cli::Failure("a row failed");
    });
    return vmcow::cli::run_main(app, argc, argv);
}

}  // namespace bench
