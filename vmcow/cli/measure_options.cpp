#include "vmcow/cli/measure_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/measure/run_levels.hpp"
#include "vmcow/measure/trace.hpp"
#include "vmcow/units.hpp"

namespace vmcow::cli {
namespace {

using measure::Pattern;
using measure::Workload;
using sys::PageScanMethod;

constexpr std::size_t kMostRuns = 64;
/// More are no measurement, but a load on the machine's table of processes.
constexpr std::uint64_t kMostChildren = 1024;

double parse_share(std::string_view text) {
    double share = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share);
    if (error != std::errc() || end != text.data() + text.size() || !(share >= 0 && share <= 1)) {
        throw std::invalid_argument(fmt::format("'{}' is not a share between 0 and 1", text));
    }
    return share;
}

std::uint64_t parse_bounded(std::string_view text, std::uint64_t most) {
    const std::uint64_t value = parse_count(text, 1);
    if (value > most) throw std::invalid_argument(fmt::format("'{}' is more than {}", text, most));
    return value;
}

void append_range(std::vector<std::uint64_t>& counts, std::string_view range, std::size_t dots) {
    std::uint64_t count = parse_count(range.substr(0, dots), 1);
    const std::uint64_t last = parse_count(range.substr(dots + 2), 1);
    if (count > last) throw std::invalid_argument(fmt::format("'{}' ends below where it begins", range));
    for (; count < last; count *= 10) {
        counts.push_back(count);
        if (count > last / 10) break;
    }
    counts.push_back(last);
}

[[noreturn]] void refuse(const std::string& why) { throw Failure(why, ExitCode::usage); }

/// Each of them would be a measurement of its own, whose figures stand in the same places.
void refuse_several_kinds(const MeasureOptions& options) {
    std::vector<std::string> kinds;
    if (options.children > 1) kinds.emplace_back("--children");
    if (options.levels > 1) kinds.emplace_back("--levels");
    if (options.writes.size() > 1) kinds.emplace_back("several --writes");
    if (options.resident) kinds.emplace_back("--resident");
    if (kinds.size() > 1) refuse(fmt::format("{} cannot be measured together", fmt::join(kinds, " and ")));
}

void take_trace(MeasureOptions& options, const CLI::App& verb) {
    const bool size_given = verb.count("--size") > 0;
    const bool writes_given = verb.count("--writes") > 0;
    const Workload given = options.workload;
    try {
        options.workload = replay(std::make_shared<const measure::Trace>(measure::read_trace(*options.trace)));
    } catch (const std::invalid_argument& error) {
        refuse(fmt::format("--trace: {}", error.what()));
    }
    if (size_given) options.workload.size_bytes = given.size_bytes;
    options.workload.seed = given.seed;
    options.workload.rewrite_same = given.rewrite_same;
    if (!writes_given) options.writes = {options.workload.writes};
}

void add_workload_options(CLI::App& verb, MeasureOptions& options) {
    Workload& workload = options.workload;
    std::map<std::string, Pattern> patterns;
    for (const Pattern pattern :
         {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot}) {
        patterns.emplace(name_of(pattern), pattern);
    }
    add_size(verb, "--size", workload.size_bytes, "Bytes of the image")->default_str("256M");
    add_parsed(verb, "--writes", options.writes, "N|A,B,...|A..B", parse_sweep,
               "How many writes; several numbers, or a range in tenfold steps, are a run each")
        ->default_str("100000");
    CLI::Option* write_bytes =
        add_size(verb, "--write-bytes", workload.write_bytes, "Bytes of each write")->default_str("8");
    CLI::Option* pattern =
        add_choice(verb, "--pattern", workload.pattern, patterns, "Where the writes go")->default_str("uniform");
    CLI::Option* aligned = verb.add_flag("--aligned", workload.aligned, "Begin each write at a multiple of its length");
    add_count(verb, "--seed", workload.seed, "The same seed makes the same writes")->default_str("1");
    add_parsed(verb, "--rewrite-same", workload.rewrite_same, "SHARE", parse_share,
               "Share of the writes that store what the image already holds")
        ->default_str("0");
    verb.add_option(
            "--trace", options.trace,
            "Replay the writes of FILE, in their order: CSV of offset and length, or as watch --record writes it; "
            "the image is as large as it has to be, or as --size says")
        ->type_name("FILE")
        ->excludes(write_bytes)
        ->excludes(pattern)
        ->excludes(aligned);
}

}  // namespace

measure::Workload MeasureOptions::workload_of(std::uint64_t count) const {
    Workload one = workload;
    one.writes = count;
    return one;
}

std::vector<std::uint64_t> parse_sweep(std::string_view text) {
    std::vector<std::uint64_t> counts;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        const std::string_view word = text.substr(at, end - at);
        const std::size_t dots = word.find("..");
        if (dots == std::string_view::npos) {
            counts.push_back(parse_count(word, 1));
        } else {
            append_range(counts, word, dots);
        }
        at = end + 1;
    }
    if (counts.size() > kMostRuns) {
        throw std::invalid_argument(fmt::format("'{}' is {} runs, more than {}", text, counts.size(), kMostRuns));
    }
    return counts;
}

void add_measure_options(CLI::App& verb, MeasureOptions& options) {
    add_workload_options(verb, options);
    add_parsed(
        verb, "--children", options.children, "K",
        [](const std::string& text) { return parse_bounded(text, kMostChildren); },
        "So many forked processes write at once, each to a view of its own, with seeds from --seed on")
        ->default_str("1");
    add_parsed(
        verb, "--levels", options.levels, "K",
        [](const std::string& text) { return parse_bounded(text, measure::kMaxLevels); },
        "So many calls within each other: each level writes to a view of what the level before holds")
        ->default_str("1");
    verb.add_flag("--resident", options.resident,
                  "Also the same writes twice over a view that keeps its pages and refreshes them");
    const std::map<std::string, std::optional<PageScanMethod>> scans = {{"auto", std::nullopt},
                                                                        {"pagemap_scan", PageScanMethod::pagemap_scan},
                                                                        {"pagemap", PageScanMethod::pagemap_bits}};
    add_choice(verb, "--page-scan", options.page_scan, scans, "How pages are counted")->default_str("auto");
    CLI::Option* small = verb.add_flag("--small-pages", options.small_pages, "Keep the image in 4 KiB pages");
    verb.add_flag("--huge-pages", options.huge_pages, "Fail (77) where the image cannot be had in 2 MiB pages")
        ->excludes(small);
    add_budget(verb, options.budget);
    verb.add_flag("--json", options.json, "Print JSON instead of the table");
}

void complete(MeasureOptions& options, const CLI::App& verb) {
    refuse_several_kinds(options);
    if (options.trace) take_trace(options, verb);
    for (const std::uint64_t writes : options.writes) {
        try {
            options.workload_of(writes).validate();
        } catch (const std::invalid_argument& error) {
            refuse(error.what());
        }
    }
    options.workload.writes = options.writes.back();
    if (options.huge_pages && options.workload.size_bytes < kHugeBytes) {
        refuse("--huge-pages: an image of less than 2 MiB has none");
    }
}

}  // namespace vmcow::cli
