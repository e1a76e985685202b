#include "vmcow/cli/watch/watch_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/cli/measure/what_if_formats.hpp"
#include "vmcow/cli/watch/watch_stacks.hpp"

namespace vmcow::cli {
namespace {

using meter::FamilySample;
using meter::MappingSample;
using meter::Outlook;
using meter::PageFigures;
using meter::ProcessSample;

constexpr std::size_t kNameColumns = 15;
constexpr std::size_t kMappingsShown = 8;
constexpr std::size_t kFunctionsShown = 20;
constexpr std::size_t kEndedShown = 16;
constexpr std::size_t kRowsBeside = 5;  // the heading, "and more", the sum, the forecast, and where the cursor stands

std::string bytes_text(std::uint64_t bytes) { return bytes == 0 ? "0" : human_bytes(bytes); }

std::string share_text(PageCount part, PageCount whole) {
    if (whole.value == 0) return "-";
    return fmt::format("{:.1f} %", 100 * static_cast<double>(part.value) / static_cast<double>(whole.value));
}

std::string amplification_text(const PageFigures& figures) {
    const auto amplification = figures.amplification();
    if (!amplification) return "?";
    return fmt::format("{:.3g}", *amplification);
}

std::string columns_of(const PageFigures& figures, bool with_bytes) {
    std::string line = fmt::format("{:>11}{:>11}{:>11}{:>9}{:>10}{:>9}{:>11}{:>11}", bytes_text(figures.resident_bytes),
                                   bytes_text(figures.shared_bytes), bytes_text(figures.copied.bytes()),
                                   share_text(figures.copied_by_child, figures.copied),
                                   share_text(figures.copied_by_parent, figures.copied),
                                   share_text(figures.copied_by_unknown, figures.copied), bytes_text(figures.new_bytes),
                                   bytes_text(figures.swapped_bytes));
    if (!with_bytes) return line;
    return line + fmt::format("{:>11}{:>11}{:>9}", figures.changed_bytes ? bytes_text(*figures.changed_bytes) : "?",
                              figures.identical ? bytes_text(figures.identical->bytes()) : "?",
                              amplification_text(figures));
}

std::string heading(bool with_bytes) {
    std::string line = fmt::format("{:>11}{:>11}{:>11}{:>9}{:>10}{:>9}{:>11}{:>11}", "resident", "shared", "copied",
                                   "by child", "by parent", "by ?", "new", "swapped");
    return with_bytes ? line + fmt::format("{:>11}{:>11}{:>9}", "changed", "identical", "ampl.") : line;
}

bool compares_bytes(const FamilySample& sample) { return sample.total.compared.has_value(); }

std::string process_line(const ProcessSample& process, bool with_bytes) {
    return fmt::format("{:>8} {:<{}}", process.pid, fitted(process.command, kNameColumns), kNameColumns) +
           columns_of(process.figures, with_bytes);
}

std::string rate_text(const Outlook& outlook) {
    if (!outlook.copied_bytes_per_second) return "copied per second: ?";
    return fmt::format("copied per second: {}",
                       bytes_text(static_cast<std::uint64_t>(*outlook.copied_bytes_per_second)));
}

std::string limit_text(const Outlook& outlook) {
    if (!outlook.limit_bytes) return "";
    std::string text = fmt::format("; {} of {} ({})", bytes_text(*outlook.used_bytes),
                                   human_bytes(*outlook.limit_bytes), outlook.limit_source);
    if (outlook.seconds_left) return text + ", reached in " + human_seconds(*outlook.seconds_left);
    const std::uint64_t left = *outlook.limit_bytes - std::min(*outlook.limit_bytes, *outlook.used_bytes);
    return text + (outlook.copyable_bytes <= left ? ", copying all the rest would fit" : ", nothing grows");
}

/// A line for each of the mappings with the most copies, of all processes.
std::vector<std::string> mapping_lines(const FamilySample& sample, std::size_t most) {
    struct Entry {
        const ProcessSample* process;
        const MappingSample* mapping;
    };
    std::vector<Entry> entries;
    for (const ProcessSample& process : sample.processes) {
        for (const MappingSample& mapping : process.mappings) {
            if (mapping.figures.copied.value > 0) entries.push_back({&process, &mapping});
        }
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return a.mapping->figures.copied > b.mapping->figures.copied;
    });
    if (entries.size() > most) entries.resize(most);
    std::vector<std::string> lines;
    lines.reserve(entries.size());
    for (const Entry& entry : entries) {
        lines.push_back(fmt::format("{:>8} {:#014x} {:>10} {:>10} copied  {}", entry.process->pid, entry.mapping->start,
                                    human_bytes(entry.mapping->end - entry.mapping->start),
                                    human_bytes(entry.mapping->figures.copied.bytes()), one_line(entry.mapping->name)));
    }
    return lines;
}

std::vector<EndedProcess> most_copied(std::vector<EndedProcess> ended) {
    std::stable_sort(ended.begin(), ended.end(), [](const EndedProcess& a, const EndedProcess& b) {
        return a.process.figures.copied > b.process.figures.copied;
    });
    if (ended.size() > kEndedShown) ended.resize(kEndedShown);
    std::sort(ended.begin(), ended.end(),
              [](const EndedProcess& a, const EndedProcess& b) { return a.seen_until < b.seen_until; });
    return ended;
}

std::string percent(const std::optional<double>& share) { return share ? fmt::format("{:.2f} %", 100 * *share) : "?"; }

std::string cost_text(const WatchCost& cost) {
    return fmt::format(
        "looking: {} looks in {} ({} quiet, {} only where page faults were), the longest {}; {} of the "
        "time "
        "watched, {} of a processor for this command, {} of memory\n",
        human_count(cost.scans.scans), human_seconds(cost.scans.seconds), human_count(cost.scans.quiet_scans),
        human_count(cost.scans.guided_scans), human_seconds(cost.scans.longest_seconds), percent(cost.share_of_target),
        percent(cost.share_of_watcher), human_bytes(cost.memory_bytes));
}

}  // namespace

std::vector<std::string> table_of(const FamilySample& sample, const Outlook& outlook, std::size_t most_processes) {
    const bool with_bytes = compares_bytes(sample);
    std::vector<std::string> lines;
    lines.push_back(fmt::format("{:>8} {:<{}}", "pid", "command", kNameColumns) + heading(with_bytes));
    std::size_t shown = 0;
    for (const ProcessSample& process : sample.processes) {
        if (shown++ == most_processes) break;
        lines.push_back(process_line(process, with_bytes));
    }
    if (sample.processes.size() > most_processes) {
        lines.push_back(fmt::format("{:>8} and {} more", "", sample.processes.size() - most_processes));
    }
    if (sample.processes.size() > 1) {
        lines.push_back(fmt::format("{:>8} {:<{}}", "", "all", kNameColumns) + columns_of(sample.total, with_bytes));
    }
    lines.push_back(fmt::format("{:.1f} s; ", sample.elapsed) + rate_text(outlook) + limit_text(outlook));
    return lines;
}

std::string line_of(const FamilySample& sample, const Outlook& outlook) {
    const PageFigures& total = sample.total;
    std::string line =
        fmt::format("vmcow watch: {:.1f} s: {} process{}, copied {}", sample.elapsed, sample.processes.size(),
                    sample.processes.size() == 1 ? "" : "es", bytes_text(total.copied.bytes()));
    if (total.copied.value > 0) {
        line += fmt::format(" ({} by parents, {} unknown)", share_text(total.copied_by_parent, total.copied),
                            share_text(total.copied_by_unknown, total.copied));
    }
    line += fmt::format(", shared {}, new {}, swapped {}", bytes_text(total.shared_bytes), bytes_text(total.new_bytes),
                        bytes_text(total.swapped_bytes));
    if (total.changed_bytes) {
        line +=
            fmt::format(", changed {}, amplification {}", bytes_text(*total.changed_bytes), amplification_text(total));
    }
    return line + "; " + rate_text(outlook) + limit_text(outlook);
}

std::string summary_of(const WatchReport& report) {
    std::string text;
    if (report.samples.empty()) {
        text += "nothing was seen: the processes had ended before the first look\n";
    } else {
        const FamilySample& last = report.samples.back();
        for (const std::string& line : table_of(last, report.outlook, last.processes.size())) text += line + "\n";
        for (const EndedProcess& each : most_copied(report.ended)) {
            text += process_line(each.process, compares_bytes(last)) +
                    fmt::format("  ended, seen at {:.1f} s\n", each.seen_until);
        }
        for (const std::string& line : mapping_lines(last, kMappingsShown)) text += line + "\n";
    }
    if (report.what_if && report.what_if->best_block_bytes) text += best_block_text(*report.what_if);
    if (report.functions) {
        for (const std::string& line : function_lines(*report.functions, kFunctionsShown)) text += line + "\n";
    }
    text += cost_text(report.cost);
    for (const std::string& note : report.notes) text += "note: " + one_line(note) + "\n";
    return text;
}

void WatchDisplay::show(const FamilySample& sample, const Outlook& outlook) {
    display_.show(
        [&](const sys::TerminalSize& size) {
            return table_of(sample, outlook, size.rows > kRowsBeside ? size.rows - kRowsBeside : 1);
        },
        [&] { return line_of(sample, outlook); });
}

}  // namespace vmcow::cli
