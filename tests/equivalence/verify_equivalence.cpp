// verify_equivalence [--programs N] [--seed S]: the program that scripts/verify_equivalence runs.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

#include "procrun/pool.hpp"
#include "tests/equivalence/comparison.hpp"
#include "vmcow/cli/kit/command_line.hpp"

namespace {

constexpr std::uint64_t kMostPrograms = 1'000'000'000;

void verify(int programs, std::uint64_t seed) {
    procrun::Pool pool({.workers = 2});
    const auto reference = equivalence::reference_engine();
    const auto done = compare(*reference, equivalence::all_engines(pool), programs, seed);
    fmt::print("{} programs, seed {}\n\n{:<24}{:>10}{:>10}{:>14}\n", done.programs, seed, "engine", "passed", "failed",
               "us a program");
    for (const auto& tally : done.tallies) {
        fmt::print("{:<24}{:>10}{:>10}{:>14.1f}\n", tally.engine, tally.passed, done.programs - tally.passed,
                   tally.seconds * 1e6 / static_cast<double>(done.programs));
    }
    if (!done.mismatch) return;
    fmt::print("\n{}", done.describe());
    throw vmcow::cli::Failure("engines disagree");
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t programs = 20'000;
    std::uint64_t seed = std::random_device()();
    CLI::App app(
        "Runs random programs on every engine that must agree, and prints how many each has run as deep copies do.",
        "verify_equivalence");
    vmcow::cli::add_parsed(
        app, "--programs", programs, "N",
        [](std::string_view text) {
            const std::uint64_t wanted = vmcow::cli::parse_count(text, 1);
            if (wanted > kMostPrograms) throw std::invalid_argument("more than 1000000000");
            return wanted;
        },
        "How many; 20000 where nothing is said");
    vmcow::cli::add_count(app, "--seed", seed, "Makes the same programs again; a random one where nothing is said");
    app.callback([&] { verify(static_cast<int>(programs), seed); });
    return vmcow::cli::run_main(app, argc, argv);
}
