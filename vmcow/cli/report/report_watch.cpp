#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/report/report_section.hpp"

namespace vmcow::cli {
namespace {

/// At most 10 lines: more cannot be told apart by colour.
constexpr std::size_t kMostLines = 10;
constexpr std::size_t kMostPoints = 600;
constexpr std::size_t kMostProcesses = 50;
constexpr double kPage = 4096;

struct ProcessSeries {
    std::string name;
    std::vector<const ReportJson*> samples;
    const ReportJson* peak = nullptr;  ///< the sample with the most copied bytes
    double peak_copied = 0;
};

double elapsed_of(const ReportJson& sample) {
    const MaybeNumber elapsed = number_of(sample, "elapsed");
    if (!elapsed) throw std::invalid_argument("a sample has no 'elapsed'");
    return *elapsed;
}

double pid_of(const ReportJson& sample) {
    const MaybeNumber pid = number_of(sample, "pid");
    if (!pid) throw std::invalid_argument("a sample has no 'pid'");
    return *pid;
}

/// The processes of the samples, those that copied most first.
std::vector<ProcessSeries> processes_of(const std::vector<ReportJson>& samples) {
    std::map<double, ProcessSeries> by_pid;
    for (const ReportJson& sample : samples) {
        ProcessSeries& process = by_pid[pid_of(sample)];
        const double copied = number_of(sample, "copied_bytes").value_or(0);
        if (process.peak == nullptr || copied > process.peak_copied) {
            process.peak = &sample;
            process.peak_copied = copied;
        }
        process.name = process_name(sample);  // an exec changes the name: the last one counts
        process.samples.push_back(&sample);
    }
    std::vector<ProcessSeries> processes;
    processes.reserve(by_pid.size());
    for (auto& [pid, process] : by_pid) processes.push_back(std::move(process));
    std::stable_sort(processes.begin(), processes.end(),
                     [](const ProcessSeries& a, const ProcessSeries& b) { return a.peak_copied > b.peak_copied; });
    return processes;
}

/// The part of `key` that a sibling counts as well: pages that the common parent has copied for itself.
double counted_by_sibling(const ReportJson& sample, std::string_view key) {
    const double pages = number_of(sample, "copied_with_sibling_pages").value_or(0);
    if (key == "copied_bytes") return pages * kPage;
    return key == "copied_pages" || key == "copied_by_parent_pages" ? pages : 0;
}

/// The sum of `key` over the processes from `begin` to `end` at each moment, as far as it is known.
std::map<double, MaybeNumber> sums_of(const ProcessSeries* begin, const ProcessSeries* end, const char* key) {
    std::map<double, MaybeNumber> sums;
    for (const ProcessSeries* process = begin; process != end; ++process) {
        for (const ReportJson* sample : process->samples) {
            MaybeNumber& sum = sums[elapsed_of(*sample)];
            const MaybeNumber value = number_of(*sample, key);
            if (value) sum = sum.value_or(0) + *value - counted_by_sibling(*sample, key);
        }
    }
    return sums;
}

Series series_of_sums(const std::string& name, const std::map<double, MaybeNumber>& sums) {
    Series series{.name = name, .points = {}};
    for (const auto& [time, sum] : sums) series.points.push_back({.x = time, .y = sum});
    return series;
}

Series series_of(const ProcessSeries& process, const char* key) {
    Series series{.name = process.name, .points = {}};
    for (const ReportJson* sample : process.samples) {
        series.points.push_back({.x = elapsed_of(*sample), .y = number_of(*sample, key)});
    }
    return series;
}

bool knows_any(const Series& series) {
    return std::any_of(series.points.begin(), series.points.end(), [](const Point& point) { return point.y; });
}

void thin_out(Chart& chart) {
    bool thinned = false;
    for (Series& series : chart.series) thinned = thin_out(series, kMostPoints) || thinned;
    if (thinned) {
        chart.caption += fmt::format(
            " At most {} samples of a line are drawn: the lowest and the highest of each stretch.", kMostPoints);
    }
}

struct OverTime {
    const char* key;
    const char* title;
    const char* caption;
};

/// Adds a chart with a line for each process; the processes that copied least share one line. Adds none if all is
/// unknown.
void add_over_time(const std::vector<ProcessSeries>& processes, const OverTime& what, Section& section) {
    Chart chart{.title = what.title,
                .caption = what.caption,
                .x = {"seconds since the watch began", Unit::seconds},
                .y = {"bytes", Unit::bytes},
                .series = {}};
    const std::size_t alone = processes.size() > kMostLines ? kMostLines - 1 : processes.size();
    for (std::size_t i = 0; i < alone; ++i) {
        Series series = series_of(processes[i], what.key);
        if (knows_any(series)) chart.series.push_back(std::move(series));
    }
    if (alone < processes.size()) {
        const std::string name = fmt::format("{} others together", processes.size() - alone);
        const ProcessSeries* all = processes.data();
        Series others = series_of_sums(name, sums_of(all + alone, all + processes.size(), what.key));
        if (knows_any(others)) chart.series.push_back(std::move(others));
    }
    if (chart.series.empty()) return;
    thin_out(chart);
    section.charts.push_back(std::move(chart));
}

/// Adds an overlay with one line for all processes together, by which several watches can be compared.
void add_overlay(const std::vector<ProcessSeries>& processes, const OverTime& what, Section& section) {
    Chart chart{
        .title = std::string(what.title) + ", all processes",
        .caption = "",
        .x = {"seconds since the watch began", Unit::seconds},
        .y = {"bytes", Unit::bytes},
        .series = {series_of_sums("", sums_of(processes.data(), processes.data() + processes.size(), what.key))}};
    if (!knows_any(chart.series.front())) return;
    thin_out(chart);
    section.overlays.push_back(std::move(chart));
}

/// Adds the limit of the forecast to the first chart, if the copies come anywhere near it.
void add_limit(const ReportJson& document, Section& section) {
    const MaybeNumber limit = number_of(object_of(document, "forecast"), "limit_bytes");
    if (!limit || section.charts.empty()) return;
    Chart& chart = section.charts.front();
    double highest = 0;
    double begin = 0;
    double end = 0;
    for (const Series& series : chart.series) {
        for (const Point& point : series.points) {
            highest = std::max(highest, point.y.value_or(0));
            end = std::max(end, point.x);
        }
    }
    if (highest < *limit / 4) return;
    chart.series.push_back({.name = "limit", .points = {{begin, limit}, {end, limit}}, .style = SeriesStyle::limit});
}

/// The moment at which all processes together had the most copied bytes.
MaybeNumber peak_time(const std::map<double, MaybeNumber>& copied) {
    MaybeNumber time;
    double most = -1;
    for (const auto& [at, sum] : copied) {
        if (sum && *sum > most) {
            most = *sum;
            time = at;
        }
    }
    return time;
}

MaybeNumber at(const std::map<double, MaybeNumber>& sums, const MaybeNumber& time) {
    if (!time) return std::nullopt;
    const auto found = sums.find(*time);
    return found == sums.end() ? std::nullopt : found->second;
}

MaybeNumber highest(const std::map<double, MaybeNumber>& sums) {
    MaybeNumber most;
    for (const auto& [time, sum] : sums) {
        if (sum) most = std::max(most.value_or(*sum), *sum);
    }
    return most;
}

MaybeNumber pages_to_bytes(const MaybeNumber& pages) { return pages ? MaybeNumber(*pages * kPage) : std::nullopt; }

MaybeNumber ratio(const MaybeNumber& a, const MaybeNumber& b) {
    return a && b && *b > 0 ? MaybeNumber(*a / *b) : std::nullopt;
}

std::vector<Figure> figures(const ReportJson& document, const std::vector<ProcessSeries>& processes) {
    const auto sums = [&](const char* key) {
        return sums_of(processes.data(), processes.data() + processes.size(), key);
    };
    const std::map<double, MaybeNumber> copied = sums("copied_bytes");
    const MaybeNumber peak = peak_time(copied);
    const MaybeNumber changed = at(sums("changed_bytes"), peak);
    const MaybeNumber by_parent = at(sums("copied_by_parent_pages"), peak);
    const MaybeNumber identical = at(sums("identical_pages"), peak);
    // Not all copies of a process that is about to end can still be compared.
    const MaybeNumber compared = pages_to_bytes(at(sums("compared_pages"), peak));
    const MaybeNumber base = compared ? compared : at(copied, peak);
    const ReportJson& forecast = object_of(document, "forecast");
    const ReportJson& cost = object_of(document, "cost");
    return {
        {"processes", Unit::count, static_cast<double>(processes.size())},
        {"watched for", Unit::seconds, copied.empty() ? MaybeNumber() : MaybeNumber(copied.rbegin()->first)},
        {"copied, at most", Unit::bytes, at(copied, peak)},
        {"of that by the parent", Unit::bytes, pages_to_bytes(by_parent)},
        {"compared then", Unit::bytes, compared},
        {"changed then", Unit::bytes, changed},
        {"identical then", Unit::share, ratio(pages_to_bytes(identical), base)},
        {"amplification then", Unit::times, ratio(changed ? base : std::nullopt, changed)},
        {"resident, at most", Unit::bytes, highest(sums("resident_bytes"))},
        {"swapped, at most", Unit::bytes, highest(sums("swapped_bytes"))},
        {"copied a second", Unit::bytes, number_of(forecast, "copied_bytes_per_second")},
        {"limit", Unit::bytes, number_of(forecast, "limit_bytes")},
        {"limit reached in", Unit::seconds, number_of(forecast, "seconds_left")},
        {"time in scans", Unit::seconds, number_of(cost, "scan_seconds")},
        {"longest scan", Unit::seconds, number_of(cost, "longest_scan_seconds")},
        {"share of the target's time", Unit::share, number_of(cost, "share_of_target")},
    };
}

/// What forks cost at one moment, summed over the processes that were forked from a watched relative, or over all
/// processes if there are none. The moment is the last one with the most compared pages or, if those are equal, the
/// most copied bytes: a process that is about to end has more copies than can still be compared.
std::vector<Figure> summary(const std::vector<ReportJson>& samples) {
    struct Moment {
        double processes = 0;
        std::map<std::string, MaybeNumber> sums;
        [[nodiscard]] MaybeNumber operator[](const char* key) const { return sums.at(key); }
    };
    const auto is_forked = [](const ReportJson& sample) {
        const auto found = sample.find("has_relative");
        return found != sample.end() && found->is_boolean() && found->get<bool>();
    };
    const bool any_forked = std::any_of(samples.begin(), samples.end(), is_forked);
    std::map<double, Moment> moments;
    for (const ReportJson& sample : samples) {
        if (any_forked && !is_forked(sample)) continue;
        Moment& moment = moments[elapsed_of(sample)];
        ++moment.processes;
        for (const char* key : {"resident_bytes", "shared_bytes", "copied_bytes", "new_bytes", "compared_pages",
                                "changed_bytes", "identical_pages"}) {
            MaybeNumber& sum = moment.sums[key];
            if (const MaybeNumber value = number_of(sample, key)) {
                sum = sum.value_or(0) + *value - counted_by_sibling(sample, key);
            }
        }
    }
    if (moments.empty()) return {};
    const auto weight = [](const Moment& moment) {
        return std::pair(moment["compared_pages"].value_or(0), moment["copied_bytes"].value_or(0));
    };
    auto most = moments.begin();
    for (auto at = moments.begin(); at != moments.end(); ++at) {
        if (weight(at->second) >= weight(most->second)) most = at;
    }
    const Moment& moment = most->second;
    const MaybeNumber compared = moment["compared_pages"];
    const MaybeNumber changed = moment["changed_bytes"];
    return {{"processes", Unit::count, moment.processes},
            {"resident", Unit::bytes, moment["resident_bytes"]},
            {"shared", Unit::bytes, moment["shared_bytes"]},
            {"copied", Unit::bytes, moment["copied_bytes"]},
            {"new", Unit::bytes, moment["new_bytes"]},
            {"changed", Unit::bytes, changed},
            {"identical", Unit::share, ratio(moment["identical_pages"], compared)},
            {"amplification", Unit::times, ratio(pages_to_bytes(compared), changed)}};
}

void add_processes(const std::vector<ProcessSeries>& processes, Section& section) {
    Table table{.title = "Processes",
                .caption = "Each when it had the most copied bytes.",
                .columns = {{"process", true},
                            {"parent"},
                            {"at"},
                            {"resident"},
                            {"shared"},
                            {"copied"},
                            {"by the parent"},
                            {"new"},
                            {"swapped"},
                            {"changed"},
                            {"identical"},
                            {"amplification"}},
                .rows = {}};
    for (const ProcessSeries& process : processes) {
        if (table.rows.size() == kMostProcesses) {
            table.caption += fmt::format(" The {} that copied most, of {}.", kMostProcesses, processes.size());
            break;
        }
        const ReportJson& sample = *process.peak;
        const MaybeNumber parent = number_of(sample, "parent_pid");
        const MaybeNumber by_parent = number_of(sample, "copied_by_parent_pages");
        table.rows.push_back(
            {process.name, parent ? fmt::format("{:.0f}", *parent) : "?", cell_of(sample, "elapsed", Unit::seconds),
             cell_of(sample, "resident_bytes", Unit::bytes), cell_of(sample, "shared_bytes", Unit::bytes),
             cell_of(sample, "copied_bytes", Unit::bytes), format_value(pages_to_bytes(by_parent), Unit::bytes),
             cell_of(sample, "new_bytes", Unit::bytes), cell_of(sample, "swapped_bytes", Unit::bytes),
             cell_of(sample, "changed_bytes", Unit::bytes), cell_of(sample, "identical_pages", Unit::count),
             cell_of(sample, "amplification", Unit::times)});
    }
    section.tables.push_back(std::move(table));
}

std::string verdict(const ReportJson& document, const std::vector<Figure>& figures) {
    const auto find = [&](std::string_view name) {
        return *std::find_if(figures.begin(), figures.end(), [&](const Figure& f) { return f.name == name; });
    };
    const auto figure = [&](std::string_view name) { return format_value(find(name).value, find(name).unit); };
    const MaybeNumber compared = find("compared then").value;
    const bool all_compared = !compared || *compared >= find("copied, at most").value.value_or(0);
    std::string text = fmt::format(
        "At most {} were copied, {} of {} changed; {} resident.", figure("copied, at most"), figure("changed then"),
        all_compared ? "them" : "the " + figure("compared then") + " compared", figure("resident, at most"));
    const ReportJson& forecast = object_of(document, "forecast");
    const MaybeNumber left = number_of(forecast, "seconds_left");
    const MaybeNumber limit = number_of(forecast, "limit_bytes");
    const std::string source = text_of(forecast, "limit_source");
    if (left && limit) {
        text += fmt::format(" At {} a second the limit of {}{} is reached in {}.", figure("copied a second"),
                            format_value(limit, Unit::bytes), source.empty() ? "" : " (" + source + ")",
                            format_value(left, Unit::seconds));
    }
    return text;
}

}  // namespace

std::string process_name(const ReportJson& sample) {
    constexpr std::size_t kMostLetters = 28;
    const std::string command = text_of(sample, "command");
    return fmt::format("{} {:.0f}", command.empty() ? "?" : shortened(command, kMostLetters), pid_of(sample));
}

Section watch_section(const ReportJson& document) {
    const std::vector<ReportJson>& samples = objects_of(document, "samples");
    const std::vector<ProcessSeries> processes = processes_of(samples);
    Section section;
    const std::string command = text_of(document, "command");
    section.title = fmt::format("{}: {} process{}, {} samples", command.empty() ? "A watch" : command, processes.size(),
                                processes.size() == 1 ? "" : "es", samples.size());
    section.figures = figures(document, processes);
    section.summary = summary(samples);
    section.verdict = verdict(document, section.figures);
    const auto figure = [&](std::string_view name) {
        return std::find_if(section.figures.begin(), section.figures.end(),
                            [&](const Figure& f) { return f.name == name; })
            ->value;
    };
    section.spent = spent_of(figure("copied, at most"), figure("amplification then"), figure("identical then"));
    for (const OverTime& what :
         {OverTime{"copied_bytes", "Copied since the fork", "Pages that exist twice because one side wrote to them."},
          OverTime{"changed_bytes", "Changed bytes", "Bytes of the copied pages that differ from the relative's."},
          OverTime{"resident_bytes", "Resident memory", ""}}) {
        add_over_time(processes, what, section);
        add_overlay(processes, what, section);
    }
    add_limit(document, section);
    add_what_if(document, section);
    add_heat(document, section);
    add_processes(processes, section);
    add_functions(document, section);
    add_mappings(document, section);
    return section;
}

}  // namespace vmcow::cli
