#include "vmcow/cli/measure/workload_options.hpp"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/meter/model/trace.hpp"

namespace vmcow::cli {
namespace {

using meter::Pattern;
using meter::Workload;

double parse_share(std::string_view text) {
    double share = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share);
    if (error != std::errc() || end != text.data() + text.size() || !(share >= 0 && share <= 1)) {
        throw std::invalid_argument(fmt::format("'{}' is not a share between 0 and 1", text));
    }
    return share;
}

}  // namespace

void add_workload_options(CLI::App& verb, Workload& workload, std::optional<std::string>& trace,
                          const std::string& target) {
    std::map<std::string, Pattern> patterns;
    for (const Pattern pattern :
         {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot}) {
        patterns.emplace(name_of(pattern), pattern);
    }
    CLI::Option* write_bytes =
        add_size(verb, "--write-bytes", workload.write_bytes, "Size of each write")->default_str("8");
    CLI::Option* pattern =
        add_choice(verb, "--pattern", workload.pattern, patterns, "Where the writes go; see Patterns")
            ->default_str("uniform");
    CLI::Option* aligned = verb.add_flag("--aligned", workload.aligned, "Begin each write at a multiple of its length");
    add_count(verb, "--seed", workload.seed, "The same seed makes the same writes")->default_str("1");
    add_parsed(verb, "--rewrite-same", workload.rewrite_same, "SHARE", parse_share,
               fmt::format("Share of the writes, from 0 to 1, that store what the {} already holds", target))
        ->default_str("0");
    verb.add_option("--trace", trace,
                    fmt::format("Replay the writes of FILE in their order: CSV of offset and length, or a file that\n"
                                "vmcow watch --record wrote. The {} is as large as the writes need, or as --size says",
                                target))
        ->type_name("FILE")
        ->excludes(write_bytes)
        ->excludes(pattern)
        ->excludes(aligned);
}

Workload with_trace(const Workload& given, const std::string& path, bool size_given) {
    Workload workload;
    try {
        workload = replay(std::make_shared<const meter::Trace>(meter::read_trace(path)));
    } catch (const std::invalid_argument& error) {
        throw Failure(fmt::format("--trace: {}", error.what()), ExitCode::usage);
    }
    if (size_given) workload.size_bytes = given.size_bytes;
    workload.seed = given.seed;
    workload.rewrite_same = given.rewrite_same;
    return workload;
}

void require_valid(const Workload& workload) {
    try {
        workload.validate();
    } catch (const std::invalid_argument& error) {
        throw Failure(error.what(), ExitCode::usage);
    }
}

const char* pattern_help() {
    return "Patterns:\n"
           "  uniform     anywhere, each place equally likely\n"
           "  sequential  one after the other; after the end, from the start again\n"
           "  stride      one in each page, page after page; each lap goes right behind the bytes of the lap before\n"
           "  zipf        the r-th most popular page has the weight r^-0.99; popular pages are scattered\n"
           "  hot         90 % into the first tenth of the bytes, the others into the rest\n";
}

}  // namespace vmcow::cli
