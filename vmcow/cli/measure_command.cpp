#include "vmcow/cli/measure_command.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/budget.hpp"
#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/human.hpp"
#include "vmcow/measure/run_workload.hpp"
#include "vmcow/sys/proc_field.hpp"
#include "vmcow/units.hpp"

namespace vmcow::cli {
namespace {

using measure::Pattern;
using measure::Workload;
using measure::WorkloadRun;
using sys::PageScanMethod;

struct MeasureOptions {
    Workload workload;
    std::optional<PageScanMethod> page_scan;
    bool small_pages = false;
    bool json = false;
    Budget budget;
};

double parse_share(std::string_view text) {
    double share = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share);
    if (error != std::errc() || end != text.data() + text.size() || !(share >= 0 && share <= 1)) {
        throw std::invalid_argument(fmt::format("'{}' is not a share between 0 and 1", text));
    }
    return share;
}

void check_workload(const Workload& workload) {
    try {
        workload.validate();
    } catch (const std::invalid_argument& error) {
        throw Failure(error.what(), ExitCode::usage);
    }
}

/// A refusal now, rather than this process or another one killed half way.
void check_memory(const Workload& workload) {
    const std::uint64_t needed = measure::memory_needed(workload);
    const std::optional<std::uint64_t> available = sys::read_proc_bytes("/proc/meminfo", "MemAvailable");
    if (!available || needed <= *available) return;
    throw Failure(fmt::format("an image of {} needs up to {} of memory with its copies, {} are available",
                              human_bytes(workload.size_bytes), human_bytes(needed), human_bytes(*available)));
}

PageScanMethod choose_page_scan(const std::optional<PageScanMethod>& wanted) {
    if (!wanted) return sys::best_page_scan();
    const int error = *wanted == PageScanMethod::pagemap_scan ? sys::page_scan_error() : 0;
    if (error == 0) return *wanted;
    throw Failure(fmt::format("--page-scan: PAGEMAP_SCAN (Linux 6.7) is refused here: {}", std::strerror(error)),
                  ExitCode::missing_facility);
}

/// What was measured is an image in huge pages only if every 2 MiB of it got one.
std::size_t image_page_bytes(const WorkloadRun& run) {
    return run.image.huge_bytes > 0 && run.image.small_bytes == 0 ? kHugeBytes : kPageBytes;
}

/// Each slower path that was taken, and why (I8).
std::vector<std::string> notes(const MeasureOptions& options, const WorkloadRun& run) {
    std::vector<std::string> lines;
    if (run.image.collapse_error != 0) {
        lines.push_back(fmt::format("{} of the image are in 4 KiB pages: MADV_COLLAPSE was refused: {}",
                                    human_bytes(run.image.small_bytes), std::strerror(run.image.collapse_error)));
    }
    if (options.small_pages) lines.emplace_back("the image is in 4 KiB pages, as --small-pages asks");
    if (run.page_scan == PageScanMethod::pagemap_bits && sys::page_scan_error() != 0) {
        lines.push_back(fmt::format("pages were counted by the bits of pagemap: PAGEMAP_SCAN was refused: {}",
                                    std::strerror(sys::page_scan_error())));
    }
    if (run.anonymous_bytes != run.meter.copied_bytes()) {
        lines.push_back(fmt::format("smaps has {} of private pages, the page scan {}: some may be swapped out",
                                    human_bytes(run.anonymous_bytes), human_bytes(run.meter.copied_bytes())));
    }
    if (run.minor_faults != run.meter.copied.value) {
        lines.push_back(fmt::format("{} page faults for {} pages copied: something else faulted meanwhile",
                                    human_count(run.minor_faults), human_count(run.meter.copied.value)));
    }
    if (!run.expected.sigma) lines.emplace_back("the deviation takes too long to compute for writes this long");
    return lines;
}

std::string json_text(const MeasureOptions& options, const WorkloadRun& run) {
    using Json = nlohmann::ordered_json;
    const auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
    const Workload& workload = options.workload;
    const measure::Meter& meter = run.meter;
    Json document;
    document["workload"] = {{"size_bytes", workload.size_bytes},    {"writes", workload.writes},
                            {"write_bytes", workload.write_bytes},  {"pattern", name_of(workload.pattern)},
                            {"aligned", workload.aligned},          {"seed", workload.seed},
                            {"rewrite_same", workload.rewrite_same}};
    document["logical_bytes"] = or_null(meter.logical_bytes);
    document["distinct_bytes"] = or_null(meter.distinct_bytes);
    document["changed_bytes"] = or_null(meter.changed_bytes);
    document["copied_pages"] = meter.copied.value;
    document["copied_bytes"] = meter.copied_bytes();
    document["identical_pages"] = meter.identical ? Json(meter.identical->value) : Json();
    document["amplification"] = or_null(meter.amplification());
    document["expected"] = {{"copied_pages", run.expected.blocks}, {"sigma", or_null(run.expected.sigma)}};
    document["residual_sigma"] = or_null(run.residual());
    document["minor_faults"] = run.minor_faults;
    document["anonymous_bytes"] = run.anonymous_bytes;
    document["page_table_bytes"] = or_null(meter.page_table_bytes);
    document["resident_bytes"] = or_null(meter.resident_bytes);
    document["seconds"] = run.seconds;
    document["page_scan"] = name_of(run.page_scan);
    document["image_page_bytes"] = image_page_bytes(run);
    document["notes"] = notes(options, run);
    return document.dump(2) + "\n";
}

std::string bytes_or_unknown(const std::optional<std::uint64_t>& bytes) {
    return bytes ? human_bytes(*bytes) : "unknown";
}

std::string model_text(const WorkloadRun& run) {
    const double blocks = run.expected.blocks;
    if (!run.expected.sigma) return fmt::format("{:.1f} pages, deviation unknown", blocks);
    const std::optional<double> residual = run.residual();
    if (*run.expected.sigma > 0) {
        const int digits = *run.expected.sigma < 1 ? 3 : 1;
        return fmt::format("{:.{}f} ± {:.{}f} pages (1 σ); measured: {:+.2f} σ from it", blocks, digits,
                           *run.expected.sigma, digits, *residual);
    }
    return fmt::format("{:.0f} pages exactly, {}", blocks, residual ? "as measured" : "which was not measured");
}

std::string identical_text(const WorkloadRun& run) {
    if (!run.meter.identical) return "unknown";
    return human_count(run.meter.identical->value) + " of these pages, in which nothing differs from the image";
}

std::string amplification_text(const WorkloadRun& run) {
    const std::optional<double> amplification = run.meter.amplification();
    return amplification ? fmt::format("{:.4g} bytes copied for each byte written", *amplification) : "unknown";
}

std::string time_text(const WorkloadRun& run) {
    std::string text = human_seconds(run.seconds);
    if (run.meter.copied.value == 0) return text;
    return text + ", " + human_seconds(run.seconds / static_cast<double>(run.meter.copied.value)) + " a page copied";
}

std::string headline(const WorkloadRun& run, const Workload& workload) {
    return fmt::format("{} write{} of {}, {}{}, seed {}, into a private view of an image of {} in {} pages\n\n",
                       human_count(workload.writes), workload.writes == 1 ? "" : "s", human_bytes(workload.write_bytes),
                       name_of(workload.pattern), workload.aligned ? ", aligned" : "", workload.seed,
                       human_bytes(workload.size_bytes), image_page_bytes(run) == kHugeBytes ? "2 MiB" : "4 KiB");
}

std::string table(const MeasureOptions& options, const WorkloadRun& run) {
    const measure::Meter& meter = run.meter;
    std::string text = headline(run, options.workload);
    const auto row = [&](std::string_view name, const std::string& value) {
        text += fmt::format("  {:<16}{}\n", name, value);
    };
    row("written", bytes_or_unknown(meter.logical_bytes));
    row("distinct", bytes_or_unknown(meter.distinct_bytes) + ", each address counted once");
    row("changed", bytes_or_unknown(meter.changed_bytes) + " differ from the image");
    row("copied", fmt::format("{}: {} of {} pages, counted by {}", human_bytes(meter.copied_bytes()),
                              human_count(meter.copied.value), human_count(pages_of(options.workload.size_bytes).value),
                              name_of(run.page_scan)));
    row("  model", model_text(run));
    row("  identical", identical_text(run));
    row("amplification", amplification_text(run));
    row("minor faults", human_count(run.minor_faults));
    row("page tables", bytes_or_unknown(meter.page_table_bytes) + " more");
    row("resident", bytes_or_unknown(meter.resident_bytes) + " of the view");
    row("time", time_text(run));
    for (const std::string& note : notes(options, run)) text += "note: " + note + "\n";
    return text;
}

void run_measure(const MeasureOptions& options) {
    check_workload(options.workload);
    require_kernel();
    const PageScanMethod page_scan = choose_page_scan(options.page_scan);
    check_memory(options.workload);
    const PagePolicy pages = options.small_pages ? PagePolicy::small : PagePolicy::automatic;
    const WorkloadRun run = measure::run_workload(options.workload, {.page_scan = page_scan, .pages = pages});
    write_stdout(options.json ? json_text(options, run) : table(options, run));
    options.budget.require({run.meter.copied_bytes(), run.meter.amplification(),
                            identical_share(run.meter.identical->value, run.meter.copied.value)});
}

void add_workload_options(CLI::App& verb, Workload& workload) {
    std::map<std::string, Pattern> patterns;
    for (const Pattern pattern :
         {Pattern::uniform, Pattern::sequential, Pattern::stride, Pattern::zipf, Pattern::hot}) {
        patterns.emplace(name_of(pattern), pattern);
    }
    add_size(verb, "--size", workload.size_bytes, "Bytes of the image")->default_str("256M");
    add_count(verb, "--writes", workload.writes, "How many writes", 1)->default_str("100000");
    add_size(verb, "--write-bytes", workload.write_bytes, "Bytes of each write")->default_str("8");
    add_choice(verb, "--pattern", workload.pattern, patterns, "Where the writes go")->default_str("uniform");
    verb.add_flag("--aligned", workload.aligned, "Begin each write at a multiple of its length");
    add_count(verb, "--seed", workload.seed, "The same seed makes the same writes")->default_str("1");
    add_parsed(verb, "--rewrite-same", workload.rewrite_same, "SHARE", parse_share,
               "Share of the writes that store what the image already holds")
        ->default_str("0");
}

}  // namespace

void add_measure_command(CLI::App& app) {
    const auto options = std::make_shared<MeasureOptions>();
    CLI::App* verb = app.add_subcommand(
        "measure", "Write to a private view of an image, and show what copy-on-write cost beside what a model expects");
    add_workload_options(*verb, options->workload);
    const std::map<std::string, std::optional<PageScanMethod>> scans = {{"auto", std::nullopt},
                                                                        {"pagemap_scan", PageScanMethod::pagemap_scan},
                                                                        {"pagemap", PageScanMethod::pagemap_bits}};
    add_choice(*verb, "--page-scan", options->page_scan, scans, "How pages are counted")->default_str("auto");
    verb->add_flag("--small-pages", options->small_pages, "Keep the image in 4 KiB pages");
    add_budget(*verb, options->budget);
    verb->add_flag("--json", options->json, "Print JSON instead of the table");
    verb->footer(
        "Patterns:\n"
        "  uniform     anywhere, each place equally likely\n"
        "  sequential  one behind the other, from the start again at the end\n"
        "  stride      one in each page, page after page; each lap behind the bytes of the last\n"
        "  zipf        the r-th most popular page with weight r^-0.99, scattered over the image\n"
        "  hot         90 % into the first tenth of the image, the others into the rest\n"
        "\n"
        "Example: vmcow measure --size 1G --writes 1000000 --write-bytes 64 --pattern zipf --json");
    verb->callback([options] { run_measure(*options); });
}

}  // namespace vmcow::cli
