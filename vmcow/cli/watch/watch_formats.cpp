#include "vmcow/cli/watch/watch_formats.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "vmcow/cli/measure/what_if_formats.hpp"

namespace vmcow::cli {
namespace {

using Json = nlohmann::ordered_json;
using meter::FamilySample;
using meter::MappingSample;
using meter::PageFigures;
using meter::ProcessSample;

template <class Value>
Json or_null(const std::optional<Value>& value) {
    return value ? Json(*value) : Json();
}

Json pages_or_null(const std::optional<PageCount>& pages) { return pages ? Json(pages->value) : Json(); }

void add_figures(Json& object, const PageFigures& figures) {
    object["resident_bytes"] = figures.resident_bytes;
    object["shared_bytes"] = figures.shared_bytes;
    object["copied_pages"] = figures.copied.value;
    object["copied_bytes"] = figures.copied.bytes();
    object["copied_by_child_pages"] = or_null(figures.known_by_child());
    object["copied_by_parent_pages"] = or_null(figures.known_by_parent());
    object["copied_by_unknown_pages"] = figures.copied_by_unknown.value;
    object["copied_with_sibling_pages"] = figures.copied_with_sibling.value;
    object["copied_early_pages"] = figures.copied_early.value;
    object["new_bytes"] = figures.new_bytes;
    object["swapped_bytes"] = figures.swapped_bytes;
    object["compared_pages"] = pages_or_null(figures.compared);
    object["changed_bytes"] = or_null(figures.changed_bytes);
    object["identical_pages"] = pages_or_null(figures.identical);
    object["amplification"] = or_null(figures.amplification());
}

Json mapping_object(const MappingSample& mapping) {
    Json object;
    object["start"] = mapping.start;
    object["end"] = mapping.end;
    object["name"] = mapping.name;
    add_figures(object, mapping.figures);
    return object;
}

Json functions_array(const std::vector<meter::FunctionCopies>& functions) {
    constexpr std::size_t kMostFunctions = 1000;
    Json array = Json::array();
    for (const meter::FunctionCopies& each : functions) {
        if (array.size() == kMostFunctions) break;
        array.push_back({{"function", each.name.function},
                         {"file", or_null(each.name.file)},
                         {"line", or_null(each.name.line)},
                         {"object", each.name.object},
                         {"copied_pages", each.copied_pages},
                         {"share", each.share}});
    }
    return array;
}

Json process_object(const FamilySample& sample, const ProcessSample& process) {
    Json object;
    object["time"] = sample.time;
    object["elapsed"] = sample.elapsed;
    object["pid"] = process.pid;
    object["parent_pid"] = process.parent;
    object["command"] = process.command;
    object["has_relative"] = process.has_parent;
    add_figures(object, process.figures);
    object["mappings_left_out"] = process.mappings_left_out;
    Json mappings = Json::array();
    for (const MappingSample& mapping : process.mappings) mappings.push_back(mapping_object(mapping));
    object["mappings"] = std::move(mappings);
    return object;
}

/// Replaces bytes that are not UTF-8: JSON is UTF-8, and names need not be.
std::string dump(const Json& json, int indent) {
    return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string quoted_csv(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + "\"";
}

template <class Value>
std::string or_empty(const std::optional<Value>& value) {
    return value ? fmt::format("{}", *value) : std::string();
}

std::string label_value(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '\n') {
            escaped += "\\n";
        } else if (c == '"' || c == '\\') {
            escaped += '\\';
            escaped += c;
        } else {
            escaped += byte < 0x20 || byte >= 0x7f ? '?' : c;  // the text is UTF-8, and names need not be
        }
    }
    return escaped;
}

/// The text of gauges: families with a gauge for each process, and single gauges.
class Exposition {
public:
    template <class Value>
    void per_process(std::string_view name, std::string_view help, const FamilySample& sample, Value&& value) {
        std::string lines;
        for (const ProcessSample& process : sample.processes) {
            const auto number = value(process.figures);
            if (!number) continue;
            lines += fmt::format("{}{{pid=\"{}\",command=\"{}\"}} {}\n", name, process.pid,
                                 label_value(process.command), *number);
        }
        add(name, help, lines);
    }
    template <class Number>
    void single(std::string_view name, std::string_view help, const std::optional<Number>& number) {
        add(name, help, number ? fmt::format("{} {}\n", name, *number) : std::string());
    }
    /// Adds a family with its lines. A gauge that is unknown has no line, and a family without lines is left out.
    void add(std::string_view name, std::string_view help, const std::string& lines) {
        if (!lines.empty()) text_ += fmt::format("# HELP {} {}\n# TYPE {} gauge\n{}", name, help, name, lines);
    }
    [[nodiscard]] std::string text() const { return text_ + "# EOF\n"; }

private:
    std::string text_;
};

std::optional<std::uint64_t> known(std::uint64_t value) { return value; }

}  // namespace

std::string ndjson_of(const FamilySample& sample) {
    std::string lines;
    for (const ProcessSample& process : sample.processes) {
        lines += dump(process_object(sample, process), -1);
    }
    return lines;
}

std::string csv_header() {
    return "time,elapsed,pid,parent_pid,command,resident_bytes,shared_bytes,copied_pages,copied_bytes,"
           "copied_by_child_pages,copied_by_parent_pages,copied_by_unknown_pages,new_bytes,swapped_bytes,"
           "compared_pages,changed_bytes,identical_pages,amplification\n";
}

std::string csv_of(const FamilySample& sample) {
    std::string lines;
    for (const ProcessSample& process : sample.processes) {
        const PageFigures& figures = process.figures;
        const auto count_of = [](const std::optional<PageCount>& pages) {
            return pages ? std::optional<std::uint64_t>(pages->value) : std::nullopt;
        };
        lines += fmt::format("{:.3f},{:.3f},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", sample.time,
                             sample.elapsed, process.pid, process.parent, quoted_csv(process.command),
                             figures.resident_bytes, figures.shared_bytes, figures.copied.value, figures.copied.bytes(),
                             or_empty(figures.known_by_child()), or_empty(figures.known_by_parent()),
                             figures.copied_by_unknown.value, figures.new_bytes, figures.swapped_bytes,
                             or_empty(count_of(figures.compared)), or_empty(figures.changed_bytes),
                             or_empty(count_of(figures.identical)), or_empty(figures.amplification()));
    }
    return lines;
}

std::string openmetrics_of(const FamilySample& sample, const meter::Outlook& outlook, const WatchCost& cost) {
    Exposition all;
    all.per_process("vmcow_resident_bytes", "Memory of the process that is in memory, shared or not.", sample,
                    [](const PageFigures& figures) { return known(figures.resident_bytes); });
    all.per_process("vmcow_shared_bytes", "Memory that is still shared with the parent.", sample,
                    [](const PageFigures& figures) { return known(figures.shared_bytes); });
    all.per_process("vmcow_copied_bytes", "Memory that was shared and has been copied by a write of either side.",
                    sample, [](const PageFigures& figures) { return known(figures.copied.bytes()); });
    all.per_process("vmcow_copied_by_parent_bytes", "Of the copied memory, what the parent's writes have copied.",
                    sample, [](const PageFigures& figures) {
                        const auto pages = figures.known_by_parent();
                        return pages ? known(*pages * kPageBytes) : std::nullopt;
                    });
    all.per_process("vmcow_new_bytes", "Memory allocated since the fork.", sample,
                    [](const PageFigures& figures) { return known(figures.new_bytes); });
    all.per_process("vmcow_swapped_bytes", "Memory that is swapped out.", sample,
                    [](const PageFigures& figures) { return known(figures.swapped_bytes); });
    all.per_process("vmcow_changed_bytes", "Bytes of the copied memory that differ from what was copied.", sample,
                    [](const PageFigures& figures) { return figures.changed_bytes; });
    all.per_process("vmcow_identical_bytes", "Copied memory in pages in which nothing differs.", sample,
                    [](const PageFigures& figures) {
                        return figures.identical ? known(figures.identical->bytes()) : std::nullopt;
                    });
    all.single("vmcow_copied_bytes_per_second", "How fast memory is being copied.", outlook.copied_bytes_per_second);
    all.single("vmcow_limit_bytes", "The limit that the forecast is for.", outlook.limit_bytes);
    all.single("vmcow_limit_left_seconds", "Time until the limit is reached.", outlook.seconds_left);
    all.single("vmcow_scan_seconds", "Time spent looking at pages so far.", std::optional(cost.scans.seconds));
    return all.text();
}

std::string json_of(const WatchReport& report) {
    Json document;
    document["kind"] = "watch";
    document["command"] = report.command;
    document["interval_seconds"] = report.interval_seconds;
    document["method"] = report.method;
    Json samples = Json::array();
    for (const FamilySample& sample : report.samples) {
        for (const ProcessSample& process : sample.processes) {
            samples.push_back(process_object(sample, process));
        }
    }
    document["samples"] = std::move(samples);
    Json heat = Json::array();
    for (const meter::HeatMap::Range& range : report.heat) {
        heat.push_back({{"pid", range.pid},
                        {"start", range.start},
                        {"end", range.end},
                        {"bucket_bytes", range.bucket_bytes},
                        {"times", range.times},
                        {"copied_pages", range.copied_pages}});
    }
    if (report.with_functions) {
        document["functions"] = report.functions ? functions_array(*report.functions) : Json();
    }
    document["heat"] = std::move(heat);
    if (report.what_if) {
        document["what_if"] = what_if_json(*report.what_if);
        document["best_block_bytes"] = best_block_json(*report.what_if);
    }
    const meter::Outlook& outlook = report.outlook;
    document["forecast"] = {{"limit_bytes", or_null(outlook.limit_bytes)},
                            {"limit_source", outlook.limit_source.empty() ? Json() : Json(outlook.limit_source)},
                            {"used_bytes", or_null(outlook.used_bytes)},
                            {"copied_bytes_per_second", or_null(outlook.copied_bytes_per_second)},
                            {"new_bytes_per_second", or_null(outlook.new_bytes_per_second)},
                            {"copyable_bytes", outlook.copyable_bytes},
                            {"seconds_left", or_null(outlook.seconds_left)}};
    document["cost"] = {{"scans", report.cost.scans.scans},
                        {"quiet_scans", report.cost.scans.quiet_scans},
                        {"guided_scans", report.cost.scans.guided_scans},
                        {"scan_seconds", report.cost.scans.seconds},
                        {"longest_scan_seconds", report.cost.scans.longest_seconds},
                        {"share_of_watcher", or_null(report.cost.share_of_watcher)},
                        {"share_of_target", or_null(report.cost.share_of_target)},
                        {"memory_bytes", report.cost.memory_bytes}};
    document["notes"] = report.notes;
    return dump(document, 1);
}

}  // namespace vmcow::cli
