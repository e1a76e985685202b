#include "vmcow/cli/measure/measure_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/measure/workload_options.hpp"
#include "vmcow/meter/run/run_levels.hpp"
#include "vmcow/units.hpp"

namespace vmcow::cli {
namespace {

using sys::PageScanMethod;

constexpr std::size_t kMostRuns = 64;
/// More children would measure nothing more, and would load the machine's process table.
constexpr std::uint64_t kMostChildren = 1024;

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

/// Each of these flags makes a measurement of another kind, and their figures would stand in the same places.
void refuse_several_kinds(const MeasureOptions& options) {
    std::vector<std::string> kinds;
    if (options.children > 1) kinds.emplace_back("--children");
    if (options.levels > 1) kinds.emplace_back("--levels");
    if (options.writes.size() > 1) kinds.emplace_back("several --writes");
    if (options.resident) kinds.emplace_back("--resident");
    if (kinds.size() > 1) refuse(fmt::format("{} cannot be measured together", fmt::join(kinds, " and ")));
}

void add_what_is_written(CLI::App& verb, MeasureOptions& options) {
    add_size(verb, "--size", options.workload.size_bytes, "Size of the image")->default_str("256M");
    add_parsed(verb, "--writes", options.writes, "N|A,B,...|A..B", parse_sweep,
               "Number of writes; of several numbers, or a range in tenfold steps, there is a run for each")
        ->default_str("100000");
    add_workload_options(verb, options.workload, options.trace, "image");
}

}  // namespace

meter::Workload MeasureOptions::workload_of(std::uint64_t count) const {
    meter::Workload one = workload;
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
    add_what_is_written(verb, options);
    add_parsed(
        verb, "--children", options.children, "K",
        [](const std::string& text) { return parse_bounded(text, kMostChildren); },
        "Fork K processes that write at once, each to a view of its own; seeds count up from --seed")
        ->default_str("1");
    add_parsed(
        verb, "--levels", options.levels, "K",
        [](const std::string& text) { return parse_bounded(text, meter::kMaxLevels); },
        "Nest K calls: each level writes to a view of what the level before it holds")
        ->default_str("1");
    verb.add_flag("--resident", options.resident,
                  "Also do the same writes twice over a view that keeps its pages and refreshes them");
    const std::map<std::string, std::optional<PageScanMethod>> scans = {{"auto", std::nullopt},
                                                                        {"pagemap_scan", PageScanMethod::pagemap_scan},
                                                                        {"pagemap", PageScanMethod::pagemap_bits}};
    add_choice(verb, "--page-scan", options.page_scan, scans,
               "How pages are counted: by the ioctl PAGEMAP_SCAN, or by the bits of /proc/PID/pagemap")
        ->default_str("auto");
    CLI::Option* small = verb.add_flag("--small-pages", options.small_pages, "Keep the image in 4 KiB pages");
    verb.add_flag("--huge-pages", options.huge_pages, "Exit 77 if the kernel does not give the whole image 2 MiB pages")
        ->excludes(small);
    add_budget(verb, options.budget);
    verb.add_flag("--json", options.json, "Print JSON instead of the table");
}

void complete(MeasureOptions& options, const CLI::App& verb) {
    refuse_several_kinds(options);
    if (options.trace) {
        options.workload = with_trace(options.workload, *options.trace, verb.count("--size") > 0);
        if (verb.count("--writes") == 0) options.writes = {options.workload.writes};
    }
    for (const std::uint64_t writes : options.writes) require_valid(options.workload_of(writes));
    options.workload.writes = options.writes.back();
    if (options.huge_pages && options.workload.size_bytes < kHugeBytes) {
        refuse("--huge-pages: an image of less than 2 MiB has none");
    }
}

}  // namespace vmcow::cli
