// Where copies lie: at which addresses over time, in which mappings, from which functions.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/report/report_section.hpp"

namespace vmcow::cli {
namespace {

constexpr double kPage = 4096;
constexpr std::size_t kMostHeatMaps = 4;
constexpr std::size_t kMostRows = 64;
constexpr std::size_t kMostTimes = 120;
constexpr std::size_t kMostMappings = 40;
constexpr std::size_t kMostFunctions = 100;
constexpr std::size_t kMostBars = 12;

/// The copied pages of an address range, bucket by bucket, at several moments.
struct HeatRange {
    double start = 0;
    double end = 0;
    double bucket_bytes = 0;
    std::string name;
    std::map<double, std::vector<MaybeNumber>> copied;
    double most = 0;  ///< copied pages, at any moment
};

struct HeatProcess {
    std::string name;
    std::vector<HeatRange> ranges;
    double most = 0;
};

double needed(const ReportJson& object, const char* key) {
    const MaybeNumber value = number_of(object, key);
    if (!value) throw std::invalid_argument(fmt::format("'{}' is missing", key));
    return *value;
}

/// The address `key` of `object`. Not every number is an address.
double address_of(const ReportJson& object, const char* key) {
    const double address = needed(object, key);
    if (!(address >= 0 && address < 0x1p64)) throw std::invalid_argument(fmt::format("'{}' is no address", key));
    return address;
}

std::size_t buckets_of(const HeatRange& range) {
    return static_cast<std::size_t>(std::ceil((range.end - range.start) / range.bucket_bytes));
}

void set_most(HeatRange& range) {
    for (const auto& [time, buckets] : range.copied) {
        double sum = 0;
        for (const MaybeNumber& pages : buckets) sum += pages.value_or(0);
        range.most = std::max(range.most, sum);
    }
}

HeatRange range_of(const ReportJson& entry) {
    HeatRange range{.start = address_of(entry, "start"),
                    .end = address_of(entry, "end"),
                    .bucket_bytes = needed(entry, "bucket_bytes"),
                    .name = text_of(entry, "name"),
                    .copied = {}};
    if (!(range.bucket_bytes >= kPage && range.end > range.start))
        throw std::invalid_argument("'heat' has an empty range, or buckets of less than a page");
    const auto rows = entry.find("copied_pages");
    const auto times = entry.find("times");
    if (rows == entry.end() || times == entry.end() || !rows->is_array()) {
        throw std::invalid_argument("'heat' lacks 'times' or 'copied_pages'");
    }
    const std::vector<MaybeNumber> moments = numbers_of(*times, "times");
    if (moments.size() != rows->size()) throw std::invalid_argument("'heat' has not as many rows as times");
    for (std::size_t i = 0; i < moments.size(); ++i) {
        std::vector<MaybeNumber> row = numbers_of((*rows)[i], "copied_pages");
        if (row.size() > buckets_of(range)) throw std::invalid_argument("'heat' has more buckets than its range");
        if (moments[i]) range.copied[*moments[i]] = std::move(row);
    }
    set_most(range);
    return range;
}

/// The name of the mapping that begins at or before `range`, or else of the first that begins within it; empty if there
/// is none. `names` are those of the samples, by start address.
std::string name_within(const std::map<double, std::string>& names, const HeatRange& range) {
    auto found = names.upper_bound(range.start);
    if (found != names.begin()) return std::prev(found)->second;
    return found != names.end() && found->first < range.end ? found->second : "";
}

/// The processes in "heat", by pid.
std::map<double, HeatProcess> heat_by_document(const ReportJson& document) {
    std::map<double, HeatProcess> processes;
    for (const ReportJson& entry : objects_of(document, "heat")) {
        processes[needed(entry, "pid")].ranges.push_back(range_of(entry));
    }
    std::map<double, std::map<double, std::string>> names;
    for (const ReportJson& sample : objects_of(document, "samples")) {
        const auto process = processes.find(needed(sample, "pid"));
        if (process == processes.end()) continue;
        process->second.name = process_name(sample);
        for (const ReportJson& mapping : objects_of(sample, "mappings")) {
            names[process->first][address_of(mapping, "start")] = text_of(mapping, "name");
        }
    }
    for (auto& [pid, process] : processes) {
        if (process.name.empty()) process.name = fmt::format("process {:.0f}", pid);
        for (HeatRange& range : process.ranges) {
            if (range.name.empty()) range.name = name_within(names[pid], range);
        }
    }
    return processes;
}

/// The processes in the samples, by pid, for a document without "heat": each mapping is one bucket.
std::map<double, HeatProcess> heat_by_mappings(const ReportJson& document) {
    std::map<double, HeatProcess> processes;
    std::map<std::pair<double, double>, HeatRange> ranges;
    for (const ReportJson& sample : objects_of(document, "samples")) {
        const double pid = needed(sample, "pid");
        processes[pid].name = process_name(sample);
        for (const ReportJson& mapping : objects_of(sample, "mappings")) {
            HeatRange& range = ranges[{pid, needed(mapping, "start")}];
            range.start = address_of(mapping, "start");
            range.end = std::max(range.end, address_of(mapping, "end"));
            range.bucket_bytes = range.end - range.start;
            range.name = text_of(mapping, "name");
            range.copied[needed(sample, "elapsed")] = {number_of(mapping, "copied_pages")};
        }
    }
    for (auto& [key, range] : ranges) {
        set_most(range);
        if (range.bucket_bytes > 0) processes[key.first].ranges.push_back(std::move(range));
    }
    return processes;
}

/// The moments that are drawn. Each stands for all moments up to the next one.
std::vector<double> columns_of(const std::vector<HeatRange>& ranges) {
    std::set<double> moments;
    for (const HeatRange& range : ranges) {
        for (const auto& [time, buckets] : range.copied) moments.insert(time);
    }
    const std::size_t step = (moments.size() + kMostTimes - 1) / kMostTimes;
    std::vector<double> columns;
    std::size_t index = 0;
    for (const double time : moments) {
        if (index++ % step == 0) columns.push_back(time);
    }
    return columns;
}

/// The share of the buckets from `first` to before `last` that is copied: for each column, the highest of its moments.
std::vector<MaybeNumber> shares_of(const HeatRange& range, std::size_t first, std::size_t last,
                                   const std::vector<double>& columns) {
    const double begin = range.start + static_cast<double>(first) * range.bucket_bytes;
    const double end = std::min(range.end, range.start + static_cast<double>(last) * range.bucket_bytes);
    std::vector<MaybeNumber> shares(columns.size());
    for (const auto& [time, buckets] : range.copied) {
        MaybeNumber pages;
        for (std::size_t i = first; i < std::min(last, buckets.size()); ++i) {
            if (buckets[i]) pages = pages.value_or(0) + *buckets[i];
        }
        if (!pages) continue;
        const auto column = std::upper_bound(columns.begin(), columns.end(), time) - columns.begin() - 1;
        MaybeNumber& share = shares[static_cast<std::size_t>(std::max<std::ptrdiff_t>(column, 0))];
        share = std::max(share.value_or(0), std::min(1.0, *pages * kPage / (end - begin)));
    }
    return shares;
}

void add_rows(const HeatRange& range, std::size_t buckets_a_row, HeatChart& map) {
    for (std::size_t first = 0; first < buckets_of(range); first += buckets_a_row) {
        const auto address =
            static_cast<std::uint64_t>(range.start) + first * static_cast<std::uint64_t>(range.bucket_bytes);
        map.rows.push_back({.label = fmt::format("{:x} {}", address, shortened(range.name, 40)),
                            .share = shares_of(range, first, first + buckets_a_row, map.times),
                            .begins_range = first == 0});
    }
}

std::size_t rows_of(const std::vector<HeatRange>& ranges, std::size_t buckets_a_row) {
    std::size_t rows = 0;
    for (const HeatRange& range : ranges) rows += (buckets_of(range) + buckets_a_row - 1) / buckets_a_row;
    return rows;
}

HeatChart heat_map(HeatProcess process) {
    HeatChart map{.title = fmt::format("Where {} has copies", process.name),
                  .caption = "Each row is a piece of its addresses, each column a moment.",
                  .times = {},
                  .rows = {}};
    std::vector<HeatRange>& ranges = process.ranges;
    const auto untouched =
        std::remove_if(ranges.begin(), ranges.end(), [](const HeatRange& range) { return range.most <= 0; });
    ranges.erase(untouched, ranges.end());
    std::stable_sort(ranges.begin(), ranges.end(),
                     [](const HeatRange& a, const HeatRange& b) { return a.most > b.most; });
    if (ranges.size() > kMostRows / 2) {
        map.caption += fmt::format(" The {} ranges with the most copies, of {}.", kMostRows / 2, ranges.size());
        ranges.erase(ranges.begin() + kMostRows / 2, ranges.end());
    }
    std::sort(ranges.begin(), ranges.end(), [](const HeatRange& a, const HeatRange& b) { return a.start < b.start; });
    map.times = columns_of(ranges);
    std::size_t buckets_a_row = 1;
    while (rows_of(ranges, buckets_a_row) > kMostRows) buckets_a_row *= 2;
    for (const HeatRange& range : ranges) add_rows(range, buckets_a_row, map);
    return map;
}

struct MappingRow {
    double copied = 0;
    std::vector<std::string> cells;
};

MappingRow row_of(const std::string& process, const ReportJson& mapping) {
    const std::string name = text_of(mapping, "name");
    return {
        .copied = number_of(mapping, "copied_bytes").value_or(0),
        .cells = {name.empty() ? "(anonymous)" : name, process,
                  fmt::format("{:x}", static_cast<std::uint64_t>(address_of(mapping, "start"))),
                  format_value(needed(mapping, "end") - needed(mapping, "start"), Unit::bytes),
                  cell_of(mapping, "resident_bytes", Unit::bytes), cell_of(mapping, "shared_bytes", Unit::bytes),
                  cell_of(mapping, "copied_bytes", Unit::bytes), cell_of(mapping, "new_bytes", Unit::bytes),
                  cell_of(mapping, "swapped_bytes", Unit::bytes), cell_of(mapping, "changed_bytes", Unit::bytes),
                  cell_of(mapping, "identical_pages", Unit::count), cell_of(mapping, "amplification", Unit::times)}};
}

/// For each process, the sample with the most copied bytes, of those that have mappings.
std::vector<const ReportJson*> fullest_samples(const ReportJson& document) {
    std::map<double, const ReportJson*> fullest;
    for (const ReportJson& sample : objects_of(document, "samples")) {
        if (objects_of(sample, "mappings").empty()) continue;
        const ReportJson*& best = fullest[needed(sample, "pid")];
        const double copied = number_of(sample, "copied_bytes").value_or(0);
        if (best == nullptr || copied > number_of(*best, "copied_bytes").value_or(0)) best = &sample;
    }
    std::vector<const ReportJson*> samples;
    samples.reserve(fullest.size());
    for (const auto& [pid, sample] : fullest) samples.push_back(sample);
    return samples;
}

std::string place_of(const ReportJson& function) {
    const std::string file = text_of(function, "file");
    const MaybeNumber line = number_of(function, "line");
    if (file.empty()) return "?";
    return line ? fmt::format("{}:{:.0f}", file, *line) : file;
}

std::string known(const std::string& text) { return text.empty() ? "?" : text; }

Chart function_bars(const std::vector<ReportJson>& functions) {
    Chart chart{.title = "Which functions made the copies",
                .caption = "",
                .x = {},
                .y = {"copied pages", Unit::count},
                .series = {Series{.name = "", .points = {}}}};
    for (const ReportJson& function : functions) {
        if (chart.labels.size() == kMostBars) break;
        chart.series.front().points.push_back(
            {.x = static_cast<double>(chart.labels.size()), .y = number_of(function, "copied_pages")});
        chart.labels.push_back(shortened(known(text_of(function, "function")), 32));
    }
    if (functions.size() > kMostBars) {
        chart.caption = fmt::format("The first {} of {}.", kMostBars, functions.size());
    }
    return chart;
}

}  // namespace

void add_heat(const ReportJson& document, Section& section) {
    std::map<double, HeatProcess> by_pid =
        objects_of(document, "heat").empty() ? heat_by_mappings(document) : heat_by_document(document);
    std::vector<HeatProcess> processes;
    for (auto& [pid, process] : by_pid) {
        for (const HeatRange& range : process.ranges) process.most += range.most;
        if (process.most > 0) processes.push_back(std::move(process));
    }
    std::stable_sort(processes.begin(), processes.end(),
                     [](const HeatProcess& a, const HeatProcess& b) { return a.most > b.most; });
    const std::size_t drawn = std::min(processes.size(), kMostHeatMaps);
    for (std::size_t i = 0; i < drawn; ++i) section.heat.push_back(heat_map(std::move(processes[i])));
    if (drawn < processes.size()) {
        section.heat.back().caption +=
            fmt::format(" Of {} processes with copies, the {} with the most are drawn.", processes.size(), drawn);
    }
}

void add_mappings(const ReportJson& document, Section& section) {
    std::vector<MappingRow> rows;
    for (const ReportJson* sample : fullest_samples(document)) {
        const std::string process = process_name(*sample);
        for (const ReportJson& mapping : objects_of(*sample, "mappings")) rows.push_back(row_of(process, mapping));
    }
    if (rows.empty()) return;
    std::stable_sort(rows.begin(), rows.end(),
                     [](const MappingRow& a, const MappingRow& b) { return a.copied > b.copied; });
    Table table{.title = "Mappings",
                .caption = "Of each process when it had the most copied bytes.",
                .columns = {{"mapping", true},
                            {"process", true},
                            {"begins at"},
                            {"size"},
                            {"resident"},
                            {"shared"},
                            {"copied"},
                            {"new"},
                            {"swapped"},
                            {"changed"},
                            {"identical"},
                            {"amplification"}},
                .rows = {}};
    if (rows.size() > kMostMappings) {
        double others = 0;
        for (std::size_t i = kMostMappings; i < rows.size(); ++i) others += rows[i].copied;
        table.caption += fmt::format(" The {} with the most, of {}; the others have {} copied.", kMostMappings,
                                     rows.size(), format_value(others, Unit::bytes));
        rows.resize(kMostMappings);
    }
    for (MappingRow& row : rows) table.rows.push_back(std::move(row.cells));
    section.tables.push_back(std::move(table));
}

void add_functions(const ReportJson& document, Section& section) {
    std::vector<ReportJson> functions = objects_of(document, "functions");
    if (functions.empty()) return;
    std::stable_sort(functions.begin(), functions.end(), [](const ReportJson& a, const ReportJson& b) {
        return number_of(a, "copied_pages").value_or(0) > number_of(b, "copied_pages").value_or(0);
    });
    section.charts.push_back(function_bars(functions));
    Table table{
        .title = "Functions",
        .caption = "Whose writes made the copies.",
        .columns = {{"function", true}, {"line", true}, {"program or library", true}, {"copied pages"}, {"share"}},
        .rows = {}};
    for (const ReportJson& function : functions) {
        if (table.rows.size() == kMostFunctions) {
            table.caption += fmt::format(" The first {} of {}.", kMostFunctions, functions.size());
            break;
        }
        table.rows.push_back({known(text_of(function, "function")), place_of(function),
                              known(text_of(function, "object")), cell_of(function, "copied_pages", Unit::count),
                              cell_of(function, "share", Unit::share)});
    }
    section.tables.push_back(std::move(table));
}

}  // namespace vmcow::cli
