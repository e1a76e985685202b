#include "vmcow/cli/compare_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/human.hpp"
#include "vmcow/cli/output_file.hpp"
#include "vmcow/cli/workload_options.hpp"
#include "vmcow/measure/compare.hpp"
#include "vmcow/sys/proc_field.hpp"

namespace vmcow::cli {
namespace {

using measure::EngineFigures;
using measure::Workload;

constexpr std::uint64_t kDefaultBytes = std::uint64_t{64} << 20;

struct CompareOptions {
    CompareOptions() { workload.size_bytes = kDefaultBytes; }

    Workload workload;
    std::optional<std::string> trace;
    std::vector<std::string> engines = measure::engine_names();
    std::uint64_t children = 1;
    std::vector<std::uint64_t> sweep;
    bool json = false;
    std::string csv;
};

struct Crossover {
    std::uint64_t writes = 0;
    std::vector<EngineFigures> engines;
};

/// "a,b,c", none of them empty or there twice.
template <class T, class Parse>
std::vector<T> parse_list(std::string_view text, Parse&& parse) {
    std::vector<T> all;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        T one = parse(text.substr(at, end - at));
        if (std::find(all.begin(), all.end(), one) != all.end()) {
            throw std::invalid_argument(fmt::format("'{}' is there twice", text.substr(at, end - at)));
        }
        all.push_back(std::move(one));
        at = end + 1;
    }
    return all;
}
std::string parse_engine(std::string_view name) {
    const std::vector<std::string>& known = measure::engine_names();
    if (std::find(known.begin(), known.end(), name) != known.end()) return std::string(name);
    throw std::invalid_argument(fmt::format("'{}' is no engine: {}", name, fmt::join(known, ", ")));
}

/// A refusal now, rather than this process or another one killed half way.
void check_memory(const CompareOptions& options, const Workload& workload) {
    const std::optional<std::uint64_t> available = sys::read_proc_bytes("/proc/meminfo", "MemAvailable");
    for (const std::string& name : options.engines) {
        const std::uint64_t needed = measure::engine_memory_needed(name, workload, options.children);
        if (available && needed > *available) {
            throw Failure(fmt::format("{} needs up to {} of memory for this, {} are available", name,
                                      human_bytes(needed), human_bytes(*available)));
        }
    }
}

std::vector<EngineFigures> run_all(const CompareOptions& options, const Workload& workload) {
    std::vector<EngineFigures> all;
    for (const std::string& name : options.engines) {
        all.push_back(measure::run_engine(name, workload, options.children));
        if (all.back().checksum != all.front().checksum) {
            throw Failure(fmt::format("{} and {} do not hold the same after the same writes", all.front().name, name));
        }
    }
    return all;
}

nlohmann::ordered_json json_of(const EngineFigures& engine) {
    nlohmann::ordered_json json{{"name", engine.name},
                                {"build_seconds", engine.build_seconds},
                                {"read_ns", engine.read_ns},
                                {"write_ns", engine.write_ns},
                                {"hand_over_seconds", engine.hand_over_seconds},
                                {"memory_before_bytes", engine.memory_before_bytes},
                                {"memory_after_bytes", engine.memory_after_bytes},
                                {"copied_bytes", engine.copied_bytes},
                                {"amplification", nullptr}};
    if (engine.amplification) json["amplification"] = *engine.amplification;
    return json;
}

std::string json_text(const CompareOptions& options, const std::vector<EngineFigures>& engines,
                      const std::vector<Crossover>& crossover) {
    const Workload& workload = options.workload;
    nlohmann::ordered_json json{{"kind", "compare"},
                                {"workload",
                                 {{"size_bytes", workload.size_bytes},
                                  {"writes", workload.writes},
                                  {"write_bytes", workload.write_bytes},
                                  {"pattern", name_of(workload.pattern)},
                                  {"aligned", workload.aligned},
                                  {"seed", workload.seed},
                                  {"rewrite_same", workload.rewrite_same},
                                  {"children", options.children}}},
                                {"engines", nlohmann::ordered_json::array()}};
    for (const EngineFigures& engine : engines) json["engines"].push_back(json_of(engine));
    for (const Crossover& point : crossover) {
        nlohmann::ordered_json all = nlohmann::ordered_json::array();
        for (const EngineFigures& engine : point.engines) {
            Workload workload_there = workload;
            workload_there.writes = point.writes;
            all.push_back({{"name", engine.name},
                           {"total_memory_bytes", engine.memory_after_bytes},
                           {"total_seconds", engine.total_seconds(workload_there, options.children)}});
        }
        json["crossover"].push_back({{"writes", point.writes}, {"engines", std::move(all)}});
    }
    json["advice"] = measure::advise(engines, workload, options.children);
    json["notes"] = {"a moved value is its last holder's alone: with it nobody keeps the value as it was",
                     "pages-resident is a call after the first one, which has copied the pages"};
    return json.dump(2) + '\n';
}

std::string csv_text(const std::vector<EngineFigures>& engines) {
    std::string text =
        "name,build_seconds,read_ns,write_ns,hand_over_seconds,memory_before_bytes,memory_after_bytes,copied_bytes,"
        "amplification\n";
    for (const EngineFigures& engine : engines) {
        text += fmt::format("{},{},{},{},{},{},{},{},", engine.name, engine.build_seconds, engine.read_ns,
                            engine.write_ns, engine.hand_over_seconds, engine.memory_before_bytes,
                            engine.memory_after_bytes, engine.copied_bytes);
        text += engine.amplification ? fmt::format("{}\n", *engine.amplification) : "\n";
    }
    return text;
}

std::string table(const CompareOptions& options, const std::vector<EngineFigures>& engines) {
    const Workload& workload = options.workload;
    std::string text =
        fmt::format("{} writes, {}, by {} {}, to a value of {}\n\n", human_count(workload.writes),
                    name_of(workload.pattern), options.children,
                    options.children == 1 ? "child" : "children one after the other", human_bytes(workload.size_bytes));
    text += fmt::format("{:<15}{:>10}{:>11}{:>10}{:>10}{:>11}{:>11}{:>11}{:>10}\n", "engine", "build", "hand over",
                        "a read", "a write", "before", "after", "copied", "amplif.");
    for (const EngineFigures& engine : engines) {
        text += fmt::format("{:<15}{:>10}{:>11}{:>10}{:>10}{:>11}{:>11}{:>11}{:>10}\n", engine.name,
                            human_seconds(engine.build_seconds), human_seconds(engine.hand_over_seconds),
                            human_seconds(engine.read_ns * 1e-9), human_seconds(engine.write_ns * 1e-9),
                            human_bytes(engine.memory_before_bytes), human_bytes(engine.memory_after_bytes),
                            human_bytes(engine.copied_bytes),
                            engine.amplification ? fmt::format("{:.2f}", *engine.amplification) : "?");
    }
    return text + '\n' + measure::advise(engines, workload, options.children) + '\n';
}

void take_trace(CompareOptions& options, const CLI::App& verb) {
    const std::uint64_t writes = options.workload.writes;
    options.workload = with_trace(options.workload, *options.trace, verb.count("--size") > 0);
    if (verb.count("--writes") > 0) options.workload.writes = writes;
}

void run_compare(CompareOptions options, const CLI::App& verb) {
    if (options.trace) take_trace(options, verb);
    require_valid(options.workload);
    require_kernel();
    std::optional<OutputFile> csv;
    if (!options.csv.empty()) csv.emplace(options.csv);
    Workload largest = options.workload;
    for (const std::uint64_t writes : options.sweep) largest.writes = std::max(largest.writes, writes);
    check_memory(options, largest);
    const std::vector<EngineFigures> engines = run_all(options, options.workload);
    std::vector<Crossover> crossover;
    for (const std::uint64_t writes : options.sweep) {
        Workload workload = options.workload;
        workload.writes = writes;
        crossover.push_back({writes, run_all(options, workload)});
    }
    if (csv) csv->write(csv_text(engines));
    if (options.json) {
        write_stdout(json_text(options, engines, crossover));
    } else if (options.csv != "-") {
        write_stdout(table(options, engines));
    }
}

}  // namespace

void add_compare_command(CLI::App& app) {
    const auto options = std::make_shared<CompareOptions>();
    CLI::App* verb = app.add_subcommand(
        "compare", "Hand the same value over in different ways, write to it, and show what each way costs");
    add_size(*verb, "--size", options->workload.size_bytes, "Bytes of the value")->default_str("64M");
    add_count(*verb, "--writes", options->workload.writes, "How many writes", 1)->default_str("100000");
    add_workload_options(*verb, options->workload, options->trace, "value");
    add_parsed(
        *verb, "--engines", options->engines, "A,B,C",
        [](std::string_view text) { return parse_list<std::string>(text, parse_engine); },
        "Which to compare; all of them");
    add_count(*verb, "--children", options->children, "How many get the value, one after the other", 1)
        ->default_str("1");
    CLI::Option* const sweep = add_parsed(
        *verb, "--sweep", options->sweep, "N,M",
        [](std::string_view text) {
            return parse_list<std::uint64_t>(text, [](std::string_view one) { return parse_count(one, 1); });
        },
        "Also with so many writes each, for the chart of where one engine overtakes another; needs --json");
    CLI::Option* const json = verb->add_flag("--json", options->json, "Print JSON instead of the table");
    sweep->needs(json)->excludes("--trace");
    add_parsed(
        *verb, "--csv", options->csv, "FILE",
        [](std::string_view text) {
            if (text.empty()) throw std::invalid_argument("no name of a file");
            return std::string(text);
        },
        "Write a line for each engine to FILE; - is standard output")
        ->excludes(json);
    verb->footer(
        fmt::format("Engines: {}.\n\nExample: vmcow compare --size 256M --writes 10000 --engines "
                    "deep-copy,pages,block-256 --sweep 100,1000,100000 --json",
                    fmt::join(measure::engine_names(), ", ")));
    verb->callback([options, verb] { run_compare(*options, *verb); });
}

}  // namespace vmcow::cli
